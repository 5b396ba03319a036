"""Pictures."""

import numpy as np
import pytest
from PIL import Image

from ofa_tf.report.plot import Series, plot_front, plot_fronts, plot_shares

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


@pytest.fixture
def kept_figure(monkeypatch):
    """The axes of the last picture, which stay open."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    close = pyplot.close
    monkeypatch.setattr(pyplot, "close", lambda figure: None)
    yield lambda: pyplot.gcf().axes[0]
    close("all")


def extents(axes):
    """Where the words of the labels and the legend are."""
    from matplotlib.text import Text

    axes.figure.draw_without_rendering()
    labels = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}
    return labels, axes.get_legend().get_window_extent()


def assert_disjoint(boxes):
    for index, box in enumerate(boxes):
        assert not [other for other in boxes[:index] if box.overlaps(other)]


AWKWARD = {
    "together": [(0.1 + index / 1e4, 0.8 - index / 1e4) for index in range(8)],
    "the same point": [(0.1, 0.8)] * 12,
    "corners": [(0.05, 0.5), (0.25, 0.9), (0.05, 0.9), (0.25, 0.5), (0.249, 0.51)],
    "on the front": [(0.1, 0.7), (0.11, 0.71), (0.12, 0.72), (0.12, 0.721)],
}


@pytest.mark.parametrize("points", AWKWARD.values(), ids=AWKWARD)
def test_labels_cover_neither_each_other_nor_points_nor_the_legend(tmp_path, kept_figure, points):
    front = Series(np.geomspace(0.05, 0.25, 9), np.linspace(0.5, 0.9, 9))
    names = [f"a budget of {index / 7:.3g} ms" for index in range(len(points))]
    plot_front(tmp_path / "front.png", "host", front, EVALUATED, Series(*zip(*points, strict=True)), names)
    axes = kept_figure()
    labels, legend = extents(axes)
    assert sorted(labels) == sorted(names), "there is room for all"
    assert_disjoint([legend, *labels.values()])
    for label in labels.values():
        assert not any(label.contains(*point) for point in axes.transData.transform([(x, y * 100) for x, y in points]))
        assert axes.bbox.contains(*label.min)
        assert axes.bbox.contains(*label.max)


def test_labels_that_there_is_no_room_for_are_left_out(tmp_path, kept_figure):
    names = [f"{index} " + "long " * 8 for index in range(200)]
    plot_front(tmp_path / "front.png", "host", FRONT, EVALUATED, Series([2.0] * 200, [0.8] * 200), names)
    labels, legend = extents(kept_figure())
    assert 1 < len(labels) < 200
    assert_disjoint([legend, *labels.values()])


@pytest.mark.parametrize(("fastest", "slowest"), [(0.001, 300), (0.05, 0.3), (1.01, 1.09), (2.0, 2.0), (0.9, 11)])
def test_ticks_are_some_and_do_not_touch(tmp_path, kept_figure, fastest, slowest):
    plot_fronts(tmp_path / "front.png", {"host": Series(np.geomspace(fastest, slowest, 9), np.linspace(0.5, 0.9, 9))})
    axes = kept_figure()
    axes.figure.draw_without_rendering()
    shown = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    assert 3 <= len(shown) <= 14
    assert_disjoint(shown)


def test_every_chosen_file_needs_its_label(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        plot_front(tmp_path / "front.png", "host", FRONT, EVALUATED, CHOSEN, ["1 ms"])
    assert not list(tmp_path.iterdir())


def test_odd_names_are_drawn_as_they_are(tmp_path):
    plot_front(tmp_path / "é [x].png", "phone $x^{2 (int8)", FRONT, Series([], []), Series([], []), [])
    assert (tmp_path / "é [x].png").stat().st_size > 5000
    plot_shares(tmp_path / "shares.svg", "phone $x^{2$ (int8)", {"smallest": {"stem": 1.0, "head": 2.0}})
    assert "phone $x^{2$ (int8)" in (tmp_path / "shares.svg").read_text()
