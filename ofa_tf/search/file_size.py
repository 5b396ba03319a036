"""The size of a subnet's `.tflite` file, by a rule: it adds up over blocks, like MACs, so that a search can limit it.

A file holds every weight, and for every output channel of a layer its bias and, in int8, scales and zero points of both
(`QuantizationParameters` in TFLite's schema). Names, shapes and operators take about the same room for every layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ofa_tf.blocks import ArchCosts, Block, arch_costs
from ofa_tf.space import SearchSpace


@dataclass(frozen=True)
class SizeRule:
    """Bytes of a file.

    Args:
        per_weight: of one weight.
        per_channel: of one output channel of a layer, beyond its weights.
        per_layer: of one convolution or dense layer, beyond weights and channels.
        per_file: of the rest.
    """

    per_weight: float
    per_channel: float
    per_layer: float
    per_file: float

    def block_bytes(self, block: Block) -> float:
        """The bytes of one block."""
        return sum(
            self.per_weight * weights + self.per_channel * channels + self.per_layer
            for weights, channels in layer_sizes(block)
        )


RULES = {
    "int8": SizeRule(1, 28, 1735, 0),
    "fp16": SizeRule(2, 2, 606, 2458),
    "fp32": SizeRule(4, 4, 423, 2163),
}


def layer_sizes(block: Block) -> Iterator[tuple[int, int]]:
    """Weights and output channels of each layer of a block; batch norm is folded into them."""
    if block.kind in ("conv", "linear"):
        yield block.kernel**2 * block.in_channels * block.out_channels, block.out_channels
    elif block.kind == "mbconv":
        mid, squeeze = block.mid_channels, block.se_channels
        if block.expanded:
            yield block.in_channels * mid, mid
        yield block.kernel**2 * mid, mid
        if squeeze:
            yield mid * squeeze, squeeze
            yield mid * squeeze, mid
        yield mid * block.out_channels, block.out_channels


def size_costs(space: SearchSpace, n_classes: int, precision: str) -> ArchCosts:
    """Predicted bytes of the `.tflite` file of every arch of a space.

    Args:
        space: the space.
        n_classes: outputs of the classifier.
        precision: "int8", "fp16" or "fp32".
    """
    rule = RULES[precision]
    raw = arch_costs(space, rule.block_bytes, n_classes)
    return ArchCosts(space, raw.fixed + rule.per_file, raw.elastic)
