"""Squeeze-and-excite of however many channels arrive."""

import keras
import tensorflow as tf

from ofa_tf.layers.shapes import leading, size_of


@keras.saving.register_keras_serializable(package="ofa_tf")
class ElasticSqueezeExcite(keras.layers.Layer):
    """Scales each channel by a gate made of all channels' means (Howard et al., "MobileNetV3", 2019, section 5.3).

    Args:
        channels: the most channels.
        squeeze: the most channels of the squeeze.

    Input and output shape: `(batch, height, width, n)` with n at most `channels`; `active_squeeze` of the call says how
    many of the squeeze's channels are used, `squeeze_mask`, of shape `(squeeze,)`, says it without changing a shape;
    `n` is read off the input where the graph knows it.
    """

    def __init__(self, channels: int, squeeze: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.squeeze = squeeze

    def build(self, input_shape=None):
        self.reduce_kernel = self.add_weight(
            shape=(self.channels, self.squeeze), initializer="he_normal", name="reduce_kernel"
        )
        self.reduce_bias = self.add_weight(shape=(self.squeeze,), initializer="zeros", name="reduce_bias")
        self.expand_kernel = self.add_weight(
            shape=(self.squeeze, self.channels), initializer="he_normal", name="expand_kernel"
        )
        self.expand_bias = self.add_weight(shape=(self.channels,), initializer="zeros", name="expand_bias")
        self.built = True

    def active(self, n: int | tf.Tensor, squeeze: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Kernel and bias of the reduction, kernel and bias of the expansion, for the first channels of both."""
        return (
            leading(self.reduce_kernel, n, squeeze),
            leading(self.reduce_bias, squeeze),
            leading(self.expand_kernel, squeeze, n),
            leading(self.expand_bias, n),
        )

    def call(self, inputs, active_squeeze=None, squeeze_mask=None, n=None):
        squeeze = self.squeeze if active_squeeze is None else active_squeeze
        n = size_of(inputs, -1) if n is None else n
        reduce_kernel, reduce_bias, expand_kernel, expand_bias = self.active(n, squeeze)
        means = tf.reduce_mean(inputs, axis=(1, 2))
        hidden = tf.nn.relu(tf.linalg.matmul(means, reduce_kernel) + reduce_bias)
        if squeeze_mask is not None:
            hidden *= tf.cast(squeeze_mask, hidden.dtype)
        gates = keras.activations.hard_sigmoid(tf.linalg.matmul(hidden, expand_kernel) + expand_bias)
        return inputs * gates[:, None, None, :]

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "squeeze": self.squeeze}
