"""Pictures: the accuracy-latency front, and where the time of a network goes."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_tf.atomic import write_bytes
from ofa_tf.errors import FormatError

KINDS = (".png", ".svg")


@dataclass(frozen=True)
class Series:
    """Subnets in the plane of cost and accuracy.

    Args:
        costs: latency in milliseconds, or RAM in kilobytes; shape (subnets,).
        accuracy: 0 to 1, shape (subnets,).
    """

    costs: Sequence[float] | np.ndarray
    accuracy: Sequence[float] | np.ndarray


def check_picture(path: str | Path) -> None:
    """Refuses names of pictures that cannot be drawn.

    Raises:
        FormatError: says which can.
    """
    if Path(path).suffix not in KINDS:
        raise FormatError(f"The picture {str(path)!r} must be a file named *{' or *'.join(KINDS)}.")


def plot_front(
    path: Path, device: str, front: Series, evaluated: Series, chosen: Series, labels: Sequence[str]
) -> None:
    """Draws the predicted front, subnets that were evaluated, and the exported ones.

    Args:
        path: where to write it, a `.png` or `.svg` file.
        device: label of the latency axis.
        front: the best predicted accuracy for each predicted latency.
        evaluated: random subnets; latency predicted, accuracy evaluated on held-out training images.
        chosen: exported files; latency measured, accuracy of the file on the validation images.
        labels: one per chosen file.
    """
    marks = list(zip(chosen.costs, chosen.accuracy, labels, strict=True))
    with _front_axes(path, f"latency on {device}, ms", marks) as axes:
        _scatter(axes, evaluated, s=14, color="#9aa5b1", label="random subnets, evaluated")
        _line(axes, front, color="#1f6feb", label="front, predicted")
        _scatter(axes, chosen, s=90, marker="*", color="#d1242f", zorder=3, label="exported files, measured")


def plot_fronts(path: str | Path, fronts: Mapping[str, Series], costs: str = "predicted latency, ms") -> None:
    """Draws fronts of several devices side by side.

    Args:
        path: where to write it, a `.png` or `.svg` file.
        fronts: by the label of the device; costs and accuracy predicted.
        costs: label of their axis.
    """
    with _front_axes(Path(path), costs) as axes:
        for label, front in fronts.items():
            _line(axes, front, marker=".", label=_plain(label))
        axes.set_ylabel("predicted top-1 accuracy, %")


def plot_shares(path: str | Path, title: str, shares: Mapping[str, Mapping[str, float]]) -> None:
    """Draws one bar per subnet, made of its parts.

    Args:
        path: where to write it, a `.png` or `.svg` file.
        title: of what device, and where the numbers come from.
        shares: subnet -> part -> milliseconds, the same parts for all.
    """
    with _picture(Path(path), height=2.8) as axes:
        import matplotlib

        names = list(shares)
        parts = list(shares[names[0]])
        colours = matplotlib.colormaps["viridis"].resampled(len(parts))
        starts = np.zeros(len(names))
        for index, part in enumerate(parts):
            widths = np.array([shares[name][part] for name in names])
            style = {"color": colours(index), "edgecolor": "white", "linewidth": 0.5}
            axes.barh(names, widths, left=starts, label=part, **style)
            starts += widths
        axes.invert_yaxis()
        axes.set_xlabel("latency, ms")
        axes.set_title(_plain(title), fontsize=10)
        axes.legend(ncols=len(parts), loc="upper center", bbox_to_anchor=(0.5, -0.28), fontsize=8, frameon=False)


@contextmanager
def _front_axes(path: Path, costs: str, marks: Sequence[tuple[float, float, str]] = ()) -> Iterator:
    """Axes for costs (logarithmic) and accuracy; what was drawn is written to `path`.

    Args:
        path: where.
        costs: label of their axis.
        marks: points that bear a label: cost, accuracy (0 to 1), label.
    """
    with _picture(path, height=5) as axes:
        from matplotlib.ticker import NullLocator

        from ofa_tf.report.labels import place_labels, thin_ticks

        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(_plain(costs))
        axes.set_ylabel("top-1 accuracy, %")
        axes.grid(alpha=0.25)
        yield axes
        axes.legend(loc="lower right")
        thin_ticks(axes)
        place_labels(axes, [(x, y * 100, _plain(label)) for x, y, label in marks])


@contextmanager
def _picture(path: Path, height: float) -> Iterator:
    """Axes of a figure 8 inches wide; what was drawn is written to `path`, unless the drawing fails."""
    check_picture(path)
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, height), dpi=150, layout="constrained")
    try:
        yield axes
        buffer = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "ofa-tf"}):  # equal fronts are equal files
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(buffer, format=path.suffix[1:], metadata=metadata)
    finally:
        plt.close(figure)
    write_bytes(path, buffer.getvalue())


def _plain(text: str) -> str:
    """Text that is not taken for a formula."""
    return text.replace("$", r"\$")


def _line(axes, points: Series, **style) -> None:
    order = np.argsort(points.costs)
    axes.plot(np.array(points.costs)[order], np.array(points.accuracy)[order] * 100, **style)


def _scatter(axes, points: Series, **style) -> None:
    axes.scatter(points.costs, np.array(points.accuracy) * 100, **style)
