"""The size of a `.tflite` file, by a rule that adds up over blocks as MACs do, so that a search can limit it."""

from ofa_tf.blocks import Block
from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.errors import ExportError
from ofa_tf.precision import get_precision
from ofa_tf.space import SearchSpace


def size_costs(space: SearchSpace, n_classes: int, precision: str) -> ArchCosts:
    """Predicted bytes of the `.tflite` file of every arch of a space.

    Args:
        space: the space.
        n_classes: number of outputs of the classifier.
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
            kind.weight_bytes * op.n_weights + rule.per_channel * op.out_channels + rule.per_layer
            for op in block.ops
            if op.n_weights
        )

    return arch_costs(space, block_bytes, n_classes)
