"""Blocks of one convolution: stem and head, and the stem of a ResNet."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from ofa_tf.kinds import Block
from ofa_tf.layers.batch_norm import ElasticBatchNorm
from ofa_tf.layers.block_layer import BlockLayer, Choices, OpWeights
from ofa_tf.layers.conv import ElasticConv2D
from ofa_tf.layers.pool import max_pool
from ofa_tf.layers.shapes import active_channels, as_choices, most, require_formulation


@keras.saving.register_keras_serializable(package="ofa_tf")
class ConvBlock(BlockLayer):
    """Convolution, batch norm, activation.

    Args:
        in_channels: channels of the input, or the choices of them, ascending.
        out_channels: channels of the output, or the choices of them, ascending.
        kernel_size: side of the window.
        strides: stride.
        activation: name of a Keras activation.
        padding: "same" or "symmetric".
        epsilon: epsilon of the batch norm.
        formulation: "sliced" or "masked", as of an `ElasticInvertedResidual`.

    Raises:
        ValueError: the formulation is unknown.

    Input shape: `(batch, height, width, in_channels)`; output `(batch, height / strides, width / strides,
    out_channels)`. `in_index` and `out_index` of the call point into the choices of channels; by default the largest.
    """

    suffix = ""  # of the convolution within its block

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int | Sequence[int],
        kernel_size: int = 1,
        strides: int = 1,
        activation: str = "relu6",
        padding: str = "same",
        epsilon: float = 1e-5,
        formulation: str = "sliced",
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_formulation(formulation)
        self.in_channels = as_choices(in_channels)
        self.out_channels = as_choices(out_channels)
        self.kernel_size = kernel_size
        self.strides = strides
        self.activation = activation
        self.padding = padding
        self.epsilon = epsilon
        self.formulation = formulation
        widest = most(in_channels), most(out_channels)
        self.conv = ElasticConv2D(*widest, kernel_size, strides, padding, name="conv", dtype=self.dtype_policy)
        self.bn = ElasticBatchNorm(widest[1], epsilon, name="bn", dtype=self.dtype_policy)

    @classmethod
    def of(cls, block: Block, choices: Choices) -> "ConvBlock":
        return cls(kernel_size=block.kernel, strides=block.stride, **choices.arguments(block))

    def build(self, input_shape=None):
        self.conv.build()
        self.bn.build()
        self.built = True

    def call(
        self, inputs, kernel_index=None, expand_index=None, in_index=None, out_index=None, training=False, momentum=None
    ):
        read = active_channels(self.formulation, self.in_channels, in_index)
        written = active_channels(self.formulation, self.out_channels, out_index)
        x = self.conv(inputs, active_channels=written.n, n=read.n)
        x = self.bn(x, n=written.n, training=training, momentum=written.momentum(momentum))
        return written.only(self.end(keras.activations.get(self.activation)(x), inputs))

    def end(self, x: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
        """What comes after the activation."""
        del inputs
        return x

    def op_weights(self) -> dict[str, OpWeights]:
        return {self.suffix: OpWeights(self.conv.kernel, norm=self.bn)}

    def get_config(self):
        return {
            **super().get_config(),
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "activation": self.activation,
            "padding": self.padding,
            "epsilon": self.epsilon,
            "formulation": self.formulation,
        }


@keras.saving.register_keras_serializable(package="ofa_tf")
class ResidualConv(ConvBlock):
    """Convolution, batch norm, activation, and the input added.

    Args:
        skip: whether the input is added; the others are those of `ConvBlock`.
    """

    suffix = "conv"

    def __init__(self, *args, skip: bool = True, **kwargs):
        super().__init__(*args, **kwargs)
        self.skip = skip

    @classmethod
    def of(cls, block: Block, choices: Choices) -> "ResidualConv":
        return cls(kernel_size=block.kernel, strides=block.stride, skip=block.skip, **choices.arguments(block))

    def end(self, x: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
        return x + inputs if self.skip else x

    def get_config(self):
        return {**super().get_config(), "skip": self.skip}


@keras.saving.register_keras_serializable(package="ofa_tf")
class ConvPool(ConvBlock):
    """Convolution, batch norm, activation, and the largest value of each 3x3 window.

    Args:
        pool_strides: stride of the windows; the others are those of `ConvBlock`.
    """

    suffix = "conv"

    def __init__(self, *args, pool_strides: int = 2, **kwargs):
        super().__init__(*args, **kwargs)
        self.pool_strides = pool_strides

    @classmethod
    def of(cls, block: Block, choices: Choices) -> "ConvPool":
        return cls(kernel_size=block.kernel, pool_strides=block.stride, **choices.arguments(block))

    def end(self, x: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
        return max_pool(x, 3, self.pool_strides, self.padding)

    def get_config(self):
        return {**super().get_config(), "pool_strides": self.pool_strides}
