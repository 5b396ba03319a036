"""The split: class by class, nothing lost, and what cannot be measured is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import make_folder
from small_project import Hook

from ofa_tf.data import ImageSet
from ofa_tf.data.rules import FIRST, NEWEST
from ofa_tf.data.source import load_data, load_images, load_validation, split_images
from ofa_tf.errors import DataError


def image_set(sizes, seed=0):
    """Images of one pixel, each with a number of its own, in random order of the classes."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int32)
    numbers = np.arange(len(labels))
    images = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=1).astype(np.uint8)
    return ImageSet(images[:, None, None], labels)


def cut(sizes, seed=0, progress=None, rules=NEWEST, **parts):
    classes = [f"c{number}" for number in range(len(sizes))]
    return split_images("images", classes, {"train": image_set(sizes), **parts}, 1, seed, progress or Hook(), rules)


def counts(part, sizes):
    return np.bincount(part.labels, minlength=len(sizes))


def numbers(part):
    return [int.from_bytes(image.tobytes(), "little") for image in part.images]


@given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=30), seed=st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_every_class_is_trained_on_and_split_in_proportion(sizes, seed):
    sizes, n = np.array(sizes), sum(sizes)
    n_val = min(n // 10, n - len(sizes))
    n_tune = min(int((n - n_val) * 0.1), n - len(sizes) - n_val)
    if min(n_val, n_tune) < 2:
        with pytest.raises(DataError, match="images after the split"):
            cut(sizes, seed)
        return
    data = cut(sizes, seed)
    parts = (data.train, data.tune, data.val)
    train, tune, val = (counts(part, sizes) for part in parts)
    assert (train >= 1).all()
    assert (train + tune + val == sizes).all()
    assert (tune.sum(), val.sum()) == (n_tune, n_val)
    assert sorted(number for part in parts for number in numbers(part)) == list(range(n))
    whole = image_set(sizes)
    for part, again in zip(parts, (cut(sizes, seed).train, cut(sizes, seed).tune, cut(sizes, seed).val), strict=True):
        assert numbers(part) == sorted(numbers(part)) == numbers(again)
        assert (part.labels == whole.labels[numbers(part)]).all()
    if n_val >= (sizes > 1).sum():
        assert ((val >= 1) == (sizes > 1)).all(), "every class that can spare an image has one measured"
        assert (val <= np.maximum(1, np.ceil(sizes * n_val / n))).all()


def test_the_seed_makes_the_split():
    assert numbers(cut([50, 50], 1).val) != numbers(cut([50, 50], 2).val)


def test_a_rare_class_is_measured():
    data = cut([900, 3])
    assert [counts(part, "ab").tolist() for part in (data.train, data.tune, data.val)] == [[731, 1], [80, 1], [89, 1]]


def test_classes_that_cannot_be_measured_are_named(tmp_path):
    hook = Hook()
    data = cut([3] * 300, progress=hook)
    assert [len(part) for part in (data.train, data.tune, data.val)] == [729, 81, 90]
    assert counts(data.train, range(300)).min() >= 1
    assert not set(data.val.labels) & set(data.tune.labels), "one image of a class suffices"
    first = np.setdiff1d(np.arange(300), data.val.labels)[:5]
    names = ", ".join(f"'c{label}'" for label in first)
    assert hook.notes[0] == f"210 of 300 classes have no image for validation: {names} and 205 more."
    assert hook.notes[1].startswith("219 of 300 classes have no image that the accuracy predictor learns from: 'c")
    hook = Hook()
    make_folder(tmp_path, {"cat": 60, "dog": 60, "elk": 1})
    data = load_data(str(tmp_path), 16, progress=hook)
    assert counts(data.train, "abc").tolist() == [49, 49, 1]
    uses = ("for validation", "that the accuracy predictor learns from")
    assert hook.notes == [f"1 of 3 classes has no image {use}: 'elk'." for use in uses]


def test_given_validation_images_are_kept_and_what_they_lack_is_named(tmp_path):
    hook = Hook()
    val = image_set([5, 0, 2])
    data = cut([30, 30, 30], progress=hook, val=val)
    assert (data.val, counts(data.tune, "abc").tolist()) == (val, [3, 3, 3])
    assert hook.notes == ["1 of 3 classes has no image for validation: 'c1'."]


def test_an_imported_network_is_told_only_of_classes_that_the_folder_has(tmp_path, monkeypatch):
    monkeypatch.setattr("ofa_tf.data.source.LEAST_IMAGES", 10)
    make_folder(tmp_path / "some", {"cat": 30, "dog": 30, "elk": 1})
    hook = Hook()
    data = load_images(str(tmp_path / "some"), ("ape", "cat", "dog", "elk", "fox"), 16, progress=hook)
    assert counts(data.train, "abcde")[3] == 1
    assert "1 of 3 classes has no image for validation: 'elk'." in hook.notes
    make_folder(tmp_path / "none", {"all": 60})
    hook = Hook()
    data = load_images(str(tmp_path / "none"), ("ape", "cat"), 16, progress=hook)
    assert [len(part) for part in (data.train, data.tune, data.val)] == [49, 5, 6]
    assert not [note for note in hook.notes if "no image" in note]


def test_a_folder_is_evaluated_on_what_its_training_holds_out(tmp_path):
    make_folder(tmp_path, {"cat": 70, "dog": 4}, suffix="png")
    _, images = load_validation(str(tmp_path), 16, 3)
    np.testing.assert_array_equal(images.images, load_data(str(tmp_path), 16, 3).val.images)
    assert counts(images, "ab").tolist() == [6, 1]


def test_bundled_data_and_the_first_rules_are_split_at_random():
    data, old = (load_data("digits", 8, 3, rules=rules) for rules in (NEWEST, FIRST))
    np.testing.assert_array_equal(data.val.images, old.val.images)
    np.testing.assert_array_equal(data.tune.images, old.tune.images)
    assert counts(cut([900, 3], rules=FIRST).val, "ab").sum() == 90


@pytest.mark.parametrize("sizes", [[4, 4], [1] * 40])
def test_too_few_images_to_split_are_refused(sizes):
    with pytest.raises(DataError, match="leaves 0 validation images after the split"):
        cut(sizes)
