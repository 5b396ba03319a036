"""Data: sources, folders with faults, the cache of decoded pixels, and training batches."""

import contextlib
import os
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_project import Hook

from ofa_tf.data import Preprocessing, load_data, training_batches
from ofa_tf.data.augment import Augment, crop_boxes
from ofa_tf.data.batches import batch_indices, crop_and_resize
from ofa_tf.data.folder import decode, decode_all
from ofa_tf.data.images import ImageSet
from ofa_tf.errors import DataError, FormatError

PLAIN = Augment(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=False)


def pixels(seed=0, size=16, channels=3):
    shape = (size, size, channels) if channels > 1 else (size, size)
    return np.random.default_rng(seed).integers(256, size=shape).astype(np.uint8)


def make_folder(root, counts, part="train", suffix="jpg"):
    """Makes `part/<class>/` with so many random images each; returns all paths."""
    paths = []
    for name, count in counts.items():
        folder = root / part / name
        folder.mkdir(parents=True)
        for index in range(count):
            paths.append(folder / f"{index:03}.{suffix}")
            Image.fromarray(pixels(len(paths))).save(paths[-1])
    return paths


def identities(images):
    return [image.tobytes() for image in images.images]


# --- digits -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", 16, seed=3)


def test_digits_are_split_into_disjoint_parts(digits):
    assert digits.classes == tuple("0123456789")
    assert [len(part) for part in (digits.train, digits.tune, digits.val)] == [1295, 143, 359]
    for part in (digits.train, digits.tune, digits.val):
        assert part.images.shape[1:] == (16, 16, 3)
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int32)
        assert set(part.labels) == set(range(10))
    whole = [image for part in (digits.train, digits.tune, digits.val) for image in identities(part)]
    from sklearn.datasets import load_digits

    assert len(whole) == 1797
    assert len(set(whole)) == len({image.tobytes() for image in load_digits().images})


def test_the_seed_makes_the_split(digits):
    again, other = load_data("digits", 16, seed=3), load_data("digits", 16, seed=4)
    assert identities(again.val) == identities(digits.val)
    assert identities(again.tune) == identities(digits.tune)
    assert identities(other.val) != identities(digits.val)


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_without_val_is_split(tmp_path):
    make_folder(tmp_path, {"cat": 30, "dog": 30}, suffix="png")
    data = load_data(str(tmp_path), 16)
    assert data.classes == ("cat", "dog")
    assert [len(part) for part in (data.train, data.tune, data.val)] == [49, 5, 6]
    whole = [image for part in (data.train, data.tune, data.val) for image in identities(part)]
    assert set(whole) == {pixels(seed).tobytes() for seed in range(1, 61)}
    dogs = {pixels(seed).tobytes() for seed in range(31, 61)}
    for part in (data.train, data.tune, data.val):
        assert [image in dogs for image in identities(part)] == (part.labels == 1).tolist()


def test_a_folder_with_val_keeps_it_and_its_labels(tmp_path):
    make_folder(tmp_path, {"cat": 20, "dog": 20, "elk": 20})
    make_folder(tmp_path, {"elk": 2, "cat": 3}, part="val")
    data = load_data(str(tmp_path), 16)
    assert [len(part) for part in (data.train, data.tune, data.val)] == [54, 6, 5]
    assert data.val.labels.tolist() == [0, 0, 0, 2, 2]


def refused(spec, message):
    with pytest.raises(DataError, match=message):
        load_data(str(spec), 16)


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    refused("digit", "There is no data set 'digit': give one of")
    refused(tmp_path, "has no folder `train`")
    (tmp_path / "train").mkdir()
    refused(tmp_path, "holds no images")
    (tmp_path / "train" / "notes.txt").write_text("x")
    (tmp_path / "train" / "cat").mkdir()
    refused(tmp_path, "holds no images")
    paths = make_folder(tmp_path / "one", {"cat": 20})
    refused(tmp_path / "one", "has only the class 'cat'; a classifier needs at least two")
    refused(paths[0], "There is no data set")
    make_folder(tmp_path / "few", {"cat": 4, "dog": 4})
    refused(tmp_path / "few", "leaves 0 validation images after the split")
    make_folder(tmp_path / "new", {"cat": 20, "dog": 20})
    make_folder(tmp_path / "new", {"cat": 2, "cow": 2}, part="val")
    refused(tmp_path / "new", "has the class 'cow', which `train` does not have")


