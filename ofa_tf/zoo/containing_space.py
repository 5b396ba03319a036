"""A space made for one network: it is the largest subnet, and the choices are parts of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ofa_tf.space import SearchSpace, Stage
from ofa_tf.stage import DEFAULT_KIND

SMALLEST_RESOLUTION, RESOLUTION_STEP = 96, 16
EXPANDS = (0.5, 2 / 3, 1)  # shares of the network's expand ratio to choose from; 3, 4 and 6 of a ratio of 6
SMALLEST_KERNEL = 3


@dataclass(frozen=True)
class Blocks:
    """Equal blocks that follow each other in a network; only the first has the stride.

    Args:
        kernel: kernel size.
        expand: expand ratio.
        channels: output channels.
        depth: number of blocks.
        stride: stride of the first.
        activation: their activation.
        se: whether they have squeeze-and-excite.
    """

    kernel: int
    expand: float
    channels: int
    depth: int
    stride: int
    activation: str = "relu6"
    se: bool = False


def containing_space(name: str, blocks: Sequence[Blocks], resolution: int, **ends: Any) -> SearchSpace:
    """The space whose largest subnet is a network, and whose other subnets are parts of it.

    Args:
        name: name of the space.
        blocks: the blocks of the network after the first one.
        resolution: the highest to choose from, in pixels.
        ends: the other fields of `SearchSpace`.
    """
    stages = tuple(
        Stage(
            channels=group.channels,
            stride=group.stride,
            depths=tuple(range(math.ceil(group.depth / 2), group.depth + 1)),
            activation=group.activation,
            se=group.se,
            kind=DEFAULT_KIND,
            kernels=tuple(range(min(SMALLEST_KERNEL, group.kernel), group.kernel + 1, 2)),
            expands=_expands(group.expand),
        )
        for group in blocks
    )
    kernels = max((stage.kernels for stage in stages if stage.kernels), key=len)
    expands = max((stage.expands for stage in stages if stage.expands), key=len)
    return SearchSpace(
        name=name, stages=stages, kernels=kernels, expands=expands, resolutions=resolutions_up_to(resolution), **ends
    )


def resolutions_up_to(highest: int) -> tuple[int, ...]:
    """The image sizes to choose from, in pixels, where `highest` is the largest."""
    return (*range(min(SMALLEST_RESOLUTION, highest), highest, RESOLUTION_STEP), highest)


def _expands(expand: float) -> tuple[float, ...]:
    if expand == 1:
        return (1,)
    chosen = sorted({round(max(1.0, expand * share), 2) for share in EXPANDS})
    return tuple(int(ratio) if ratio == int(ratio) else ratio for ratio in (*chosen[:-1], expand))
