"""Labelled images in memory, and what is done to their pixels before a network sees them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from ofa_tf.errors import FormatError


@dataclass(frozen=True)
class Preprocessing:
    """`(pixel - mean) / std` on pixels from 0 to 255, the same for all networks of a workdir.

    With the default a full-integer input is exactly `pixel - 128`.
    """

    mean: tuple[float, ...] = (128.0, 128.0, 128.0)
    std: tuple[float, ...] = (128.0, 128.0, 128.0)

    def __post_init__(self):
        for name in ("mean", "std"):
            value = getattr(self, name)
            good = isinstance(value, tuple) and len(value) == 3
            if not good or not all(isinstance(v, int | float) and -1e4 < v < 1e4 for v in value):
                raise FormatError(f"Preprocessing: `{name}` (={value!r}) must be three numbers, one per colour.")
        if min(self.std) <= 0:
            raise FormatError(f"Preprocessing: `std` (={list(self.std)}) must be positive.")

    def __call__(self, pixels: Any) -> tf.Tensor:
        """float32 network inputs from uint8 or float pixels of shape (..., 3)."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return (tf.cast(pixels, tf.float32) - mean) / std


@dataclass(frozen=True)
class ImageSet:
    """Square images of one size with their labels.

    Args:
        images: uint8 of shape (images, size, size, 3); may be a memory map.
        labels: int32 of shape (images,); all -1 where the classes are not known.
    """

    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> bool:
        """Whether the classes of the images are known."""
        return bool((self.labels >= 0).all())

    def take(self, indices: np.ndarray) -> "ImageSet":
        """The images at these indices."""
        return ImageSet(self.images[indices], self.labels[indices])

    def head(self, n: int) -> "ImageSet":
        """The first n images."""
        return ImageSet(self.images[:n], self.labels[:n])

    def resized(self, resolution: int) -> "ImageSet":
        """The images at another size, rounded to whole pixel values (bilinear, anti-aliased)."""
        if resolution == self.images.shape[1]:
            return self
        parts = [resize(images, resolution) for images, _ in self.batches(512)]
        return ImageSet(np.concatenate(parts), self.labels)

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images and labels in order, `size` at a time, the rest last."""
        for start in range(0, len(self), size):
            yield self.images[start : start + size], self.labels[start : start + size]


def resize(images: np.ndarray, resolution: int) -> np.ndarray:
    """uint8 images of shape (n, resolution, resolution, 3)."""
    resized = tf.image.resize(images, (resolution, resolution), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8).numpy()


@dataclass(frozen=True)
class Data:
    """A data set, split.

    Args:
        spec: what the user asked for.
        classes: names, in the order of the labels.
        train: images to train on, and to recompute batch norm statistics on.
        tune: training images held out, for the accuracies that the predictor learns from.
        val: images for the final figures; nothing is chosen by them.
    """

    spec: str
    classes: tuple[str, ...]
    train: ImageSet
    tune: ImageSet
    val: ImageSet
