"""Files for the Edge TPU's tests: of a network that runs on it as a whole, and of one that does not."""

import dataclasses

from ofa_tf.export.convert import BlockConverter
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import TINY

SWISH_SE = dataclasses.replace(
    TINY,
    name="swish_se",
    stem_activation="hard_swish",
    stages=tuple(dataclasses.replace(stage, se=True) for stage in TINY.stages),
)


def convert(space: SearchSpace, precision: str) -> bytes:
    """The file of the smallest subnet of a space, for twelve classes."""
    return BlockConverter(space, 12, precision).network(space.smallest())
