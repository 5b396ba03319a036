"""Pictures."""

import numpy as np
import pytest
from PIL import Image

from ofa_tf.report.plot import Series, plot_front, plot_shares

FRONT = Series([3.0, 1.0, 2.0], np.array([0.9, 0.7, 0.8]))
EVALUATED = Series(np.array([1.5, 2.5]), [0.6, 0.7])
CHOSEN = Series([1.1, 2.9], [0.69, 0.91])


def test_the_front_is_a_picture_with_something_on_it(tmp_path):
    path = tmp_path / "front.png"
    plot_front(path, "host (int8, measured)", FRONT, EVALUATED, CHOSEN, ["1.2 ms", "3 ms"])
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 600 <= image.width <= 3000
        assert 400 <= image.height <= 2000
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for red, green, blue in ((0x1F, 0x6F, 0xEB), (0xD1, 0x24, 0x2F), (0x9A, 0xA5, 0xB1)):  # front, chosen, evaluated
        assert (np.abs(pixels - [red, green, blue]).max(1) < 12).sum() > 50
    assert [file.name for file in tmp_path.iterdir()] == ["front.png"]


def test_what_is_drawn_changes_the_picture_and_nothing_else_does(tmp_path):
    def draw(name, chosen=CHOSEN, labels=("1.2 ms", "3 ms")):
        plot_front(tmp_path / name, "host", FRONT, EVALUATED, chosen, labels)
        with Image.open(tmp_path / name) as image:
            return np.asarray(image).copy()

    first = draw("first.png")
    np.testing.assert_array_equal(first, draw("again.png"))
    assert (first != draw("moved.png", Series([1.4, 2.9], [0.69, 0.91]))).any()
    assert (first != draw("renamed.png", labels=("1.3 ms", "3 ms"))).any()


def test_every_chosen_file_needs_its_label(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        plot_front(tmp_path / "front.png", "host", FRONT, EVALUATED, CHOSEN, ["1 ms"])
    assert not list(tmp_path.iterdir())


def test_odd_names_are_drawn_as_they_are(tmp_path):
    plot_front(tmp_path / "é [x].png", "phone $x^{2 (int8)", FRONT, Series([], []), Series([], []), [])
    assert (tmp_path / "é [x].png").stat().st_size > 5000
    plot_shares(tmp_path / "shares.svg", "phone $x^{2$ (int8)", {"smallest": {"stem": 1.0, "head": 2.0}})
    assert "phone $x^{2$ (int8)" in (tmp_path / "shares.svg").read_text()
