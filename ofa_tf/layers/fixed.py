"""The blocks at both ends of the network, which are not elastic."""

import keras
import tensorflow as tf

from ofa_tf.kinds import Block
from ofa_tf.layers.batch_norm import ElasticBatchNorm
from ofa_tf.layers.block_layer import BlockLayer, Choices, OpWeights
from ofa_tf.layers.conv import ElasticConv2D


@keras.saving.register_keras_serializable(package="ofa_tf")
class ConvBlock(BlockLayer):
    """Convolution, batch norm, activation; not elastic.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the window.
        strides: stride.
        activation: name of a Keras activation.
        padding: "same" or "symmetric".
        epsilon: epsilon of the batch norm.

    Input shape: `(batch, height, width, in_channels)`; output `(batch, height / strides, width / strides,
    out_channels)`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        strides: int = 1,
        activation: str = "relu6",
        padding: str = "same",
        epsilon: float = 1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.strides = strides
        self.activation = activation
        self.padding = padding
        self.epsilon = epsilon
        self.conv = ElasticConv2D(
            in_channels, out_channels, kernel_size, strides, padding, name="conv", dtype=self.dtype_policy
        )
        self.bn = ElasticBatchNorm(out_channels, epsilon, name="bn", dtype=self.dtype_policy)

    @classmethod
    def of(cls, block: Block, choices: Choices) -> "ConvBlock":
        return cls(
            block.in_channels,
            block.out_channels,
            block.kernel,
            block.stride,
            block.activation,
            block.padding,
            choices.epsilon,
            name=block.name,
            dtype=choices.dtype,
        )

    def build(self, input_shape=None):
        self.conv.build()
        self.bn.build()
        self.built = True

    def call(self, inputs, kernel_index=None, expand_index=None, training=False, momentum=None):
        return keras.activations.get(self.activation)(self.bn(self.conv(inputs), training=training, momentum=momentum))

    def op_weights(self) -> dict[str, OpWeights]:
        return {"": OpWeights(self.conv.kernel, norm=self.bn)}

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
        }


@keras.saving.register_keras_serializable(package="ofa_tf")
class Dense(keras.layers.Dense, BlockLayer):
    """Keras's dense layer as a block; not elastic. Saved files of whole supernets contain this name.

    Args: those of `keras.layers.Dense`.

    Input shape: `(batch, in_channels)`; output `(batch, units)`.
    """

    @classmethod
    def of(cls, block: Block, choices: Choices) -> "Dense":
        activation = None if block.activation == "none" else block.activation
        return cls(block.out_channels, activation, use_bias=block.bias, name=block.name, dtype=choices.dtype)

    def call(self, inputs, kernel_index=None, expand_index=None, training=False, momentum=None):
        return super().call(inputs)

    def op_weights(self) -> dict[str, OpWeights]:
        return {"": OpWeights(self.kernel, self.bias)}


@keras.saving.register_keras_serializable(package="ofa_tf")
class GlobalAverage(BlockLayer):
    """The mean of each channel over height and width.

    Input shape: `(batch, height, width, channels)`; output `(batch, channels)`.
    """

    @classmethod
    def of(cls, block: Block, choices: Choices) -> "GlobalAverage":
        return cls(name=block.name, dtype=choices.dtype)

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, kernel_index=None, expand_index=None, training=False, momentum=None):
        return tf.reduce_mean(inputs, axis=(1, 2))
