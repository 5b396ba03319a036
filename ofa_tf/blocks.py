"""The one walk over an arch: from (space, arch) to the list of its blocks.

MACs, parameters, latency table keys and the plain Keras subnet all come from this list.
"""

from collections.abc import Sequence

from ofa_tf.kinds import Block
from ofa_tf.space import Arch, SearchSpace


def divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is at least 90 % of `value` (the MobileNet rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def mid_channels(in_channels: int, expand: int) -> int:
    """Middle channels of an inverted residual block."""
    return divisible(in_channels * expand)


def se_channels(mid: int) -> int:
    """Channels of the squeeze in squeeze-and-excite: a quarter of the middle."""
    return divisible(mid // 4)


def walk(space: SearchSpace, arch: Arch, n_classes: int) -> tuple[Block, ...]:
    """The blocks of an arch, from stem to classifier.

    Args:
        space: the space of the arch.
        arch: one of its points.
        n_classes: number of outputs of the classifier.

    Examples:
        >>> space = ofa.get_space("tiny")
        >>> blocks = ofa.walk(space, space.smallest(), n_classes=10)
        >>> [block.name for block in blocks][:3]
        ['stem', 'first', 'stage1_block1']
        >>> sum(block.n_macs for block in blocks)
        637504
    """
    blocks: list[Block] = []
    size, channels = arch.resolution, 3

    def add(kind: str, out_channels: int, **rest) -> None:
        nonlocal size, channels
        blocks.append(
            Block(
                kind=kind, in_size=size, in_channels=channels, out_channels=out_channels, padding=space.padding, **rest
            )
        )
        size, channels = blocks[-1].out_size, out_channels

    def width(base: int) -> int:
        return divisible(base * space.width_mult)

    add(
        "conv",
        width(space.stem_width),
        name="stem",
        kernel=3,
        stride=space.stem_stride,
        activation=space.stem_activation,
    )
    first = width(space.first_width)
    add(
        "mbconv", first, name="first", mid_channels=channels, kernel=3, activation=space.first_activation,
        skip=space.first_skip and channels == first,
    )  # fmt: skip
    for slot, (index, position) in enumerate(zip(space.block_stages, space.block_positions, strict=True)):
        if position >= arch.depths[index]:
            continue
        stage = space.stages[index]
        out, stride = width(stage.width), stage.stride if position == 0 else 1
        mid = mid_channels(channels, arch.expands[slot])
        add(
            stage.kind, out, name=f"stage{index + 1}_block{position + 1}", mid_channels=mid, kernel=arch.kernels[slot],
            stride=stride, activation=stage.activation, se_channels=se_channels(mid) if stage.se else 0,
            skip=stride == 1 and channels == out, slot=slot,
        )  # fmt: skip
    add("conv", width(space.head_width), name="head", activation=space.head_activation)
    add("pool", channels, name="pool")
    if space.feature_width:
        add("linear", width(space.feature_width), name="feature", activation=space.head_activation)
    add("linear", n_classes, name="classifier", bias=True)
    return tuple(blocks)


def count_macs(blocks: Sequence[Block]) -> int:
    """Multiply-accumulates of a network, for one image."""
    return sum(block.n_macs for block in blocks)


def count_params(blocks: Sequence[Block]) -> int:
    """Trainable parameters of a network."""
    return sum(block.n_params for block in blocks)
