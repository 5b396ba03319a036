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
        in_channels: channels of the input, ascending; empty where there is no choice: those of the block.
        out_channels: channels of the output, likewise.
    """

    kernels: tuple[int, ...]
    expands: tuple[float, ...]
    epsilon: float = 1e-5
    formulation: str = "sliced"
    dtype: Any = "float32"
    in_channels: tuple[int, ...] = ()
    out_channels: tuple[int, ...] = ()

    def arguments(self, block: Block) -> dict[str, Any]:
        """Arguments that the layers of convolutional blocks have in common."""
        return {
            "in_channels": self.in_channels or block.in_channels,
            "out_channels": self.out_channels or block.out_channels,
            "activation": block.activation,
            "padding": block.padding,
            "epsilon": self.epsilon,
            "formulation": self.formulation,
            "name": block.name,
            "dtype": self.dtype,
        }


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

    Every one can be called with `kernel_index`, `expand_index`, `in_index` and `out_index`, which point into the
    choices of kernel sizes, expand ratios and channels of the input and the output, by default the last, and with
    `training` and `momentum`, as `ElasticBatchNorm`. Where there is no choice the index is not looked at.
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
