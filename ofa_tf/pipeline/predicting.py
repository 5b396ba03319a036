"""The trained supernet, and the accuracy predictor of a workdir."""

from ofa_tf.accuracy.evaluate import SubnetEvaluator
from ofa_tf.accuracy.fit import collect_pairs, fit_predictor
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.errors import DataError, FormatError, WorkdirError
from ofa_tf.project import Project
from ofa_tf.supernet import Supernet
from ofa_tf.training.recipe import STAGES
from ofa_tf.training.trainer import load_stage


def load_supernet(project: Project) -> Supernet:
    """The trained supernet.

    Raises:
        WorkdirError: a stage is missing.
    """
    config, ledger = project.config, project.workdir.ledger()
    for stage in STAGES:
        if not ledger.done(stage):
            raise WorkdirError(
                f"Stage `{stage}` of {project.workdir} is not trained: run `ofa-tf train --stage width`."
            )
    supernet = Supernet(config.space, len(config.classes), seed=config.seed)
    load_stage(project.workdir, STAGES[-1], supernet)
    return supernet


def make_evaluator(project: Project, supernet: Supernet | None = None, traced: bool = True) -> SubnetEvaluator:
    """An evaluator of the trained supernet's subnets; `supernet` if there is one already, `traced` as it takes it."""
    images = project.data.train
    return SubnetEvaluator(supernet or load_supernet(project), project.config.preprocessing, images, traced)


def fit(project: Project, n_archs: int = 100, evaluator: SubnetEvaluator | None = None) -> FittedPredictor:
    """Evaluates subnets on held-out training images and fits the accuracy predictor to them.

    Args:
        project: the workdir.
        n_archs: subnets in all; those evaluated in earlier calls count.
        evaluator: of the trained supernet, if there is one already.

    Raises:
        DataError: there are no images, or they have no labels.
    """
    workdir, config = project.workdir, project.config
    require_labels(project)
    evaluator = evaluator or make_evaluator(project)
    with workdir.lock():
        pairs = collect_pairs(evaluator, project.data.tune, n_archs, config.seed, workdir.accuracy, project.progress)
        fitted = FittedPredictor(*fit_predictor(config.space, pairs, config.seed))
        fitted.save(workdir.accuracy)
    return fitted


def require_labels(project: Project) -> None:
    if not project.data.tune.labelled:
        raise DataError(
            f"The images in {project.config.data} have no labels, without which there are no accuracies to learn from: "
            "sort them into folders named after their classes."
        )


def load_predictor(project: Project) -> FittedPredictor | None:
    """The workdir's predictor, or None if none was fitted or imported yet.

    Raises:
        FormatError: its files are damaged.
    """
    try:
        return FittedPredictor.load(project.workdir.accuracy, project.config.space)
    except FormatError as error:
        raise FormatError(f"{error} Fit it again: `ofa-tf predictor fit`.") from None
