"""What a block is, and the one expansion: the kinds of blocks, each with the operations that it consists of.

MACs, parameters, file size, the plain subnet and its twin for quantisation-aware training, the latency model of the
Edge TPU and the import of published weights are loops over `Block.ops`. A new kind is a row of `KINDS` and a layer in
`layers.BLOCK_LAYERS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any

from ofa_tf.channels import bottleneck_channels, mid_channels
from ofa_tf.ops import INPUT, Expansion, Op

# The fields of a block that a table's key may name beside its shapes, and the words for them.
SIGNATURE = {
    "mid_channels": "mid",
    "kernel": "k",
    "stride": "s",
    "activation": "act",
    "se_channels": "se",
    "skip": "skip",
    "bias": "bias",
}


@dataclass(frozen=True)
class Block:
    """What one block computes, in full.

    Args:
        name: unique within a network, such as `stage2_block1`.
        kind: a row of `KINDS`: "conv" (convolution, batch norm, activation), "mbconv" (inverted residual),
            "bottleneck" (of a ResNet-D), "residual_conv" (a "conv" with a skip where it keeps the shape), "conv_pool"
            (a "conv" and max pooling), "pool" (global average) or "linear" (dense, activation).
        in_size: height and width of the input, in pixels.
        in_channels: channels of the input.
        out_channels: channels of the output.
        mid_channels: channels between expansion and projection of an mbconv, or reduction and projection of a
            bottleneck; `in_channels` for an mbconv without an expansion.
        kernel: kernel size.
        stride: stride.
        activation: an activation of the space, or "none".
        se_channels: channels of the squeeze; 0 without squeeze-and-excite.
        skip: whether the input is added to the output.
        bias: whether a linear has one.
        padding: the space's padding.
        keeps_expansion: whether an mbconv has an expansion convolution even where it does not make it wider, because
            its stage offers larger expand ratios, too.
        slot: block slot of the space, or -1 for a block that is not elastic.

    Examples:
        >>> stem, *_ = ofa.walk(ofa.get_space("tiny"), ofa.get_space("tiny").largest(), n_classes=10)
        >>> stem.key
        'conv in=32x32x3 out=16x16x16 k=3 s=2 act=relu6'
        >>> [op.kind for op in stem.ops]
        ['conv']
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
    keeps_expansion: bool = False
    slot: int = -1

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """Its operations in the order in which they run; the output of the last one is the block's."""
        return _expanded(KINDS[self.kind].expand, _WORK(self))

    @property
    def out_size(self) -> int:
        """Height and width of the output; the same for both paddings, since kernels are odd."""
        return self.ops[-1].out_size

    @property
    def expanded(self) -> bool:
        """Whether an mbconv has an expansion convolution."""
        return self.mid_channels != self.in_channels or self.keeps_expansion

    @property
    def takes_images(self) -> bool:
        """Whether its input is an image, of whatever size, and not a vector."""
        return all(op.takes_images for op in self.ops if INPUT in op.inputs)

    @property
    def n_macs(self) -> int:
        """Multiply-accumulates of convolutions and dense layers, for one image."""
        return sum(op.n_macs for op in self.ops)

    @property
    def n_params(self) -> int:
        """Trainable parameters: weights, biases, scales and offsets of batch norm."""
        return sum(op.n_params for op in self.ops)

    @property
    def key(self) -> str:
        """Key in a latency table: the whole signature, and nothing about the space."""
        out_size = self.out_size
        words = [
            self.kind,
            f"in={self.in_size}x{self.in_size}x{self.in_channels}",
            f"out={out_size}x{out_size}x{self.out_channels}",
        ]
        kind = KINDS[self.kind]
        for name in kind.signature:
            value = getattr(self, name)
            words.append(f"{SIGNATURE[name]}={value if isinstance(value, str) else int(value)}")
        if "stride" in kind.signature and self.stride != 1 and self.padding != "same":
            words.append(f"pad={self.padding}")
        if self.keeps_expansion and self.mid_channels == self.in_channels:
            words.append("expand=1")
        if kind.version > 1:
            words.append(f"v={kind.version}")
        return " ".join(words)

    def layer_name(self, op: Op, part: str = "") -> str:
        """Name of the plain layer of an operation, or of what comes with it: "pad", "bn", "act"."""
        return "_".join(word for word in (self.name, op.suffix, part) if word)

    def expansion(self) -> Expansion:
        """The beginning of an expansion: no operation yet."""
        return Expansion(self.in_size, self.in_channels, self.padding)


Expand = Callable[[Block], Sequence[Op]]
_WORK = attrgetter(*(field.name for field in fields(Block) if field.name not in ("name", "slot")))


@lru_cache(1 << 13)  # a space has a few thousand different blocks, and every count walks them all
def _expanded(expand: Expand, work: tuple) -> tuple[Op, ...]:
    return tuple(expand(Block("", *work)))


