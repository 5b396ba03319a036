"""The accuracy predictor of a workdir: `ofa-tf predictor`."""

from typing import TYPE_CHECKING

from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.errors import FormatError, WorkdirError
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.quiet import load_tensorflow

if TYPE_CHECKING:
    from ofa_tf.training.evaluation import SubnetEvaluator

INT8_ARCHS = 24


def fit(
    project: OpenedWorkdir,
    n_archs: int = 100,
    evaluator: "SubnetEvaluator | None" = None,
    target: str = "float",
    n_int8: int = INT8_ARCHS,
) -> FittedPredictor:
    """Evaluates subnets on held-out training images and fits the accuracy predictor to them.

    Args:
        project: the workdir.
        n_archs: subnets in all; those evaluated in earlier calls count.
        evaluator: of the trained supernet, if there is one already.
        target: "float", or "int8" to predict the accuracies of int8 files.
        n_int8: of these subnets, how many are converted to int8 files for that; likewise.

    Raises:
        DataError: there are no images, or they have no labels.
        FormatError: a journal of earlier results is damaged.
        SpaceError: it is of another space.
        WorkdirError: a stage is not trained.
    """
    load_tensorflow()
    from ofa_tf.project.predictor_fit import fit_to_subnets

    return fit_to_subnets(project, n_archs, evaluator, target, n_int8)


def show(project: OpenedWorkdir) -> FittedPredictor:
    """The workdir's predictor.

    Raises:
        WorkdirError: none was fitted or imported yet.
        FormatError: its files are damaged.
    """
    fitted = load_predictor(project)
    if fitted is None:
        raise WorkdirError(f"{project.workdir} has no predictor yet: run `ofa-tf predictor fit`.")
    return fitted


def load_predictor(project: OpenedWorkdir) -> FittedPredictor | None:
    """The workdir's predictor, or None if none was fitted or imported yet.

    Raises:
        FormatError: its files are damaged.
    """
    try:
        return FittedPredictor.load(project.workdir.accuracy, project.config.space)
    except FormatError as error:
        raise FormatError(f"{error} Fit it again: `ofa-tf predictor fit`.") from None
