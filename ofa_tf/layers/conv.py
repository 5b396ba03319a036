"""Convolutions whose channels and kernel size are tensors, so that one graph serves every arch."""

from collections.abc import Sequence
from itertools import pairwise

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.layers.shapes import leading, size_of


@keras.saving.register_keras_serializable(package="ofa_tf")
class ElasticConv2D(keras.layers.Layer):
    """Convolution without bias that uses the first input and output channels of its kernel.

    Args:
        in_channels: the most input channels.
        out_channels: the most output channels.
        kernel_size: side of the window.
        strides: stride.
        padding: "same" or "symmetric".

    Input shape: `(batch, height, width, n)` with n at most `in_channels`; output `(batch, height / strides, width /
    strides, m)` with m the `active_channels` of the call. `n` is read off the input where the graph knows it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        strides: int = 1,
        padding: str = "same",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding

    def build(self, input_shape=None):
        shape = (self.kernel_size, self.kernel_size, self.in_channels, self.out_channels)
        self.kernel = self.add_weight(shape=shape, initializer="he_normal", name="kernel")
        self.built = True

    def active_kernel(self, n_in: int | tf.Tensor, n_out: int | tf.Tensor | None = None) -> tf.Tensor:
        """The kernel of the first channels: shape (kernel_size, kernel_size, n_in, n_out)."""
        return leading(self.kernel, None, None, n_in, n_out)

    def call(self, inputs, active_channels=None, n=None):
        kernel = self.active_kernel(size_of(inputs, -1) if n is None else n, active_channels)
        inputs, padding = _pad(inputs, kernel, self.strides, self.padding)
        return tf.nn.conv2d(inputs, kernel, self.strides, padding)

    def get_config(self):
        return {
            **super().get_config(),
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable(package="ofa_tf")
class ElasticDepthwiseConv2D(keras.layers.Layer):
    """Depthwise convolution with an elastic kernel size (Cai et al., ICLR 2020, section 3.3, figure 3).

    Each smaller kernel is the centre of the next larger one, flattened row by row and multiplied by a learned matrix
    that all channels share; the matrices start as the identity.

    Args:
        channels: the most channels.
        kernel_sizes: the sizes to choose from, odd and ascending.
        strides: stride.
        padding: "same" or "symmetric".

    Input shape: `(batch, height, width, n)` with n at most `channels`; output `(batch, height / strides, width /
    strides, n)`. `kernel_index` of the call points into `kernel_sizes`; `n` is read off the input where the graph knows
    it. With `padded` every kernel has the largest size, the smaller ones with zeros around them: no shape depends on
    the choice.
    """

    def __init__(
        self, channels: int, kernel_sizes: Sequence[int] = (3, 5, 7), strides: int = 1, padding: str = "same", **kwargs
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.kernel_sizes = tuple(kernel_sizes)
        self.strides = strides
        self.padding = padding

    def build(self, input_shape=None):
        largest = self.kernel_sizes[-1]
        self.kernel = self.add_weight(
            shape=(largest, largest, self.channels, 1), initializer="he_normal", name="depthwise_kernel"
        )
        self.transforms = [
            self.add_weight(shape=(size**2, size**2), initializer="identity", name=f"transform_{larger}_to_{size}")
            for larger, size in pairwise(reversed(self.kernel_sizes))
        ]
        self.built = True

    def active_kernel(self, kernel_index: int | tf.Tensor, n: int | tf.Tensor) -> tf.Tensor:
        """The kernel of one size for the first n channels: shape (size, size, n, 1).

        All sizes are computed, padded to the largest, and one is cut out: a few thousand numbers, cheaper to trace and
        to run than a branch.
        """
        sizes, largest = self.kernel_sizes, self.kernel_sizes[-1]
        if len(sizes) == 1 or (isinstance(kernel_index, int) and kernel_index == len(sizes) - 1):
            return leading(self.kernel, None, None, n)
        margins = [(largest - size) // 2 for size in sizes]
        return tf.raw_ops.StridedSlice(
            input=self.padded_kernel(kernel_index, n),
            begin=tf.gather(np.array([[margin, margin, 0, 0] for margin in margins], np.int32), kernel_index),
            end=tf.gather(np.array([[largest - margin] * 2 + [0, 0] for margin in margins], np.int32), kernel_index),
            strides=[1] * 4,
            end_mask=0b1100,
        )

    def padded_kernel(self, kernel_index: int | tf.Tensor, n: int | tf.Tensor, shift: int | tf.Tensor = 0) -> tf.Tensor:
        """The kernel of one size with zeros around it, up to the largest: shape (largest, largest, n, 1).

        Its outputs are those of the small kernel: both paddings, at strides 1 and 2, grow by half the difference of
        the sizes at the top left, which is where the zeros put the small kernel. Only one of size 1 may have to be
        `shift` pixels further to the top left (`_shift`).
        """
        sizes, largest = self.kernel_sizes, self.kernel_sizes[-1]
        kernel = leading(self.kernel, None, None, n)
        if len(sizes) == 1:
            return kernel
        kernels = [kernel]
        for (larger, size), transform in zip(pairwise(reversed(sizes)), self.transforms, strict=True):
            cut = (larger - size) // 2
            centre = tf.reshape(kernel[cut:-cut, cut:-cut], (size**2, -1))
            kernel = tf.reshape(tf.linalg.matmul(tf.convert_to_tensor(transform), centre), (size, size, -1, 1))
            margin, moved = (largest - size) // 2, shift if size == 1 else 0
            margins = [margin - moved, margin + moved]
            kernels.insert(0, tf.pad(kernel, [margins, margins, [0, 0], [0, 0]]))
        return tf.gather(tf.stack(kernels), kernel_index)

    def _shift(self, inputs: tf.Tensor) -> int | tf.Tensor:
        """1 where the padding at the top left is the same for kernels of 1 and 3: at even sizes and stride 2."""
        if self.kernel_sizes[0] > 1 or self.strides == 1 or self.padding != "same":
            return 0
        return 1 - size_of(inputs, 1) % 2

    def call(self, inputs, kernel_index=None, padded=False, n=None):
        kernel_index = len(self.kernel_sizes) - 1 if kernel_index is None else kernel_index
        n = size_of(inputs, -1) if n is None else n
        if padded:
            kernel = self.padded_kernel(kernel_index, n, self._shift(inputs))
        else:
            kernel = self.active_kernel(kernel_index, n)
        inputs, padding = _pad(inputs, kernel, self.strides, self.padding)
        strides = [1, self.strides, self.strides, 1]
        return tf.raw_ops.DepthwiseConv2dNative(input=inputs, filter=kernel, strides=strides, padding=padding)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "kernel_sizes": self.kernel_sizes,
            "strides": self.strides,
            "padding": self.padding,
        }


def _pad(images: tf.Tensor, kernel: tf.Tensor, strides: int, padding: str) -> tuple[tf.Tensor, str]:
    """The images and the padding for TensorFlow: with zeros on all four sides where its own padding would differ.

    `SAME` pads as PyTorch does, but for a pixel less at the top left where the stride is 2.
    """
    if padding == "same" or strides == 1:
        return images, "SAME"
    margin = size_of(kernel, 0) // 2
    return tf.pad(images, [[0, 0], [margin, margin], [margin, margin], [0, 0]]), "VALID"
