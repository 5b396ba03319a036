"""What a supernet asks of the layer of a block, whatever its kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from ofa_tf.kinds import Block
from ofa_tf.layers.shapes import leading
from ofa_tf.ops import Op


@dataclass(frozen=True)
class Choices:
    """What a supernet chooses from at one block, and how it computes.

    Args:
        kernels: kernel sizes, ascending.
        expands: expand ratios, ascending; `(1,)` where the block is not elastic.
        epsilon: epsilon of the batch norms.
        formulation: "sliced" or "masked".
        dtype: a dtype policy of Keras.
    """

    kernels: tuple[int, ...]
    expands: tuple[int, ...]
    epsilon: float = 1e-5
    formulation: str = "sliced"
    dtype: Any = "float32"


@dataclass(frozen=True)
class OpWeights:
    """The variables of one operation of a block, of which each choice uses a part.

    Args:
        kernel: the weights.
        bias: the bias, or None.
        norm: the batch norm, or None.
        transforms: of an elastic kernel size, the matrix that makes the kernel of each smaller size.
        cut: the kernel of the plain operation; None for the first channels, in the shape that the operation has.
    """

    kernel: Any
    bias: Any = None
    norm: Any = None
    transforms: Mapping[int, Any] = field(default_factory=dict)
    cut: Callable[[Op], tf.Tensor] | None = None

    def active(self, op: Op) -> list[tf.Tensor]:
        """Kernel and, if it has one, bias of the plain layer of an operation that was chosen."""
        shape = op.weight_shape
        if self.cut is not None:
            kernel = self.cut(op)
        else:  # a pointwise convolution may be held as a matrix
            kernel = tf.reshape(leading(self.kernel, *shape[-len(self.kernel.shape) :]), shape)
        return [kernel] if self.bias is None else [kernel, leading(self.bias, op.out_channels)]


class BlockLayer(keras.layers.Layer):
    """The layer of one block in a supernet.

    Every one can be called with `kernel_index` and `expand_index`, which point into the choices, by default the last,
    and with `training` and `momentum`, as `ElasticBatchNorm`. One that is not elastic does not look at the indices.
    """

    @classmethod
    def of(cls, block: Block, choices: Choices) -> "BlockLayer":
        """The layer of a block of the largest subnet."""
        raise NotImplementedError

    def op_weights(self) -> dict[str, OpWeights]:
        """The variables of every operation that has some, by its suffix."""
        return {}

    def active_weights(self, block: Block) -> dict[str, list[tf.Tensor]]:
        """Weights of the plain layers that compute the block as it was chosen, by their names."""
        weights: dict[str, list[tf.Tensor]] = {}
        variables = self.op_weights()
        for op in block.ops:
            if op.n_weights:
                weights[block.layer_name(op)] = variables[op.suffix].active(op)
            if op.norm:
                weights[block.layer_name(op, "bn")] = list(variables[op.suffix].norm.active(op.out_channels))
        return weights

    def sort_channels(self) -> None:
        """Puts the most important middle channels first, where their number is elastic; else nothing."""