def test_hidden_folders_and_other_files_are_passed_over(tmp_path):
    make_folder(tmp_path, {"cat": 20, "dog": 20, ".cache": 20})
    (tmp_path / "train" / "cat" / "labels.txt").write_text("x")
    (tmp_path / "train" / "none").mkdir()
    data = load_data(str(tmp_path), 16)
    assert data.classes == ("cat", "dog")
    assert len(data.train) + len(data.tune) + len(data.val) == 40


# --- broken images ----------------------------------------------------------------------------------------------------


def test_a_broken_image_is_named_and_left_out(tmp_path):
    paths = make_folder(tmp_path, {"cat": 60, "dog": 60})
    paths[70].write_bytes(paths[70].read_bytes()[:200])
    for _ in range(2):  # the second time out of the cache
        progress = Hook()
        data = load_data(str(tmp_path), 16, cache=tmp_path / "cache", progress=progress)
        assert progress.notes[-1] == "1 of 120 images cannot be read and were skipped."
        assert len(data.train) + len(data.tune) + len(data.val) == 119
        labels = np.concatenate([part.labels for part in (data.train, data.tune, data.val)])
        assert np.bincount(labels).tolist() == [60, 59]
    images, good = decode_all(paths, 16)
    assert np.flatnonzero(~good).tolist() == [70]
    assert images.shape == (119, 16, 16, 3)
    np.testing.assert_array_equal(images[70], decode(paths[71], 16))
    progress = Hook()
    decode_all(paths, 16, progress=progress)
    assert progress.notes[0].startswith(f"Skipped: {paths[70]} cannot be read as an image")


@pytest.mark.parametrize(("n_broken", "fine"), [(1, True), (2, False), (100, False)])
def test_more_than_one_broken_image_in_a_hundred_is_too_much(tmp_path, n_broken, fine):
    paths = make_folder(tmp_path, {"cat": 50, "dog": 50})
    for path in paths[:n_broken]:
        path.write_bytes(b"no image")
    if fine:
        assert decode_all(paths, 16)[1].sum() == 99
    else:
        message = rf"{n_broken} of 100 images \({n_broken}.0%\) cannot be read, the first: {paths[0]}"
        with pytest.raises(DataError, match=message):
            decode_all(paths, 16, cache=tmp_path / "cache")
        assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "tif"])
def test_damaged_images_are_refused_or_decoded(tmp_path, suffix):
    path, rng = tmp_path / f"x.{suffix}", np.random.default_rng(0)
    Image.fromarray(pixels(size=12)).save(path)
    content = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(content)
        for position in rng.integers(len(content), size=rng.integers(1, 6)):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(1, len(damaged) + 1)] if rng.random() < 0.3 else damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(DataError):
                assert decode(path, 8).shape == (8, 8, 3)


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(DataError, match=r"bomb\.png cannot be read as an image"):
        decode(tmp_path / "bomb.png", 16)


# --- kinds of images --------------------------------------------------------------------------------------------------


def test_every_kind_of_image_becomes_upright_rgb(tmp_path):
    grey = np.repeat(np.repeat(np.array([[0, 80], [160, 240]], np.uint8), 8, 0), 8, 1)
    expected = np.repeat(grey[..., None], 3, axis=2)
    path = tmp_path / "x"

    def check(image, suffix, atol=0, **arguments):
        file = path.with_suffix(suffix)
        image.save(file, **arguments)
        actual = decode(file, 16)
        assert (actual.shape, actual.dtype) == ((16, 16, 3), np.uint8)
        np.testing.assert_allclose(actual.astype(int), expected, atol=atol)

    check(Image.fromarray(grey), ".png")
    check(Image.fromarray(grey).convert("LA"), ".png")
    check(Image.fromarray(expected).convert("RGBA"), ".png")
    check(Image.fromarray(expected).quantize(8, dither=Image.Dither.NONE), ".png", atol=2)
    check(Image.fromarray(grey.astype(np.uint16) * 256 + 7), ".png")
    check(Image.fromarray(grey.astype(np.int32) * 256), ".tif")
    check(Image.fromarray(grey), ".jpg", atol=3)
    check(Image.fromarray(expected).convert("CMYK"), ".jpg", atol=6)
    check(Image.fromarray(grey), ".gif", save_all=True, append_images=[Image.new("L", (16, 16), 255)] * 2)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: to be shown clockwise
    check(Image.fromarray(np.rot90(expected)), ".png", exif=exif)
    check(Image.fromarray(np.rot90(expected)), ".jpg", atol=3, exif=exif)


