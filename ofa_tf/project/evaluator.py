"""The trained supernet of a workdir, and what evaluates its subnets."""

import keras

from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.requirements import require_trained
from ofa_tf.space import Arch
from ofa_tf.subnet import extract
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
    """An evaluator of the trained supernet's subnets. Pass `supernet` if it is loaded; the rest is the evaluator's."""
    images = project.data.train
    net = supernet or load_supernet(project)
    return SubnetEvaluator(net, project.config.preprocessing, images, frozen=True, traced=traced)


def plain_subnet(project: OpenedWorkdir, arch: Arch) -> keras.Model:
    """A plain Keras model of one arch, its batch norm statistics recalibrated on training images.

    Raises:
        SpaceError: an arch of another space.
    """
    arch = project.config.space.arch_from_document(arch.to_document())
    evaluator = make_evaluator(project, traced=False)
    evaluator.calibrate(arch)
    return extract(evaluator.supernet, arch)
