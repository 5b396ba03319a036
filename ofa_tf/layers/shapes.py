"""Sizes and masks of tensors that an arch chose, in as few graph nodes as possible: a supernet cuts hundreds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

FORMULATIONS = ("sliced", "masked")


def size_of(x: tf.Tensor, axis: int) -> int | tf.Tensor:
    """Size of an axis: an integer where the graph knows it, so that the shapes that follow are static too."""
    size = x.shape[axis]
    return tf.shape(x)[axis] if size is None else size


def require_formulation(formulation: str) -> None:
    """Refuses what is no formulation.

    Raises:
        ValueError: it is unknown.
    """
    if formulation not in FORMULATIONS:
        raise ValueError(f"`formulation` (={formulation!r}) must be one of {FORMULATIONS}.")


def as_choices(channels: int | Sequence[int]) -> int | tuple[int, ...]:
    """Channels as a layer keeps them: a number, or the choices of it, ascending."""
    return channels if isinstance(channels, int) else tuple(channels)


def most(channels: int | Sequence[int]) -> int:
    """The most channels that there can be."""
    return channels if isinstance(channels, int) else channels[-1]


def choose(choices: Any, *indices: int | tf.Tensor | None) -> int | tf.Tensor:
    """An entry of a table; a number where the graph knows which.

    Args:
        choices: numbers, in lists of lists with a level for each index; or one number.
        indices: where the entry is; None for the last. Those of levels with only one entry are not looked at.
    """
    chosen = _looked_up(np.array(choices, np.int32, ndmin=len(indices)), indices)
    return int(chosen) if isinstance(chosen, np.ndarray | np.integer) else chosen


def _looked_up(table: np.ndarray, indices: Sequence[int | tf.Tensor | None]) -> np.ndarray | tf.Tensor:
    """What is in a table at indices of its first axes."""
    tensors: list[tf.Tensor] = []
    for index in indices:
        axis = len(tensors)
        if table.shape[axis] == 1 or index is None or isinstance(index, int):
            table = table.take(-1 if table.shape[axis] == 1 or index is None else index, axis)
        else:
            tensors.append(index)
    if not tensors:
        return table
    place, *others = tensors
    for axis, index in enumerate(others, start=1):
        place = place * table.shape[axis] + index
    return tf.gather(table.reshape(-1, *table.shape[len(tensors) :]), place)


@dataclass(frozen=True)
class ActiveChannels:
    """The channels of a tensor that an arch uses: always the first.

    Args:
        n: how many channels the tensor has: only those in use, or, where there is a mask, the most.
        mask: which are in use, bool of shape (n,); None where all are.
    """

    n: int | tf.Tensor
    mask: Any = None

    def only(self, x: tf.Tensor) -> tf.Tensor:
        """The tensor with zeros in the channels that are not in use, which takes them out of the gradients, too."""
        return x if self.mask is None else x * tf.cast(self.mask, x.dtype)

    def momentum(self, momentum: Any) -> Any:
        """The momentum of a calibration, with which channels that are not in use keep what they have."""
        return momentum if self.mask is None or momentum is None else tf.where(self.mask, momentum, 1.0)


def active_channels(formulation: str, choices: Any, *indices: int | tf.Tensor | None) -> ActiveChannels:
    """The channels that an arch uses.

    Args:
        formulation: "sliced": the tensor has only those; "masked": it has the most that there can be.
        choices: numbers of channels, as for `choose`; the last is the largest.
        indices: where the number is; None for the last.
    """
    if formulation == "sliced":
        return ActiveChannels(choose(choices, *indices))
    table = np.array(choices, ndmin=len(indices))
    channels = int(table.flat[-1])
    mask = _looked_up(np.arange(channels) < table[..., None], indices)
    return ActiveChannels(channels, None if isinstance(mask, np.ndarray) and mask.all() else mask)


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