def test_the_centre_square_is_taken(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = pixels(size=10)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    np.testing.assert_array_equal(decode(tmp_path / "wide.png", 10), pixels(size=10))
    np.testing.assert_array_equal(decode(tmp_path / "tall.png", 10), pixels(size=10).transpose(1, 0, 2))


# --- cache ------------------------------------------------------------------------------------------------------------


def test_the_cache_answers_for_the_same_files_alone(tmp_path, monkeypatch):
    paths, cache = make_folder(tmp_path, {"cat": 3, "dog": 3}), tmp_path / "cache"
    images, good = decode_all(paths, 16, cache)
    assert good.all()
    calls = []
    monkeypatch.setattr("ofa_tf.data.folder.decode", lambda *arguments: calls.append(arguments) or decode(*arguments))
    again, _ = decode_all(paths, 16, cache)
    np.testing.assert_array_equal(again, images)
    assert not calls
    assert len(list(cache.iterdir())) == 1
    decode_all(paths, 12, cache)
    assert len(calls) == 6
    decode_all(paths[:5], 16, cache)
    assert len(calls) == 11
    os.utime(paths[0], ns=(1, 1))
    decode_all(paths, 16, cache)
    assert len(calls) == 17
    Image.fromarray(pixels(99)).save(paths[0])
    changed, _ = decode_all(paths, 16, cache)
    assert len(calls) == 23
    assert not np.array_equal(changed[0], images[0])
    np.testing.assert_array_equal(changed[1:], images[1:])


@pytest.mark.parametrize("damage", ["empty", "half", "last byte", "text", "other images", "objects", "flipped"])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    paths, cache = make_folder(tmp_path, {"cat": 3, "dog": 3}), tmp_path / "cache"
    images, _ = decode_all(paths, 16, cache)
    (file,) = cache.iterdir()
    content = file.read_bytes()
    if damage == "other images":
        np.savez(file, images=images[:3], good=np.ones(6, bool))
    elif damage == "objects":
        np.savez(file, images=np.array([{}], object), good=np.ones(6, bool))
    elif damage == "flipped":
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        file.write_bytes(
            {"empty": b"", "half": content[: len(content) // 2], "last byte": content[:-1]}.get(damage, b"x")
        )
    for _ in range(2):
        again, good = decode_all(paths, 16, cache)
        np.testing.assert_array_equal(again, images)
        assert good.all()
    assert file.read_bytes()[:2] == b"PK"
    assert [path.name for path in cache.iterdir()] == [file.name]


def test_names_that_are_not_text_do_no_harm(tmp_path):
    (path,) = make_folder(tmp_path, {"cat": 1})
    odd = os.path.join(os.fsencode(path.parent), b"\xff\xfe.jpg")
    os.rename(path, odd)
    images, good = decode_all([path.parent / os.fsdecode(b"\xff\xfe.jpg")], 16, tmp_path / "cache")
    assert good.tolist() == [True]
    assert images.shape == (1, 16, 16, 3)


# --- batches ----------------------------------------------------------------------------------------------------------


def image_set(n=20, size=12):
    images = np.random.default_rng(1).integers(256, size=(n, size, size, 3)).astype(np.uint8)
    return ImageSet(images, np.arange(n, dtype=np.int32))


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
    beyond = crop_and_resize(images, np.array([[-1, -1, 0, 0]] * 2, np.float32), 8).numpy()
    assert not beyond.any()


def test_crops_keep_to_their_bounds():
    rng = np.random.default_rng(0)
    top, left, bottom, right = crop_boxes(Augment(), 20_000, rng).T.astype(np.float64)
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
    wide = crop_boxes(Augment(area=(1.2, 1.2), aspect=(1.0, 1.0), flip=False), 1000, rng)
    np.testing.assert_allclose(wide[:, 2:] - wide[:, :2], np.sqrt(1.2), rtol=1e-5)
    assert wide.min() < -0.05
    assert (wide[:, :2] <= 0).all()
    assert (wide[:, 2:] >= 1).all()


@pytest.mark.parametrize(
    "arguments", [{"area": (0.5, 0.1)}, {"area": (0, 1)}, {"aspect": (1,)}, {"aspect": [1, 2]}, {"flip": 1}]
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
