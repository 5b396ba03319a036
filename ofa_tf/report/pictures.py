"""What an exported file gets wrong, as pictures: the confusion matrix, and the worst images."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ofa_tf.formatting import percent

CONFUSION, WORST = "confusion.png", "worst.png"
NUMBERED = 12  # classes up to which every cell has its number
MOST_CLASSES = 30  # of a matrix of all classes; of more, the worst are drawn
WORST_CLASSES = 20
WORST_IMAGES = 10
MOST_CHARACTERS = {CONFUSION: 22, WORST: 16}  # of a name in a picture
OTHERS = "another class"


@dataclass(frozen=True)
class Confusion:
    """Which classes images of each class were put into.

    Args:
        counts: shape (rows, columns): true class, predicted class.
        rows: names of the true classes.
        columns: names of the predicted classes; of more than 30 classes the last stands for all that are not drawn.
    """

    counts: np.ndarray = field(repr=False)
    rows: Sequence[str]
    columns: Sequence[str]


def confusion_of(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Confusion:
    """Counts images by true and predicted class: of all classes, or of the 20 with most images put into wrong ones.

    Args:
        labels: true class of each image, shape (images,).
        predicted: by the file, likewise.
        classes: names.
    """
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    if len(classes) <= MOST_CLASSES:
        return Confusion(counts, classes, classes)
    wrong = counts.sum(1) - counts.diagonal()
    worst = np.sort(np.argsort(-wrong, kind="stable")[:WORST_CLASSES])
    shown = counts[np.ix_(worst, worst)]
    rest = counts[worst].sum(1) - shown.sum(1)
    names = [classes[index] for index in worst]
    return Confusion(np.column_stack([shown, rest]), names, [*names, OTHERS])


def worst_images(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The wrong answers that a file is surest of.

    Args:
        logits: shape (images, classes).
        labels: true class of each image, shape (images,).

    Returns:
        Indices of at most ten images, the surest first, and the probabilities of the classes they were put into (0 to
        1, softmax).
    """
    shifted = np.exp(logits - logits.max(1, keepdims=True), dtype=np.float64)
    sure = 1 / shifted.sum(1)  # of the largest
    wrong = np.flatnonzero(logits.argmax(1) != labels)
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")[:WORST_IMAGES]]
    return chosen, sure[chosen]


def draw_confusion(confusion: Confusion, accuracy: float, n_images: int, n_classes: int) -> bytes:
    """The confusion matrix as a PNG: colours tell shares of the true class, numbers count images.

    Args:
        confusion: the counts.
        accuracy: of the file (0 to 1).
        n_images: that it was evaluated on.
        n_classes: of all.
    """
    n_rows, n_columns = confusion.counts.shape
    numbered = n_rows <= NUMBERED
    cell = 0.55 if numbered else 0.3  # inches
    figure = _figure(max(4.2, 2.2 + cell * n_columns), max(3.2, 1.9 + cell * n_rows))
    axes = figure.add_subplot()
    shares = confusion.counts / np.maximum(confusion.counts.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    most = MOST_CHARACTERS[CONFUSION]
    axes.set_xticks(range(n_columns), [_short(name, most) for name in confusion.columns], rotation=90, fontsize=8)
    axes.set_yticks(range(n_rows), [_short(name, most) for name in confusion.rows], fontsize=8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if numbered:
        for row, column in np.argwhere(confusion.counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            number = str(confusion.counts[row, column])
            axes.text(column, row, number, ha="center", va="center", fontsize=8, color=colour)
    else:
        figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
    some = "" if n_rows == n_classes else f"\nthe {n_rows} of {n_classes} classes with most errors"
    axes.set_title(f"{percent(accuracy)} of {n_images:,} validation images right{some}", fontsize=10)
    return _png(figure)


def draw_worst(pixels: Sequence[np.ndarray] | np.ndarray, titles: Sequence[tuple[str, float, str]]) -> bytes:
    """The worst images as a PNG.

    Args:
        pixels: as the file sees them, uint8 of shape (images, size, size, 3).
        titles: for each image the predicted class, its probability (0 to 1), and the true class.
    """
    columns = 5
    rows = -(-len(titles) // columns)
    figure = _figure(10, max(1, 0.5 + 2.5 * rows))
    if not titles:
        figure.text(0.5, 0.5, "No validation image was put into a wrong class.", ha="center", va="center")
        return _png(figure)
    figure.suptitle("The wrong answers that the file is surest of, on validation images", fontsize=10)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, (predicted, probability, truth) in zip(grid.flat, pixels, titles, strict=False):
        axes.imshow(image, interpolation="nearest")
        shown = [_short(name, MOST_CHARACTERS[WORST]) for name in (predicted, truth)]
        axes.set_title(f"predicted: {shown[0]}, {probability:.0%}\ntrue: {shown[1]}", fontsize=8)
    return _png(figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of scripts that the font lacks: a box is drawn
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _short(name: str, most: int) -> str:
    """A name as it fits into a picture, none of it taken for a formula."""
    name = " ".join(name.split())
    if len(name) > most:
        name = f"{name[: most // 2]}…{name[1 - most // 2 :]}"
    return name.replace("$", r"\$")
