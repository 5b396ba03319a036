"""Training batches as a pure function of (seed, step): a run that goes on where it was sees the same images."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from ofa_tf.data.augment import Augment, draw_colours, draw_crops
from ofa_tf.data.images import Images, Preprocessing, crop_and_resize
from ofa_tf.errors import DataError

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


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


def change_colours(pixels: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Brightness, then saturation, each clipped to 0..255.

    Args:
        pixels: float32 of shape (batch, height, width, 3), from 0 to 255.
        factors: float32 of shape (batch, 2); 1 changes nothing.
    """
    shape, (brightness, saturation) = tf.shape(pixels), tf.unstack(factors[:, :, None, None], axis=1)
    flat = tf.clip_by_value(tf.reshape(pixels, (shape[0], -1, 3)) * brightness, 0, 255)
    mixing = saturation * tf.eye(3) + (1 - saturation) * tf.constant(GREY)[:, None]
    return tf.reshape(tf.clip_by_value(flat @ mixing, 0, 255), shape)


def training_batches(
    images: Images,
    preprocessing: Preprocessing,
    augment: Augment,
    batch: int,
    seed: tuple[int, ...],
    steps: range,
    resolution_of: Callable[[int], int],
    rows: range | None = None,
    distribute: Callable[[tf.data.Dataset], Iterable[tuple[Any, Any]]] = lambda dataset: dataset,
) -> Iterator[tuple[Any, Any]]:
    """Augmented batches for consecutive steps, prepared in parallel with their use.

    Args:
        images: what to draw from.
        preprocessing: applied last.
        augment: random changes.
        batch: images per step, of all workers together.
        seed: seed of the order and the augmentation.
        steps: the steps to make batches for.
        resolution_of: resolution of the batch of a step, in pixels.
        rows: which rows of each batch this worker prepares; None for all.
        distribute: shares the dataset of these rows out over the replicas of this worker.

    Yields:
        float32 images (rows, resolution, resolution, 3) and int32 labels (rows,), or what `distribute` makes of them.

    Raises:
        DataError: an image can no longer be read; names it.
    """
    mine = slice(0, batch) if rows is None else slice(rows.start, rows.stop)
    coloured = augment.brightness > 0 or augment.saturation > 0
    errors: list[DataError] = []

    def draw(number: np.ndarray):
        step = int(number)
        indices = batch_indices(len(images), batch, seed, step)[mine]
        crops = draw_crops(augment, batch, np.random.default_rng([*seed, 2, step])).take(mine)
        colours = draw_colours(augment, batch, np.random.default_rng([*seed, 3, step]))[mine] if coloured else ()
        try:
            pixels, boxes = images.crops(indices, crops, resolution := resolution_of(step))
        except DataError as error:
            errors.append(error)
            raise
        return pixels, boxes, np.int32(resolution), images.labels[indices], np.asarray(colours, np.float32)

    def prepare(step: tf.Tensor):
        kinds = [tf.uint8, tf.float32, tf.int32, tf.int32, tf.float32]
        pixels, boxes, resolution, labels, colours = tf.numpy_function(draw, [step], kinds)
        pixels.set_shape((None, None, None, 3))
        boxes.set_shape((None, 4))
        resolution.set_shape(())
        labels.set_shape((None,))
        pixels = tf.cond(
            tf.shape(boxes)[0] > 0,
            lambda: crop_and_resize(pixels, boxes, resolution),
            lambda: tf.cast(pixels, tf.float32),
        )
        if coloured:
            colours.set_shape((None, 2))
            pixels = change_colours(pixels, colours)
        return preprocessing(pixels), labels

    dataset = tf.data.Dataset.range(steps.start, steps.stop).map(prepare, num_parallel_calls=2, deterministic=True)
    options = tf.data.Options()
    options.autotune.enabled = False  # nothing is left to tune, and its thread may sleep on at the end, up to a minute
    try:
        yield from distribute(dataset.prefetch(2).with_options(options))
    except tf.errors.OpError:
        if errors:
            raise errors[0] from None
        raise
