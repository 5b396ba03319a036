"""Training batches: order, crops, colours; preprocessing."""

import numpy as np
import pytest
import tensorflow as tf
from image_files import encoded, image_set, make_folder, pixels

from ofa_tf.data import ImageSet, Preprocessing
from ofa_tf.data.augment import Augment, draw_colours, draw_crops
from ofa_tf.data.batches import batch_indices, change_colours, training_batches
from ofa_tf.data.images import crop_and_resize
from ofa_tf.errors import DataError, FormatError

PLAIN = Augment(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=False)


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_images", "batch"), [(20, 4), (20, 7), (5, 13), (1, 3)])
def test_every_epoch_sees_each_image_once(n_images, batch):
    n_epochs = 6
    steps = n_epochs * n_images // batch + 1
    seen = np.concatenate([batch_indices(n_images, batch, (0, 1), step) for step in range(steps)])
    epochs = seen[: n_epochs * n_images].reshape(n_epochs, n_images)
    assert (np.sort(epochs, axis=1) == np.arange(n_images)).all()
    if n_images == 20:
        assert len({tuple(epoch) for epoch in epochs}) == n_epochs
        assert not np.array_equal(batch_indices(n_images, batch, (0, 2), 0), seen[:batch])


def test_batches_are_a_function_of_seed_and_step():
    images, sizes = image_set(), (8, 12, 16)

    def batches(seed, steps):
        resolution = lambda step: sizes[step % 3]  # noqa: E731
        return list(training_batches(images, Preprocessing(), Augment(), 6, seed, steps, resolution))

    first, again, later, other = (
        batches(seed, steps)
        for seed, steps in (((0, 1), range(6)), ((0, 1), range(6)), ((0, 1), range(3, 6)), ((0, 2), range(6)))
    )
    assert [len(run) for run in (first, later)] == [6, 3]
    for step, (x, labels) in enumerate(first):
        assert x.shape == (6, sizes[step % 3], sizes[step % 3], 3)
        assert (x.dtype, labels.dtype) == (tf.float32, tf.int32)
        np.testing.assert_array_equal(x, again[step][0])
        np.testing.assert_array_equal(labels, batch_indices(20, 6, (0, 1), step))
        assert not np.array_equal(x, other[step][0])
    for (x, labels), (expected, expected_labels) in zip(later, first[3:], strict=True):
        np.testing.assert_array_equal(x, expected)
        np.testing.assert_array_equal(labels, expected_labels)


def test_no_thread_tunes_the_pipeline():
    settings = []

    def keep(dataset):
        settings.append(dataset.options().autotune.enabled)
        return dataset

    assert (
        len(
            list(
                training_batches(image_set(), Preprocessing(), PLAIN, 6, (0, 1), range(2), lambda _: 8, distribute=keep)
            )
        )
        == 2
    )
    assert settings == [False]


@pytest.mark.parametrize("kind", ["in memory", "encoded"])
def test_workers_rows_put_together_are_the_batch(tmp_path, kind):
    images = image_set() if kind == "in memory" else encoded(make_folder(tmp_path, {"a": 20}))
    augment = Augment(brightness=0.2, saturation=0.5)

    def batches(rows=None):
        return list(training_batches(images, Preprocessing(), augment, 6, (0, 1), range(4, 8), lambda _: 10, rows))

    whole, first, second = batches(), batches(range(4)), batches(range(4, 6))
    for (x, labels), low, high in zip(whole, first, second, strict=True):
        assert (low[0].shape[0], high[0].shape[0]) == (4, 2)
        np.testing.assert_array_equal(x, np.concatenate([low[0], high[0]]))
        np.testing.assert_array_equal(labels, np.concatenate([low[1], high[1]]))


