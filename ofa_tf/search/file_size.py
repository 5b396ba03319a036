"""The size of a `.tflite` file, by a rule that adds up over blocks as MACs do, so that a search can limit it."""

from collections.abc import Iterator

from ofa_tf.blocks import Block
from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.errors import ExportError
from ofa_tf.precision import get_precision
from ofa_tf.space import SearchSpace


def size_costs(space: SearchSpace, n_classes: int, precision: str) -> ArchCosts:
    """Predicted bytes of the `.tflite` file of every arch of a space.

    Args:
        space: the space.
        n_classes: outputs of the classifier.
        precision: one that there is a rule for: "int8", "fp16" or "fp32".

    Raises:
        ExportError: another one.
    """
    kind = get_precision(precision)
    rule = kind.size
    if rule is None:
        raise ExportError(f"There is no rule for the size of {precision} files.")

    def block_bytes(block: Block) -> int:
        return sum(
            kind.weight_bytes * weights + rule.per_channel * channels + rule.per_layer
            for weights, channels in _layers(block)
        )

    return arch_costs(space, block_bytes, n_classes)


def _layers(block: Block) -> Iterator[tuple[int, int]]:
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
