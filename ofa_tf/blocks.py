"""The one walk over an arch: from (space, arch) to the list of its blocks.

MACs, parameters, latency table keys and the plain Keras subnet all come from this list.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Block:
    """What one block computes, in full.

    Args:
        name: unique within a network, such as `stage2_block1`.
        kind: "conv" (convolution, batch norm, activation), "mbconv" (inverted residual), "pool" (global average) or
            "linear" (dense, activation).
        in_size: height and width of the input, in pixels.
        in_channels: channels of the input.
        out_channels: channels of the output.
        mid_channels: channels between expansion and projection of an mbconv; equal to `in_channels` for none.
        kernel: kernel size.
        stride: stride.
        activation: an activation of the space, or "none".
        se_channels: channels of the squeeze, or 0 for no squeeze-and-excite.
        skip: whether the input is added to the output.
        bias: whether a linear has one.
        padding: the space's padding.
        slot: block slot of the space, or -1 for a block that is not elastic.
    """

    name: str
    kind: str
    in_size: int
    in_channels: int
    out_channels: int
    mid_channels: int = 0
    kernel: int = 1
    stride: int = 1
    activation: str = "none"
    se_channels: int = 0
    skip: bool = False
    bias: bool = False
    padding: str = "same"
    slot: int = -1

    @property
    def out_size(self) -> int:
        """Height and width of the output; the same for both paddings, since kernels are odd."""
        return 1 if self.kind == "pool" else -(-self.in_size // self.stride)

    @property
    def expanded(self) -> bool:
        """Whether an mbconv has an expansion convolution."""
        return self.mid_channels != self.in_channels

    @property
    def n_macs(self) -> int:
        """Multiply-accumulates of convolutions and dense layers, for one image."""
        if self.kind in ("conv", "linear"):
            return self.out_size**2 * self.kernel**2 * self.in_channels * self.out_channels
        if self.kind == "pool":
            return 0
        mid = self.mid_channels
        expansion = self.in_size**2 * self.in_channels * mid if self.expanded else 0
        return (
            expansion
            + self.out_size**2 * self.kernel**2 * mid
            + 2 * mid * self.se_channels
            + self.out_size**2 * mid * self.out_channels
        )

    @property
    def n_params(self) -> int:
        """Trainable parameters: weights, biases, scales and offsets of batch norm."""
        if self.kind == "conv":
            return self.kernel**2 * self.in_channels * self.out_channels + 2 * self.out_channels
        if self.kind == "linear":
            return self.in_channels * self.out_channels + self.bias * self.out_channels
        if self.kind == "pool":
            return 0
        mid, squeeze = self.mid_channels, self.se_channels
        expansion = self.in_channels * mid + 2 * mid if self.expanded else 0
        excite = 2 * mid * squeeze + squeeze + mid if squeeze else 0
        return expansion + self.kernel**2 * mid + 2 * mid + excite + mid * self.out_channels + 2 * self.out_channels

    @property
    def key(self) -> str:
        """Key in a latency table: the whole signature, and nothing of the space it stands in."""
        shapes = f"in={_shape(self.in_size, self.in_channels)} out={_shape(self.out_size, self.out_channels)}"
        if self.kind == "pool":
            return f"pool {shapes}"
        if self.kind == "linear":
            return f"linear {shapes} act={self.activation} bias={int(self.bias)}"
        padding = "" if self.padding == "same" or self.stride == 1 else f" pad={self.padding}"
        geometry = f"k={self.kernel} s={self.stride} act={self.activation}"
        if self.kind == "conv":
            return f"conv {shapes} {geometry}{padding}"
        return (
            f"mbconv {shapes} mid={self.mid_channels} {geometry} se={self.se_channels} skip={int(self.skip)}{padding}"
        )


def _shape(size: int, channels: int) -> str:
    return f"{size}x{size}x{channels}"


def walk(space: SearchSpace, arch: Arch, n_classes: int) -> tuple[Block, ...]:
    """The blocks of an arch, from stem to classifier.

    Args:
        space: the space of the arch.
        arch: one of its points.
        n_classes: outputs of the classifier.
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
            "mbconv", out, name=f"stage{index + 1}_block{position + 1}", mid_channels=mid, kernel=arch.kernels[slot],
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
