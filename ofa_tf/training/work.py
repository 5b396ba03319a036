"""How much a training computes: multiply-accumulates of its forward passes, for estimates of time and cost."""

from collections.abc import Iterable

import numpy as np

from ofa_tf.blocks import count_macs, walk
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.training.recipe import Recipe
from ofa_tf.training.sampling import draw

CLASSES = 10  # any number will do for an estimate
SAMPLES = 64


def passes(recipe: Recipe) -> float:
    """Passes over the training images in all phases together."""
    return sum(phase.epochs + phase.warmup_epochs for phase in recipe.phases)


def elastic_macs(space: SearchSpace, recipe: Recipe) -> float:
    """Multiply-accumulates of the forward passes of an elastic training, per training image."""
    largest = mean_macs(space, map(space.largest, space.resolutions))
    random = mean_macs(space, space.decode(draw(space, np.random.default_rng(0), SAMPLES, recipe.draws)))
    ends = mean_macs(space, [space.largest()]) + mean_macs(space, [space.smallest()])
    return sum(
        (phase.epochs + phase.warmup_epochs) * (ends + (phase.subnets - 2) * random if phase.distils else largest)
        for phase in recipe.phases
    )


def mean_macs(space: SearchSpace, archs: Iterable[Arch]) -> float:
    """The mean number of multiply-accumulates of subnets."""
    return float(np.mean([count_macs(walk(space, arch, CLASSES)) for arch in archs]))
