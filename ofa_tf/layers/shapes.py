"""Sizes and masks of tensors that an arch chose."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

FORMULATIONS = ("sliced", "masked")


def size_of(x: tf.Tensor, axis: int) -> int | tf.Tensor:
    """Size of an axis: an integer where the graph knows it, so that the shapes that follow are static too."""
    size = x.shape[axis]
    return tf.shape(x)[axis] if size is None else size


def first_channels(choices: Sequence[int], index: int | tf.Tensor) -> tf.Tensor:
    """Which of the most channels a choice uses: bool of shape (choices[-1],), whatever the choice."""
    return tf.gather(np.arange(choices[-1]) < np.array(choices)[:, None], index)
