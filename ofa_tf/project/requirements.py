"""Checks of what a step needs from a workdir, which refuse it in one sentence before any work is wasted."""

from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.errors import DataError, WorkdirError
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.training.recipe import STAGES


def require_labels(project: OpenedWorkdir) -> None:
    if not project.data.tune.labelled:
        raise DataError(
            f"The images in {project.config.data} have no labels, without which there are no accuracies to learn from: "
            "sort them into folders named after their classes."
        )


def require_trained(project: OpenedWorkdir) -> None:
    """Refuses a workdir that lacks a stage.

    Raises:
        WorkdirError: names the stage.
    """
    ledger = project.workdir.ledger()
    for stage in STAGES if ledger.imported else project.config.recipe.stages:
        if not ledger.done(stage):
            raise WorkdirError(
                f"Stage `{stage}` of {project.workdir} is not trained: run `ofa-tf train --stage width`."
            )


def require_useful(fitted: FittedPredictor) -> FittedPredictor:
    """Refuses a predictor that a search would be misled by.

    Raises:
        WorkdirError: it is no better than the mean of all subnets, though these differ.
    """
    if fitted.says_nothing:
        errors = fitted.errors
        raise WorkdirError(
            f"The accuracy predictor is off by {errors['rmse_points']:.2f} points on subnets that it has not seen, no "
            f"better than the mean of all ({errors['mean_rmse_points']:.2f}): fit it to more subnets than "
            f"{errors['pairs']:.0f} with `ofa-tf predictor fit --archs N`, or train the network for longer."
        )
    return fitted
