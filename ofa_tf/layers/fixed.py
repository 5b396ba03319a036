"""The layers behind the global average, and itself: what arrives says how many channels there are."""

import keras
import tensorflow as tf

from ofa_tf.kinds import Block
from ofa_tf.layers.block_layer import BlockLayer, Choices, OpWeights
from ofa_tf.layers.shapes import leading, size_of


@keras.saving.register_keras_serializable(package="ofa_tf")
class Dense(keras.layers.Dense, BlockLayer):
    """Keras's dense layer as a block, of however many channels arrive. Saved files of supernets contain this name.

    Args: those of `keras.layers.Dense`.

    Input shape: `(batch, n)` with n at most what the layer was built for; output `(batch, units)`.
    """

    @classmethod
    def of(cls, block: Block, choices: Choices) -> "Dense":
        activation = None if block.activation == "none" else block.activation
        return cls(block.out_channels, activation, use_bias=block.bias, name=block.name, dtype=choices.dtype)

    def build(self, input_shape):
        super().build(input_shape)
        self.input_spec = None  # Keras's own wants all inputs

    def call(
        self, inputs, kernel_index=None, expand_index=None, in_index=None, out_index=None, training=False, momentum=None
    ):
        if inputs.shape[-1] == self.kernel.shape[0]:
            return super().call(inputs)
        x = tf.linalg.matmul(inputs, leading(self.kernel, size_of(inputs, -1)))
        return self.activation(x if self.bias is None else x + self.bias)

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

    def call(
        self, inputs, kernel_index=None, expand_index=None, in_index=None, out_index=None, training=False, momentum=None
    ):
        return tf.reduce_mean(inputs, axis=(1, 2))
