"""The trained supernet of a workdir, and what evaluates its subnets."""

from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.requirements import require_trained
from ofa_tf.supernet import Supernet
from ofa_tf.training.evaluation import SubnetEvaluator
from ofa_tf.training.recipe import STAGES
from ofa_tf.training.trainer import load_stage


def load_supernet(project: OpenedWorkdir) -> Supernet:
    """The trained supernet.

    Raises:
        WorkdirError: a stage is missing.
    """
    config = project.config
    require_trained(project)
    supernet = Supernet(config.space, config.n_classes, seed=config.seed)
    load_stage(project.workdir, STAGES[-1], supernet)
    return supernet


def make_evaluator(project: OpenedWorkdir, supernet: Supernet | None = None, traced: bool = True) -> SubnetEvaluator:
    """An evaluator of the trained supernet's subnets. Pass `supernet` if it is loaded; `traced` is the evaluator's."""
    images = project.data.train
    net = supernet or load_supernet(project)
    return SubnetEvaluator(net, project.config.preprocessing, images, frozen=True, traced=traced)
