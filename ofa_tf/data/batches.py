"""Training batches as a pure function of (seed, step): a run that goes on where it was sees the same images."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import tensorflow as tf

from ofa_tf.data.augment import Augment, crop_boxes
from ofa_tf.data.images import ImageSet, Preprocessing


@lru_cache(maxsize=4)
def _epoch_order(n_images: int, seed: tuple[int, ...], epoch: int) -> np.ndarray:
    return np.random.default_rng([*seed, 1, epoch]).permutation(n_images)


def batch_indices(n_images: int, batch: int, seed: tuple[int, ...], step: int) -> np.ndarray:
    """Which images step `step` sees: epochs of all images in random order, one after the other, int64 of (batch,)."""
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs, offsets = np.divmod(positions, n_images)
    return np.concatenate(
        [_epoch_order(n_images, seed, int(epoch))[offsets[epochs == epoch]] for epoch in np.unique(epochs)]
    )


def crop_and_resize(images: tf.Tensor, boxes: tf.Tensor, resolution: tf.Tensor) -> tf.Tensor:
    """Cuts one box out of each image and resizes it, bilinearly, pixel centres at half integers.

    Args:
        images: (batch, size, size, 3).
        boxes: (batch, 4), as from `crop_boxes`; what lies beyond the edge is black.
        resolution: scalar int32.

    Returns:
        float32 of shape (batch, resolution, resolution, 3).
    """
    size = tf.cast(tf.shape(images)[1], tf.float32)
    start, stop = boxes[:, :2], boxes[:, 2:]
    half = (stop - start) * 0.5 / tf.cast(resolution, tf.float32)
    corners = (tf.concat([start + half, stop - half], axis=1) * size - 0.5) / (size - 1)
    count = tf.shape(images)[0]
    return tf.image.crop_and_resize(images, corners, tf.range(count), tf.stack([resolution, resolution]))


def training_batches(
    images: ImageSet,
    preprocessing: Preprocessing,
    augment: Augment,
    batch: int,
    seed: tuple[int, ...],
    steps: range,
    resolution_of: Callable[[int], int],
    rows: range | None = None,
) -> tf.data.Dataset:
    """Augmented batches for consecutive steps, prepared in parallel with their use.

    Args:
        images: what to draw from.
        preprocessing: applied last.
        augment: random changes.
        batch: images per step.
        seed: of order and augmentation.
        steps: the steps to make batches for.
        resolution_of: resolution of the batch of a step, in pixels.

    Returns:
        A dataset of float32 images (batch, resolution, resolution, 3) and int32 labels (batch,).
    """

    def draw(number: np.ndarray):
        step = int(number)
        indices = batch_indices(len(images), batch, seed, step)
        boxes = crop_boxes(augment, batch, np.random.default_rng([*seed, 2, step]))
        if rows is not None:
            indices, boxes = indices[rows], boxes[rows]
        return images.images[indices], images.labels[indices], boxes, np.int32(resolution_of(step))

    def prepare(step: tf.Tensor):
        kinds = [tf.uint8, tf.int32, tf.float32, tf.int32]
        pixels, labels, boxes, resolution = tf.numpy_function(draw, [step], kinds)
        pixels.set_shape((None, None, None, 3))
        labels.set_shape((None,))
        boxes.set_shape((None, 4))
        resolution.set_shape(())
        return preprocessing(crop_and_resize(pixels, boxes, resolution)), labels

    dataset = tf.data.Dataset.range(steps.start, steps.stop).map(prepare, num_parallel_calls=2, deterministic=True)
    return dataset.prefetch(2)
