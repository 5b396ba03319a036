"""Pooling of windows, as the plain layers do it that a subnet consists of."""

import tensorflow as tf


def max_pool(x: tf.Tensor, size: int, strides: int, padding: str) -> tf.Tensor:
    """The largest value of each window; with "symmetric" padding at a stride above 1, zeros count as values.

    Args:
        x: images, shape (batch, height, width, channels).
        size: side of the window.
        strides: stride.
        padding: "same" or "symmetric".
    """
    if padding == "same" or strides == 1:
        return tf.nn.max_pool2d(x, size, strides, "SAME")
    margin = size // 2
    return tf.nn.max_pool2d(tf.pad(x, [[0, 0], [margin, margin], [margin, margin], [0, 0]]), size, strides, "VALID")


def average_pool(x: tf.Tensor, size: int) -> tf.Tensor:
    """The mean of each of the windows side by side; of what there is of it at the end of an odd size."""
    return x if size == 1 else tf.nn.avg_pool2d(x, size, size, "SAME")
