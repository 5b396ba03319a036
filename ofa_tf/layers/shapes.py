"""Sizes and masks of tensors that an arch chose, in as few graph nodes as possible: a supernet cuts hundreds."""

from collections.abc import Sequence
from typing import Any

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


def choose(choices: Sequence[int], index: int | tf.Tensor) -> int | tf.Tensor:
    """`choices[index]`; a number where the index is one."""
    return choices[index] if isinstance(index, int) else tf.gather(np.array(choices, np.int32), index)


def leading(weight: Any, *sizes: int | tf.Tensor | None) -> tf.Tensor:
    """`weight[:sizes[0], :sizes[1], …]`.

    Args:
        weight: a variable or tensor.
        sizes: how many entries of each axis, from the first on; None for all. Axes that are not named stay whole.
    """
    weight = tf.convert_to_tensor(weight)
    rank = weight.shape.rank
    sizes = tuple(
        None if isinstance(size, int) and size == whole else size
        for size, whole in zip(sizes, weight.shape, strict=False)
    ) + (None,) * (rank - len(sizes))
    if all(size is None for size in sizes):
        return weight
    part = tf.raw_ops.StridedSlice(
        input=weight,
        begin=[0] * rank,
        end=tf.stack([0 if size is None else size for size in sizes]),
        strides=[1] * rank,
        begin_mask=2**rank - 1,
        end_mask=sum(2**axis for axis, size in enumerate(sizes) if size is None),
    )
    part.set_shape(
        [
            whole if size is None else size if isinstance(size, int) else None
            for size, whole in zip(sizes, weight.shape, strict=True)
        ]
    )
    return part