def test_crops_are_those_of_the_first_version():
    """A training goes on with the batches it would have seen before an update."""
    rng = np.random.default_rng([0, 1, 2, 7])
    area, aspect = rng.uniform(0.5, 1.2, 5), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 5))
    sides = np.sqrt([area / aspect, area * aspect])
    low = rng.random(sides.shape) * (1 - sides)
    high, mirror = low + sides, rng.random(5) < 0.5
    boxes = draw_crops(Augment(area=(0.5, 1.2)), 5, np.random.default_rng([0, 1, 2, 7])).boxes()
    expected = [low[0], np.where(mirror, high[1], low[1]), high[0], np.where(mirror, low[1], high[1])]
    np.testing.assert_array_equal(boxes, np.stack(expected, axis=1).astype(np.float32))
    images = image_set(40, 16)
    plain, coloured = (
        next(training_batches(images, Preprocessing(), augment, 6, (0, 1), range(5, 6), lambda _: 12))
        for augment in (Augment(), Augment(brightness=1e-9))
    )
    np.testing.assert_allclose(coloured[0], plain[0], atol=1e-5)


def test_the_crops_of_encoded_images_are_reproducible(tmp_path):
    images = encoded(make_folder(tmp_path, {"a": 30}))
    runs = [
        [x.numpy() for x, _ in training_batches(images, Preprocessing(), Augment(), 16, (0, 1), steps, lambda _: 10)]
        for steps in (range(6), range(6), range(3, 6))
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0][3:], runs[2])


def test_without_augmentation_a_batch_of_encoded_images_is_their_pixels(tmp_path):
    images = encoded(make_folder(tmp_path, {"a": 9}, suffix="png"))
    ((x, labels),) = training_batches(images, Preprocessing(), PLAIN, 9, (0, 1), range(1), lambda _: 16)
    np.testing.assert_allclose(x * 128 + 128, np.stack([pixels(label + 1) for label in labels.numpy()]), atol=1e-4)


def test_an_image_that_goes_away_is_named(tmp_path):
    paths = make_folder(tmp_path, {"a": 9})
    batches = training_batches(encoded(paths), Preprocessing(), PLAIN, 9, (0, 1), range(5), lambda _: 16)
    next(batches)
    paths[3].unlink()
    with pytest.raises(DataError, match=rf"There is no file {paths[3]}"):
        list(batches)


def test_colours_change_as_drawn():
    flat = np.zeros((2, 4, 4, 3), np.float32)
    flat[0], flat[1] = (200, 100, 50), (30, 60, 90)
    changed = change_colours(flat, np.array([[1.5, 1.0], [1.0, 0.0]], np.float32)).numpy()
    np.testing.assert_allclose(changed[0, 0, 0], (255, 150, 75), atol=1e-3)
    np.testing.assert_allclose(changed[1, 0, 0], [30 * 0.299 + 60 * 0.587 + 90 * 0.114] * 3, atol=1e-3)
    factors = draw_colours(Augment(brightness=0.1, saturation=0.5), 5000, np.random.default_rng(0))
    for column, most in ((0, 0.1), (1, 0.5)):
        assert 1 - most <= factors[:, column].min() < 1 - 0.99 * most
        assert 1 + 0.99 * most < factors[:, column].max() <= 1 + most
    images = ImageSet(np.full((8, 6, 6, 3), 100, np.uint8), np.zeros(8, np.int32))
    augment = Augment(brightness=0.5)
    ((x, _),) = training_batches(images, Preprocessing(), augment, 8, (0, 1), range(3, 4), lambda _: 6)
    expected = 100 * draw_colours(augment, 8, np.random.default_rng([0, 1, 3, 3]))[:, 0]
    np.testing.assert_allclose(x[:, 3, 3, 0] * 128 + 128, expected, rtol=1e-4)


def test_without_augmentation_a_batch_is_the_images_themselves():
    images = image_set()
    ((x, labels),) = training_batches(images, Preprocessing(), PLAIN, 8, (0, 1), range(1), lambda _: 12)
    np.testing.assert_allclose(x, (images.images[labels].astype(np.float64) - 128) / 128, atol=1e-5)


def test_the_whole_box_at_the_size_of_the_image_is_the_image():
    images = image_set(4, 13).images
    whole, mirrored = (np.tile(np.array(box, np.float32), (4, 1)) for box in ((0, 0, 1, 1), (0, 1, 1, 0)))
    np.testing.assert_allclose(crop_and_resize(images, whole, 13), images, atol=1e-3)
    np.testing.assert_allclose(crop_and_resize(images, mirrored, 13), images[:, :, ::-1], atol=1e-3)
    flipped, plain = crop_and_resize(images, mirrored, 9).numpy(), crop_and_resize(images, whole, 9).numpy()
    np.testing.assert_allclose(flipped, plain[:, :, ::-1], atol=1e-3)


