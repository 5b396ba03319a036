"""Batch normalisation of however many channels arrive."""

import keras
import tensorflow as tf

from ofa_tf.layers.shapes import leading, size_of


@keras.saving.register_keras_serializable(package="ofa_tf")
class ElasticBatchNorm(keras.layers.Layer):
    """Batch norm that holds the parameters of `channels` channels and uses the first ones, as many as its input has.

    In training it normalises with the statistics of the batch and leaves the moving ones alone: those of one subnet
    say nothing about another (Cai et al., ICLR 2020, section 3.3). They are set by a calibration pass, which calls the
    layer in training mode with `momentum`: `1 - 1/t` for the t-th batch makes them the mean over all batches. As a
    vector it is one number for each channel: those with 1 keep what they have.

    Args:
        channels: the most channels it can get.
        epsilon: added to the variance.

    Input and output shape: `(batch, height, width, n)` with n at most `channels`; where the graph does not know n, it
    may be passed to the call.
    """

    def __init__(self, channels: int, epsilon: float = 1e-5, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.epsilon = epsilon

    def build(self, input_shape=None):
        shared = {"shape": (self.channels,), "autocast": False}  # float32 where the rest is computed in bfloat16
        self.gamma = self.add_weight(initializer="ones", name="gamma", **shared)
        self.beta = self.add_weight(initializer="zeros", name="beta", **shared)
        self.moving_mean = self.add_weight(initializer="zeros", trainable=False, name="moving_mean", **shared)
        self.moving_variance = self.add_weight(initializer="ones", trainable=False, name="moving_variance", **shared)
        self.built = True

    def active(self, n: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Gamma, beta, moving mean and moving variance of the first n channels, each of shape (n,)."""
        return tuple(leading(w, n) for w in (self.gamma, self.beta, self.moving_mean, self.moving_variance))

    def call(self, inputs, n=None, training=False, momentum=None):
        n = size_of(inputs, -1) if n is None else n
        if not training:
            gamma, beta, mean, variance = self.active(n)
            # The formula of the plain layer, which rounds as it does.
            return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, self.epsilon)
        gamma, beta = leading(self.gamma, n), leading(self.beta, n)
        empty = tf.zeros((0,), gamma.dtype)
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=gamma, offset=beta, mean=empty, variance=empty, epsilon=self.epsilon, is_training=True
        )
        if momentum is not None:
            for moving, new in (
                (self.moving_mean, outputs.batch_mean),
                (self.moving_variance, outputs.batch_variance),
            ):
                blended = leading(moving, n) * momentum + new * (1.0 - momentum)
                moving.assign(tf.concat([blended, tf.convert_to_tensor(moving)[n:]], axis=0))
        y = outputs.y
        y.set_shape(inputs.shape)
        return y

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "epsilon": self.epsilon}
