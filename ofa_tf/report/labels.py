"""Labels of points in a picture, placed so that none covers another, a marker, or the legend."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator
from matplotlib.transforms import Bbox

FONT_SIZE, MARKER, GAP = 9, 12, 3  # points
RINGS = (10, 22, 36, 52, 70, 90, 115, 145, 180)  # how far from its point a label may be, in points
DIRECTIONS = (-30, 30, 150, 210, -60, 60, 120, 240, -90, 90)  # degrees: which side is tried first
SHARE = {"left": 0.0, "center": 0.5, "right": 1.0}  # of the words that is left of the offset
SPACING = 4  # pixels between the points that stand for a line
# From many ticks to few: multiples of the powers of ten.
MULTIPLES = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))


def place_labels(axes: Axes, marks: Sequence[tuple[float, float, str]]) -> None:
    """Writes a label beside each point; a line leads to those that have to stand apart.

    Labels cover neither each other nor the points nor the legend, and as little as possible of what else is drawn. One
    that there is no room for is left out.

    Args:
        axes: what else is on them is drawn already.
        marks: x and y of a point in data coordinates, and its label.
    """
    figure = _figure(axes)
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    half = MARKER / 2 * scale
    points = [axes.transData.transform(mark[:2]) for mark in sorted(marks)]
    taken = [Bbox.from_extents(*(point - half), *(point + half)) for point in points]
    if (legend := axes.get_legend()) is not None:
        taken.append(legend.get_window_extent())
    drawn = _drawn(axes)
    placed: list[Bbox] = []
    for point, (x, y, label) in zip(points, sorted(marks), strict=True):
        text = axes.annotate(
            label,
            (x, y),
            (0, 0),
            textcoords="offset points",
            fontsize=FONT_SIZE,
            va="center",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": "#57606a", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4},
        )
        text.set_in_layout(False)
        size, best = _size(text) + GAP * scale, None
        for ring, offset in _offsets():
            end = point + np.array(offset) * scale
            corner = end - size * (SHARE[_side(offset)], 0.5)
            box, line = Bbox([corner, corner + size]), _between(point, end) if ring else np.empty((0, 2))
            if _inside(box, axes.bbox) and not any(box.overlaps(other) for other in taken):
                crossed = sum(_count(line, other) > 0 for other in placed)
                cost = ring + crossed * len(RINGS) + _count(drawn, box) / 2
                if best is None or cost < best[0]:
                    best = cost, ring, offset, box, line
        if best is None:
            text.remove()
            continue
        _, ring, offset, box, line = best
        text.set_position(offset)
        text.set_horizontalalignment(_side(offset))
        if text.arrow_patch is not None:
            text.arrow_patch.set_visible(ring > 0)
        taken.append(box)
        placed.append(box)
        drawn = np.concatenate([drawn, line])


def _offsets() -> Iterator[tuple[int, tuple[float, float]]]:
    """Where a label may be, nearest first: the number of the ring, and the offset in points."""
    for ring, distance in enumerate(RINGS):
        for degrees in DIRECTIONS:
            angle = np.deg2rad(degrees + 15 * (ring % 2))
            yield ring, (distance * float(np.cos(angle)), distance * float(np.sin(angle)))


def _side(offset: tuple[float, float]) -> Literal["left", "center", "right"]:
    """Which side of the words is at an offset."""
    return "left" if offset[0] > 1 else "right" if offset[0] < -1 else "center"


def _size(text: Annotation) -> np.ndarray:
    """Width and height of the words, in pixels."""
    canvas = _figure(text).canvas
    assert isinstance(canvas, FigureCanvasAgg)
    text.update_positions(canvas.get_renderer())
    return np.array(Text.get_window_extent(text).size)


def _drawn(axes: Axes) -> np.ndarray:
    """Points on all lines and of all markers, in pixels: float64 of shape (points, 2)."""
    parts = [axes.transData.transform(collection.get_offsets()) for collection in axes.collections]
    for line in axes.get_lines():
        corners = axes.transData.transform(line.get_xydata())
        parts += [_between(start, stop) for start, stop in pairwise(corners)]
    return np.concatenate([np.empty((0, 2)), *parts])


def _between(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    return np.linspace(start, stop, 2 + int(np.hypot(*(stop - start)) / SPACING))


def _count(points: np.ndarray, box: Bbox) -> int:
    """How many points are in a box."""
    return int(((points >= box.min) & (points <= box.max)).all(1).sum())


def _inside(box: Bbox, place: Bbox) -> bool:
    return place.x0 <= box.x0 and box.x1 <= place.x1 and place.y0 <= box.y0 and box.y1 <= place.y1


def _figure(artist: Axes | Text) -> Figure:
    assert isinstance(artist.figure, Figure)
    return artist.figure


def thin_ticks(axes: Axes) -> None:
    """Chooses ticks for a logarithmic x axis whose labels do not touch: many where there is room."""
    figure = _figure(axes)
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    choices = [LogLocator(subs=multiples).tick_values(low, high) for multiples in MULTIPLES]
    if sum(low <= tick <= high for tick in choices[0]) < 3:  # less than an octave
        choices = [MaxNLocator(n, steps=[1, 2, 5, 10]).tick_values(low, high) for n in (6, 4, 2)]
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter("{x:g}")
    for ticks in choices:
        axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
        figure.draw_without_rendering()
        shown = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        if all(left.x1 + FONT_SIZE < right.x0 for left, right in pairwise(shown)):
            return