def test_a_box_is_cut_out_at_pixel_centres():
    images = image_set(2, 16).images
    boxes = np.array([[0, 0, 0.5, 0.5], [0.25, 0.5, 0.75, 1]], np.float32)
    cut = crop_and_resize(images, boxes, 8).numpy()
    np.testing.assert_allclose(cut[0], images[0, :8, :8], atol=1e-3)
    np.testing.assert_allclose(cut[1], images[1, 4:12, 8:], atol=1e-3)
    halved = crop_and_resize(images, np.array([[0, 0, 1, 1]] * 2, np.float32), 8).numpy()
    means = images.reshape(2, 8, 2, 8, 2, 3).mean((2, 4))
    np.testing.assert_allclose(halved, means, atol=1e-3)
    white = crop_and_resize(np.full((1, 13, 13, 3), 255, np.uint8), np.array([[0, 0, 1, 1]], np.float32), 31)
    np.testing.assert_allclose(white, 255, rtol=1e-5)
    beyond = crop_and_resize(images, np.array([[-1, -1, 0, 0]] * 2, np.float32), 8).numpy()
    assert not beyond.any()


def test_crops_keep_to_their_bounds():
    rng = np.random.default_rng(0)
    top, left, bottom, right = draw_crops(Augment(), 20_000, rng).boxes().T.astype(np.float64)
    mirrored = left > right
    assert 0.48 < mirrored.mean() < 0.52
    left, right = np.minimum(left, right), np.maximum(left, right)
    for low, high in ((top, bottom), (left, right)):
        assert low.min() > -1e-6
        assert high.max() < 1 + 1e-6
        assert (high > low).all()
    area, aspect = (bottom - top) * (right - left), (right - left) / (bottom - top)
    inside = (bottom - top < 0.999) & (right - left < 0.999)
    assert 0.079 < area[inside].min() < 0.09
    assert area.max() > 0.95
    assert 0.749 < aspect[inside].min() < 0.76
    assert 1.32 < aspect[inside].max() < 1.334
    wide = draw_crops(Augment(area=(1.2, 1.2), aspect=(1.0, 1.0), flip=False), 1000, rng).boxes()
    np.testing.assert_allclose(wide[:, 2:] - wide[:, :2], np.sqrt(1.2), rtol=1e-5)
    assert wide.min() < -0.05
    assert (wide[:, :2] <= 0).all()
    assert (wide[:, 2:] >= 1).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"area": (0.5, 0.1)},
        {"area": (0, 1)},
        {"aspect": (1,)},
        {"aspect": [1, 2]},
        {"flip": 1},
        {"brightness": -1},
        {"saturation": 2},
    ],
)
def test_augmentations_that_break_a_rule_are_refused(arguments):
    with pytest.raises(FormatError, match=f"`{next(iter(arguments))}`"):
        Augment(**arguments)


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_preprocessing_is_by_default_one_step_per_integer():
    values = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    outputs = Preprocessing()(values).numpy()
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs * 128, values.astype(np.float32) - 128)
    own = Preprocessing((1.0, 2.0, 3.0), (2.0, 4.0, 8.0))
    np.testing.assert_allclose(own(values[10:11]), [[4.5, 2.0, 0.875]])
    for mean, std in (((1.0, 2.0), (1.0,) * 3), ((1.0,) * 3, (1.0, 0.0, 1.0)), ((float("nan"),) * 3, (1.0,) * 3)):
        with pytest.raises(FormatError, match="Preprocessing"):
            Preprocessing(mean, std)


def test_resizing_keeps_labels_and_whole_pixels():
    images = image_set(5, 16)
    assert images.resized(16) is images
    smaller = images.resized(8)
    assert smaller.labels is images.labels
    assert (smaller.images.shape, smaller.images.dtype) == ((5, 8, 8, 3), np.uint8)
    flat = ImageSet(np.full((2, 16, 16, 3), 200, np.uint8), np.zeros(2, np.int32))
    assert (flat.resized(9).images == 200).all()
