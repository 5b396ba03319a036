"""What a file gets wrong, as pictures."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from ofa_tf.report.pictures import confusion_of, draw_confusion, draw_worst, worst_images

LABELS = np.array([0, 0, 0, 1, 1, 2])


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return image.size


def test_images_are_counted_by_true_and_predicted_class():
    confusion = confusion_of(LABELS, np.array([0, 1, 1, 1, 1, 0]), ["a", "b", "c"])
    np.testing.assert_array_equal(confusion.counts, [[1, 2, 0], [0, 2, 0], [1, 0, 0]])
    assert (confusion.rows, confusion.columns) == (["a", "b", "c"], ["a", "b", "c"])


def test_of_many_classes_the_twenty_with_most_errors_are_drawn():
    labels = np.repeat(np.arange(100), 5)
    predicted = labels.copy()
    predicted[7 * 5 : 8 * 5] = [99, 99, 98, 7, 7]  # three wrong, two of them at a class that is drawn
    predicted[99 * 5] = 7
    confusion = confusion_of(labels, predicted, [f"class {index}" for index in range(100)])
    assert confusion.counts.shape == (20, 21)
    assert confusion.columns == [*confusion.rows, "another class"]
    assert (confusion.counts.sum(1) == 5).all(), "no image is lost"
    row = confusion.rows.index("class 7")
    column = confusion.rows.index("class 99")
    assert confusion.counts[row, [row, column, 20]].tolist() == [2, 2, 1]
    assert confusion.counts[column, row] == 1


def test_the_worst_are_wrong_and_the_surest_comes_first():
    logits = np.array([[9, 0, 0], [0, 2, 0], [0, 8, 0], [1, 0, 0], [0, 1, 0], [0.5, 0, 0]], np.float32)
    chosen, probabilities = worst_images(logits, LABELS)
    assert chosen.tolist() == [2, 1, 3, 5]
    softmax = np.exp(logits[chosen]) / np.exp(logits[chosen]).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, softmax.max(1), rtol=1e-6)
    assert len(worst_images(np.tile([1000.0, 0.0], (50, 1)), np.ones(50, int))[0]) == 10
    assert len(worst_images(np.eye(3), np.arange(3))[0]) == 0


@pytest.mark.parametrize("n", [2, 3, 12, 13, 30, 31, 1000])
def test_a_matrix_of_any_number_of_classes_is_a_picture(n):
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(n, size=(2, 5 * n))
    names = [f"class $x^{{{index} 名 {'long ' * (index % 9)}" for index in range(n)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = draw_confusion(confusion_of(labels, predicted, names), 0.5, 5 * n, n)
    assert 300 < min(size_of(png)) <= max(size_of(png)) < 1300
    assert len(png) < 200_000


@pytest.mark.parametrize("n", [0, 1, 5, 6, 10])
def test_any_number_of_worst_images_is_a_picture(n):
    pixels = np.random.default_rng(0).integers(256, size=(n, 24, 24, 3)).astype(np.uint8)
    png = draw_worst(pixels, [("$a$", 0.5, "b" * 300)] * n)
    assert size_of(png) == (1000, {0: 100, 1: 300, 5: 300}.get(n, 550))
    assert len(png) < 500_000
