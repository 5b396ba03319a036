"""The accuracy-latency front as a picture."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_tf.jsonio import write_bytes


@dataclass(frozen=True)
class Points:
    """Subnets in the plane of latency and accuracy.

    Args:
        latency_ms: shape (subnets,).
        accuracy: 0 to 1, shape (subnets,).
    """

    latency_ms: Sequence[float] | np.ndarray
    accuracy: Sequence[float] | np.ndarray


def plot_front(
    path: Path, device: str, front: Points, evaluated: Points, chosen: Points, labels: Sequence[str]
) -> None:
    """Draws a PNG: the predicted front, subnets that were evaluated, and the exported ones.

    Args:
        path: where to write it.
        device: label of the latency axis.
        front: the best predicted accuracy for each predicted latency.
        evaluated: random subnets; latency predicted, accuracy evaluated on held-out training images.
        chosen: exported files; latency measured, accuracy of the file on the validation images.
        labels: one per chosen file.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.scatter(
        evaluated.latency_ms,
        np.array(evaluated.accuracy) * 100,
        s=14,
        color="#9aa5b1",
        label="random subnets, evaluated",
    )
    order = np.argsort(front.latency_ms)
    axes.plot(
        np.array(front.latency_ms)[order],
        np.array(front.accuracy)[order] * 100,
        color="#1f6feb",
        label="front, predicted",
    )
    axes.scatter(
        chosen.latency_ms, np.array(chosen.accuracy) * 100, s=90, marker="*", color="#d1242f", zorder=3,
        label="exported files, measured",
    )  # fmt: skip
    for x, y, label in zip(chosen.latency_ms, chosen.accuracy, labels, strict=True):
        axes.annotate(label, (x, y * 100), xytext=(6, -14), textcoords="offset points", fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"latency on {device}, ms")
    axes.set_ylabel("top-1 accuracy, %")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    plt.close(figure)
    write_bytes(path, buffer.getvalue())
