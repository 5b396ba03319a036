"""Labelled images, and what is done to their pixels before a network sees them.

TensorFlow is imported only where it computes: asking a workdir how its pixels are treated does not need it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ofa_tf.data.augment import Crops
from ofa_tf.errors import FormatError

if TYPE_CHECKING:
    import tensorflow as tf

CHUNK = 512  # images that are resized at a time
# For a network that is already trained: the least for batch norm statistics and int8 ranges, and what is enough.
LEAST_IMAGES, GOOD_IMAGES = 100, 2000


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

    def __call__(self, pixels: Any) -> "tf.Tensor":
        """float32 network inputs from uint8 or float pixels of shape (..., 3)."""
        import tensorflow as tf

        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return (tf.cast(pixels, tf.float32) - mean) / std


class Images(ABC):
    """Labelled images, wherever their pixels are.

    Attributes:
        labels: int32 of shape (images,); all -1 where the classes are not known.
    """

    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> bool:
        """Whether the classes of the images are known."""
        return bool((self.labels >= 0).all())

    @abstractmethod
    def take(self, indices: np.ndarray) -> "Images":
        """The images at these indices."""

    def head(self, n: int) -> "Images":
        """The first n images."""
        return self.take(np.arange(min(n, len(self))))

    def spread(self, n: int) -> "Images":
        """At most n images, evenly spread over all."""
        return self if n >= len(self) else self.take(np.linspace(0, len(self) - 1, n).astype(np.int64))

    @abstractmethod
    def batches(self, size: int, resolution: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Centre squares and labels in order, `size` at a time, the rest last.

        Args:
            size: images in a batch.
            resolution: height and width in pixels.

        Yields:
            uint8 of shape (size, resolution, resolution, 3), and int32 labels (size,).
        """

    @abstractmethod
    def shorter_sides(self) -> np.ndarray:
        """The shorter sides, in pixels, of all images that can be read: int of shape (images,)."""

    @abstractmethod
    def crops(self, indices: np.ndarray, crops: Crops, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """One crop of each of these images, or what is needed to make it with `crop_and_resize`.

        Returns:
            Either squares, uint8 of shape (indices, size, size, 3), and the boxes to cut out, float32 of shape
            (indices, 4); or the crops, uint8 of shape (indices, resolution, resolution, 3), and no boxes.
        """

    def resized(self, resolution: int) -> "ImageSet":
        """The centre squares in memory, at this height and width."""
        parts = [pixels for pixels, _ in self.batches(CHUNK, resolution)]
        return ImageSet(np.concatenate(parts), self.labels)


@dataclass(frozen=True)
class ImageSet(Images):
    """Square images of one size in memory.

    Args:
        images: uint8 of shape (images, size, size, 3); may be a memory map.
        labels: int32 of shape (images,); all -1 where the classes are not known.
    """

    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def take(self, indices: np.ndarray) -> "ImageSet":
        return ImageSet(self.images[indices], self.labels[indices])

    def batches(self, size: int, resolution: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        chunk = max(1, CHUNK // size) * size
        for start in range(0, len(self), chunk):
            pixels, labels = self.images[start : start + chunk], self.labels[start : start + chunk]
            if resolution != pixels.shape[1]:
                pixels = resize(pixels, resolution)
            for low in range(0, len(labels), size):
                yield pixels[low : low + size], labels[low : low + size]

    def shorter_sides(self) -> np.ndarray:
        return np.full(len(self), min(self.images.shape[1:3]))

    def crops(self, indices: np.ndarray, crops: Crops, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        return self.images[indices], crops.boxes()

    def resized(self, resolution: int) -> "ImageSet":
        return self if resolution == self.images.shape[1] else super().resized(resolution)


def resize(images: np.ndarray, resolution: int) -> np.ndarray:
    """uint8 images of shape (n, resolution, resolution, 3), bilinear and anti-aliased."""
    import tensorflow as tf

    with tf.device("CPU"):
        resized = tf.image.resize(images, (resolution, resolution), antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8).numpy()


def crop_and_resize(images: Any, boxes: Any, resolution: Any) -> "tf.Tensor":
    """Cuts one box out of each image and resizes it, bilinearly, pixel centres at half integers.

    Args:
        images: (batch, size, size, 3).
        boxes: (batch, 4), as from `Crops.boxes`; what lies beyond the edge is black.
        resolution: height and width of the result, in pixels.

    Returns:
        float32 of shape (batch, resolution, resolution, 3).
    """
    import tensorflow as tf

    size = tf.cast(tf.shape(images)[1], tf.float32)
    # The outermost pixels once more: TensorFlow takes what lies beyond the centre of the last one for black.
    images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    start, stop = boxes[:, :2], boxes[:, 2:]
    half = (stop - start) * 0.5 / tf.cast(resolution, tf.float32)
    corners = (tf.concat([start + half, stop - half], axis=1) * size + 0.5) / (size + 1)
    count = tf.shape(images)[0]
    return tf.image.crop_and_resize(images, corners, tf.range(count), tf.stack([resolution, resolution]))


@dataclass(frozen=True)
class Data:
    """A data set, split.

    Args:
        spec: what the user asked for.
        classes: names of the classes, in the order of the labels.
        train: images to train on, and to recompute batch norm statistics on.
        tune: training images held out, for the accuracies that the predictor learns from.
        val: images for the final figures; nothing is chosen by them.
    """

    spec: str
    classes: tuple[str, ...]
    train: Images
    tune: Images
    val: Images


@dataclass(frozen=True)
class Survey:
    """What is known about a data set without decoding its images.

    Args:
        n_train: number of its training images, including those held out for tuning.
        side: median shorter side of its training images, in pixels; 0 if none can be read.
    """

    n_train: int
    side: int
