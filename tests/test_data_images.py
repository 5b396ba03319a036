"""Data: digits, folders with faults, the cache of decoded pixels."""

import os
import shutil
import time

import numpy as np
import pytest
from image_files import decode, encoded, identities, make_folder, pixels
from PIL import Image
from small_project import Hook

from ofa_tf.data import EncodedImageSet, ImageSet
from ofa_tf.data.cache import decode_all
from ofa_tf.data.decode import decode_square
from ofa_tf.data.encoded import in_order
from ofa_tf.data.source import load_data, load_validation
from ofa_tf.errors import DataError
from ofa_tf.project.opened import open_project

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


@pytest.mark.parametrize("name", ["validation", "test"])
def test_other_names_of_val(tmp_path, name):
    make_folder(tmp_path, {"cat": 30, "elk": 30})
    make_folder(tmp_path, {"cat": 3, "elk": 2}, part=name)
    assert len(load_data(str(tmp_path), 16).val) == 5
    classes, images = load_validation(str(tmp_path), 16)
    assert (classes, len(images)) == (("cat", "elk"), 5)
    shutil.rmtree(tmp_path / "train")
    assert len(load_validation(str(tmp_path), 16)[1]) == 5


def test_a_folder_called_like_a_data_set_is_in_nobodys_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    for _ in range(2):  # the workdir is called so, too
        assert open_project("digits", data="digits").config.data == "digits"
    assert len(load_validation("digits", 16)[1]) == 359


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
    refused("x" * 5000, "There is no data set 'xxx")
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
    refused(tmp_path / "new", "`val` of .* has the class 'cow', which `train` does not have")
    make_folder(tmp_path / "void", {"cat": 20, "dog": 20})
    (tmp_path / "void" / "val").mkdir()
    refused(tmp_path / "void", "void/val holds no images: it must have a folder of images for each class")
    make_folder(tmp_path / "thin", {"cat": 20, "dog": 20})
    make_folder(tmp_path / "thin", {"cat": 1}, part="val")
    refused(tmp_path / "thin", "has 1 images in `val`; at least 2 are needed")


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
    kept = decode_all(encoded(paths), 16)
    assert kept.labels.tolist() == [*range(70), *range(71, 120)]
    assert kept.images.shape == (119, 16, 16, 3)
    np.testing.assert_array_equal(kept.images[70], decode(paths[71], 16))
    progress = Hook()
    decode_all(encoded(paths), 16, progress=progress)
    assert progress.notes[0].startswith(f"Skipped: {paths[70]} cannot be read as an image")


@pytest.mark.parametrize(("n_broken", "fine"), [(1, True), (2, False), (100, False)])
def test_more_than_one_broken_image_in_a_hundred_is_too_much(tmp_path, n_broken, fine):
    paths = make_folder(tmp_path, {"cat": 50, "dog": 50})
    for path in paths[:n_broken]:
        path.write_bytes(b"no image")
    if fine:
        assert len(decode_all(encoded(paths), 16)) == 99
    else:
        message = rf"{n_broken} of 100 images \({n_broken}.0%\) cannot be read; the first: {paths[0]}"
        with pytest.raises(DataError, match=message):
            decode_all(encoded(paths), 16, cache=tmp_path / "cache")
        assert not (tmp_path / "cache").exists()


# --- cache ------------------------------------------------------------------------------------------------------------


def test_the_cache_answers_for_the_same_files_alone(tmp_path, monkeypatch):
    paths, cache = make_folder(tmp_path, {"cat": 3, "dog": 3}), tmp_path / "cache"
    images = decode_all(encoded(paths), 16, cache).images
    calls = []
    monkeypatch.setattr(
        "ofa_tf.data.cache.decode_square", lambda *arguments: calls.append(arguments) or decode_square(*arguments)
    )
    np.testing.assert_array_equal(decode_all(encoded(paths), 16, cache).images, images)
    assert not calls
    assert len(list(cache.iterdir())) == 1
    decode_all(encoded(paths), 12, cache)
    assert len(calls) == 6
    decode_all(encoded(paths[:5]), 16, cache)
    assert len(calls) == 11
    os.utime(paths[0], ns=(1, 1))
    decode_all(encoded(paths), 16, cache)
    assert len(calls) == 17
    Image.fromarray(pixels(99)).save(paths[0])
    changed = decode_all(encoded(paths), 16, cache).images
    assert len(calls) == 23
    assert not np.array_equal(changed[0], images[0])
    np.testing.assert_array_equal(changed[1:], images[1:])


