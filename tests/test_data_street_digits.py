"""The data set `street-digits`: drawn, reproducible with a seed, and cached."""

import numpy as np
import pytest

from ofa_tf.data import arrays, street_digits
from ofa_tf.data.source import load_data, load_validation, open_source
from ofa_tf.data.street_digits import load_street_digits
from ofa_tf.progress import SILENT


@pytest.fixture
def few(monkeypatch):
    """A smaller data set than the one that users get."""
    monkeypatch.setattr(street_digits, "N_TRAIN", 60)
    monkeypatch.setattr(street_digits, "N_VAL", 20)


def test_the_same_images_for_the_same_seed():
    first, again, other = (load_street_digits(20, 10, seed) for seed in (0, 0, 1))
    for part, n in (("train", 20), ("val", 10)):
        assert first[part].images.shape == (n, 32, 32, 3)
        np.testing.assert_array_equal(first[part].images, again[part].images)
        assert (first[part].images != other[part].images).any()


def test_all_classes_in_colour():
    images = load_street_digits(300, 10)["train"]
    assert set(images.labels) == set(range(10))
    assert (np.ptp(images.images.astype(int), axis=3).max((1, 2)) > 20).mean() > 0.9
    assert len({image.tobytes() for image in images.images}) == 300


def test_no_handwritten_digit_is_in_both_parts(monkeypatch):
    """The digits drawn for the one part are none of those drawn for the other."""
    chosen = []
    drawn = street_digits._draw
    monkeypatch.setattr(
        street_digits, "_draw", lambda rng, glyph, *rest: chosen.append(glyph.tobytes()) or drawn(rng, glyph, *rest)
    )
    load_street_digits(200, 200)
    assert not set(chosen[:200]) & set(chosen[200:])


def test_a_digit_is_brighter_than_what_is_behind_it():
    rng = np.random.default_rng(0)
    for behind in (0, 60, 150, 250):
        background = np.full(3, float(behind))
        colours = np.array([street_digits._colour(rng, background) for _ in range(100)])
        assert colours.min() >= 0
        assert colours.max() <= 255
        if behind < 150:
            assert (colours.mean(1) - behind).min() >= street_digits.MIN_CONTRAST * 0.7


def test_a_cache_is_read_and_a_broken_one_replaced(few, tmp_path):
    classes, parts = open_source("street-digits", tmp_path, SILENT)
    assert classes == tuple("0123456789")
    (file,) = tmp_path.iterdir()
    np.testing.assert_array_equal(parts["val"].images, arrays.read_npz(file)[1]["val"].images)
    file.write_bytes(file.read_bytes()[:1000])
    again = open_source("street-digits", tmp_path, SILENT)[1]
    np.testing.assert_array_equal(parts["train"].images, again["train"].images)
    assert len(arrays.read_npz(file)[1]["train"]) == len(parts["train"])


def test_its_validation_images_are_its_own(few):
    data = load_data("street-digits", 24)
    assert [len(part) for part in (data.train, data.tune, data.val)] == [54, 6, 20]
    assert data.train.images.shape[1:] == (24, 24, 3)
    assert len(load_validation("street-digits", 32)[1]) == 20
