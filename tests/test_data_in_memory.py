"""Images that a program hands over."""

import numpy as np
import pytest
import tensorflow as tf

from ofa_tf.data.in_memory import digest, read_npz, take_in, write_npz
from ofa_tf.data.source import load_data, split_images
from ofa_tf.errors import DamagedError, DataError


def pixels(n=6, height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3)).astype(np.uint8)


LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_arrays_are_taken_as_they_are():
    images = pixels()
    classes, parts = take_in((images, LABELS), 32)
    assert classes == ("0", "1", "2")
    np.testing.assert_array_equal(parts["train"].images, images)
    np.testing.assert_array_equal(parts["train"].labels, LABELS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint16])
def test_numbers_from_0_to_255_are_pixels(dtype):
    images = pixels()
    _, parts = take_in((images.astype(dtype), LABELS), 32)
    np.testing.assert_array_equal(parts["train"].images, images)


def test_grey_images_get_three_channels_and_others_their_centre():
    grey = pixels()[..., 0]
    for images in (grey, grey[..., None]):
        np.testing.assert_array_equal(take_in((images, LABELS), 32)[1]["train"].images, np.stack([grey] * 3, 3))
    wide = pixels(width=12)
    np.testing.assert_array_equal(take_in((wide, LABELS[:, None]), 32)[1]["train"].images, wide[:, :, 2:10])


def test_large_images_are_reduced():
    _, parts = take_in({"train": (pixels(6, 40, 40), LABELS), "val": (pixels(3, 20, 20), [0, 1, 2])}, 24, "abc")
    assert parts["train"].images.shape == (6, 24, 24, 3)
    assert parts["val"].images.shape == (3, 20, 20, 3)


@pytest.mark.parametrize("batch", [0, 4])
def test_a_dataset_is_read_to_its_end(batch):
    images = pixels()
    dataset = tf.data.Dataset.from_tensor_slices((images, LABELS))
    classes, parts = take_in(dataset.batch(batch) if batch else dataset, 32, ["a", "b", "c"])
    assert classes == ("a", "b", "c")
    np.testing.assert_array_equal(parts["train"].images, images)
    np.testing.assert_array_equal(parts["train"].labels, LABELS)


def test_a_dataset_of_several_sizes_gets_one():
    def generate():
        for size in (8, 16, 12):
            yield pixels(1, size, size)[0].astype(np.float32), size % 3

    signature = tf.TensorSpec((None, None, 3)), tf.TensorSpec((), tf.int32)
    _, parts = take_in(tf.data.Dataset.from_generator(generate, output_signature=signature), 32)
    assert parts["train"].images.shape == (3, 8, 8, 3)


def endless():
    return tf.data.Dataset.from_tensor_slices((pixels(), LABELS)).repeat()


def generated_without_end():
    def generate():
        while True:
            yield pixels(1)[0], 1

    signature = tf.TensorSpec((8, 8, 3), tf.uint8), tf.TensorSpec((), tf.int32)
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((pixels()[0], LABELS), "8 images and labels of shape"),
        ((pixels()[None], LABELS), r"shape \[1, 6, 8, 8, 3\]"),
        ((pixels()[..., :2], LABELS), r"shape \[6, 8, 8, 2\]"),
        ((pixels()[:0], LABELS[:0]), r"shape \[0, 8, 8, 3\]"),
        ((pixels().astype(str), LABELS), "images of type"),
        ((pixels() / 255, LABELS), "values up to .*without normalisation"),
        ((pixels() / 127.5 - 1, LABELS), "from -1 to .*without normalisation"),
        ((pixels() * 256.0, LABELS), "values from .* pixels from 0 to 255"),
        ((pixels() * np.nan, LABELS), "values from nan"),
        ((pixels(), LABELS[:5]), r"6 images and labels of shape \[5\]"),
        ((pixels(), np.eye(6)), r"labels of shape \[6, 6\]: one integer for each"),
        ((pixels(), LABELS / 2), "labels of type float64"),
        ((pixels(), LABELS - 1), "labels from -1 to 1"),
        ((pixels(), LABELS * 0), "at least two classes"),
        (pixels(), "is of type ndarray: give a folder"),
        ((pixels(),), "is of type tuple: give"),
        (7, "is of type int: give"),
        ({"val": (pixels(), LABELS)}, "it needs `train`"),
        ({"train": (pixels(), LABELS), "test": (pixels(), LABELS)}, "it needs `train` and may also have `val`"),
        (tf.data.Dataset.from_tensor_slices(pixels()), "pairs .image, label."),
        (tf.data.Dataset.from_tensor_slices((pixels(), LABELS)).take(0), "an empty dataset"),
        (tf.data.Dataset.from_tensor_slices((pixels() / 255, LABELS)), "values up to .*without normalisation"),
        (endless(), "without an end"),
        (generated_without_end(), "more than .* images of 32 px"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_other_data_are_refused(monkeypatch, data, said):
    monkeypatch.setattr("ofa_tf.data.in_memory.MEMORY_BYTES", 40 * 32 * 32 * 3)
    with pytest.raises(DataError, match=said):
        take_in(data, 32)


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "a"], []])
def test_other_numbers_of_names_are_refused(names):
    with pytest.raises(DataError, match="one name for each class"):
        take_in((pixels(), LABELS), 32, names)


def test_the_digest_tells_images_labels_and_names_apart():
    def of(images, labels, names="abc"):
        return digest(*take_in((images, labels), 32, names))

    assert of(pixels(), LABELS) == of(pixels(), LABELS)
    others = [of(pixels(seed=1), LABELS), of(pixels(), LABELS[::-1]), of(pixels(), LABELS, "abx")]
    assert len({of(pixels(), LABELS), *others}) == 4


def test_a_file_keeps_them(tmp_path):
    rng = np.random.default_rng(0)
    classes, parts = take_in((pixels(40), rng.integers(3, size=40)), 32, ["é", "b", "c"])
    path = tmp_path / "images.npz"
    write_npz(path, classes, parts)
    names, read = read_npz(path)
    assert names == classes
    assert digest(names, read) == digest(classes, parts)
    whole, kept = split_images("x", classes, parts, 32, seed=3), load_data(str(path), 32, seed=3)
    for part in ("train", "tune", "val"):
        np.testing.assert_array_equal(getattr(whole, part).labels, getattr(kept, part).labels)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": pixels()}, "it has 'x'"),
        ({"val_images": pixels(), "val_labels": LABELS}, "it lacks the first two"),
        ({"train_images": pixels(), "train_labels": LABELS, "more": LABELS}, "it has 'more'"),
        ({"train_images": pixels(), "train_labels": LABELS, "classes": np.arange(3)}, "a list of strings"),
        ({"train_images": LABELS, "train_labels": LABELS}, "images.npz: "),
        ({"train_images": pixels(), "train_labels": LABELS[:3]}, "images.npz: .* 6 images and labels"),
    ],
)
def test_other_files_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(DataError, match=said):
        read_npz(tmp_path / "images.npz")


def test_absent_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read_npz(tmp_path / "images.npz")
    (tmp_path / "images.npz").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(DamagedError, match="is damaged"):
        read_npz(tmp_path / "images.npz")
