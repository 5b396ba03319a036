"""The size of a `.tflite` file, by a rule that adds up over blocks as MACs do, so that a search can limit it."""

from dataclasses import dataclass

from ofa_tf.blocks import Block
from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.space import SearchSpace


@dataclass(frozen=True)
class SizeRule:
    """Bytes of a file.

    Args:
        per_weight: of one weight.
        per_channel: of one output channel of a layer: its bias and, in int8, a scale (4 bytes) and a zero point (8)
            for the weights and for the bias, as in `QuantizationParameters` of TFLite's schema.
        per_layer: names, shapes and operators of one convolution or dense layer, whatever it computes.
    """

    per_weight: int
    per_channel: int
    per_layer: int


# The bytes per layer are fitted to 11 converted subnets of the registered spaces, 80 kB to 21 MB; the rule was within
# 0.7 % of each int8 file and 0.2 % of the others.
RULES = {"int8": SizeRule(1, 28, 927), "fp16": SizeRule(2, 2, 1327), "fp32": SizeRule(4, 4, 839)}


def size_costs(space: SearchSpace, n_classes: int, precision: str) -> ArchCosts:
    """Predicted bytes of the `.tflite` file of every arch of a space.

    Args:
        space: the space.
        n_classes: outputs of the classifier.
        precision: "int8", "fp16" or "fp32".
    """
    rule = RULES[precision]

    def block_bytes(block: Block) -> int:
        return sum(
            rule.per_weight * op.n_weights + rule.per_channel * op.out_channels + rule.per_layer
            for op in block.ops
            if op.n_weights
        )

    return arch_costs(space, block_bytes, n_classes)