@dataclass(frozen=True)
class Kind:
    """A kind of block.

    Args:
        expand: the operations of a block of this kind; its name and slot are not looked at.
        signature: what its work depends on beside shapes and padding: keys of `SIGNATURE`. Tables that people have name
            blocks by it, so it stays what it is.
        version: raised when the same work is done by other layers, which take another time.
        elastic: whether the stages of a space can be made of it.
        mid: its middle channels, from the channels that it reads and writes and its expand ratio; None without any.
        squeezes: whether it can have squeeze-and-excite.
        expands: whether its middle is the wider part, so that its expand ratios are at least 1.
        elastic_kernel: whether there can be a choice of kernel sizes; else a stage has one.
    """

    expand: Expand
    signature: tuple[str, ...] = tuple(SIGNATURE)
    version: int = 1
    elastic: bool = False
    mid: Callable[[int, int, float], int] | None = None
    squeezes: bool = False
    expands: bool = False
    elastic_kernel: bool = False

    def refuses(self, kernels: Sequence[int], expands: Sequence[float]) -> str:
        """What is wrong with the choices of a stage of this kind; empty where nothing is."""
        if self.mid is None and tuple(expands) != (1,):
            return f"its blocks have no middle, so `expands` (={list(expands)}) must be [1]."
        if self.expands and expands[0] < 1:
            return f"`expands` (={list(expands)}) must be at least 1."
        if len(kernels) > 1 and not self.elastic_kernel:
            return f"`kernels` (={list(kernels)}) must be one size, because its convolutions are not depthwise."
        return ""


def _conv(block: Block) -> list[Op]:
    made = block.expansion()
    made.conv("", block.out_channels, block.kernel, block.stride, norm=True, activation=block.activation)
    return made.ops


def _mbconv(block: Block) -> list[Op]:
    made = block.expansion()
    after: dict[str, Any] = {"norm": True, "activation": block.activation}
    if block.expanded:
        made.conv("expand", block.mid_channels, **after)
    filtered = made.depthwise("depthwise", block.kernel, block.stride, **after)
    if block.se_channels:
        made.mean("se_mean")
        made.conv("se_reduce", block.se_channels, bias=True, activation="relu")
        made.conv("se_expand", block.mid_channels, bias=True, activation="hard_sigmoid")
        made.multiply("se_scale", filtered)
    made.conv("project", block.out_channels, norm=True)
    if block.skip:
        made.add("add", INPUT)
    return made.ops


def _bottleneck(block: Block) -> list[Op]:
    """He et al., "Bag of tricks", CVPR 2019, figure 2: the stride is that of the middle, and of pooling on the skip."""
    made = block.expansion()
    after: dict[str, Any] = {"norm": True, "activation": block.activation}
    if not block.skip:
        if block.stride > 1:
            made.average_pool("downsample_pool", block.stride)
        made.conv("downsample", block.out_channels, norm=True)
    made.restart()
    made.conv("reduce", block.mid_channels, **after)
    made.conv("conv", block.mid_channels, block.kernel, block.stride, **after)
    made.conv("project", block.out_channels, norm=True)
    made.add("add", INPUT if block.skip else "downsample", activation=block.activation)
    return made.ops


def _residual_conv(block: Block) -> list[Op]:
    made = block.expansion()
    made.conv("conv", block.out_channels, block.kernel, block.stride, norm=True, activation=block.activation)
    if block.skip:
        made.add("add", INPUT)
    return made.ops


def _conv_pool(block: Block) -> list[Op]:
    made = block.expansion()
    made.conv("conv", block.out_channels, block.kernel, norm=True, activation=block.activation)
    made.max_pool("max_pool", 3, block.stride)
    return made.ops


def _pool(block: Block) -> list[Op]:
    made = block.expansion()
    made.mean("mean")  # TFLite's int8 kernel for a mean that leaves no image is several times slower
    made.flatten("")
    return made.ops


def _linear(block: Block) -> list[Op]:
    made = block.expansion()
    made.dense("", block.out_channels, bias=block.bias, activation=block.activation)
    return made.ops


KINDS: dict[str, Kind] = {
    "conv": Kind(_conv, ("kernel", "stride", "activation")),
    "mbconv": Kind(
        _mbconv,
        ("mid_channels", "kernel", "stride", "activation", "se_channels", "skip"),
        elastic=True,
        mid=lambda in_channels, out_channels, expand: mid_channels(in_channels, expand),
        squeezes=True,
        expands=True,
        elastic_kernel=True,
    ),
    "bottleneck": Kind(
        _bottleneck,
        ("mid_channels", "kernel", "stride", "activation", "skip"),
        elastic=True,
        mid=lambda in_channels, out_channels, expand: bottleneck_channels(out_channels, expand),
    ),
    "residual_conv": Kind(_residual_conv, ("kernel", "stride", "activation", "skip"), elastic=True),
    "conv_pool": Kind(_conv_pool, ("kernel", "stride", "activation"), elastic=True),
    "pool": Kind(_pool, (), version=2),
    "linear": Kind(_linear, ("activation", "bias")),
}