@pytest.mark.parametrize("damage", ["empty", "half", "last byte", "text", "other images", "objects", "flipped"])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    paths, cache = make_folder(tmp_path, {"cat": 3, "dog": 3}), tmp_path / "cache"
    images = decode_all(encoded(paths), 16, cache).images
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
        np.testing.assert_array_equal(decode_all(encoded(paths), 16, cache).images, images)
    assert file.read_bytes()[:2] == b"PK"
    assert [path.name for path in cache.iterdir()] == [file.name]


def test_names_that_are_not_text_do_no_harm(tmp_path):
    (path,) = make_folder(tmp_path, {"cat": 1})
    odd = os.path.join(os.fsencode(path.parent), b"\xff\xfe.jpg")
    os.rename(path, odd)
    images = decode_all(encoded([path.parent / os.fsdecode(b"\xff\xfe.jpg")]), 16, tmp_path / "cache")
    assert images.images.shape == (1, 16, 16, 3)


# --- images that do not fit in memory ---------------------------------------------------------------------------------


@pytest.fixture
def no_memory(monkeypatch):
    monkeypatch.setattr("ofa_tf.data.cache.MEMORY_BYTES", 0)


def test_a_large_data_set_is_the_same_but_stays_encoded(tmp_path, monkeypatch):
    paths = make_folder(tmp_path, {"cat": 60, "dog": 60}, suffix="png")
    make_folder(tmp_path, {"cat": 4, "dog": 4}, part="val", suffix="png")
    paths[70].write_bytes(paths[70].read_bytes()[:200])
    memory = load_data(str(tmp_path), 16)
    monkeypatch.setattr("ofa_tf.data.cache.MEMORY_BYTES", 127 * 16 * 16 * 3)
    for attempt in range(2):  # the second time out of the cache
        progress = Hook()
        large = load_data(str(tmp_path), 16, cache=tmp_path / "cache", progress=progress)
        assert progress.notes[0].startswith("The images are decoded each time they are used: at 16 px")
        assert progress.notes[1 if attempt else 2] == "1 of 120 images cannot be read and were skipped."
        for part, other in ((large.train, memory.train), (large.tune, memory.tune), (large.val, memory.val)):
            assert isinstance(part, EncodedImageSet)
            assert part.labelled
            assert len(part) == len(other)
            np.testing.assert_array_equal(part.resized(16).images, other.images)
            np.testing.assert_array_equal(part.labels, other.labels)
    paths[3].unlink()
    with pytest.raises(DataError, match="There is no file"):
        large.train.resized(16)
    monkeypatch.setattr("ofa_tf.data.cache.MEMORY_BYTES", 128 * 16 * 16 * 3)
    Image.fromarray(pixels(4)).save(paths[3])
    assert isinstance(load_data(str(tmp_path), 16).train, ImageSet)


def test_too_many_broken_images_are_noticed_before_training(tmp_path, no_memory):
    paths = make_folder(tmp_path, {"cat": 50, "dog": 50})
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=rf"2 of 100 images \(2.0%\) cannot be read; the first: {paths[0]}"):
        load_data(str(tmp_path), 16, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kind", ["in memory", "encoded"])
def test_both_kinds_of_image_sets_give_the_same_batches(tmp_path, kind):
    paths = make_folder(tmp_path, {"cat": 23}, suffix="png")
    images = encoded(paths) if kind == "encoded" else decode_all(encoded(paths), 16)
    batches = list(images.batches(10, 16))
    assert [len(labels) for _, labels in batches] == [10, 10, 3]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), [pixels(n) for n in range(1, 24)])
    assert np.concatenate([labels for _, labels in batches]).tolist() == list(range(23))
    ((first, _), *_) = images.batches(1, 9)
    assert (first.shape, first.dtype) == ((1, 9, 9, 3), np.uint8)
    assert images.head(5).labels.tolist() == [0, 1, 2, 3, 4]
    assert len(images.head(99)) == 23
    for most in (23, 99):
        assert images.spread(most).labels.tolist() == list(range(23))
    assert images.spread(4).labels.tolist() == [0, 7, 14, 22]
    assert images.take(np.array([7, 2])).resized(16).labels.tolist() == [7, 2]


def test_results_come_in_order_and_not_far_ahead(monkeypatch):
    monkeypatch.setattr("ofa_tf.data.encoded.AHEAD", 3)
    started = []

    def work(number):
        started.append(number)
        time.sleep(0.02 if number % 2 else 0)
        return number

    results = in_order(work, range(100))
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(started) <= 14
    results.close()
    assert len(started) <= 14
