"""Which images of a data set are held out of training."""

from collections.abc import Mapping

import numpy as np

from ofa_tf.data.images import Data, Images
from ofa_tf.data.rules import Rules
from ofa_tf.errors import DataError
from ofa_tf.progress import Progress

TUNE_SHARE, TUNE_MOST = 0.1, 10_000
SMALLEST_SPLIT = 2
MOST_NAMES = 5  # of classes that a note lists


def split(
    spec: str, classes: tuple[str, ...], images: Mapping[str, Images], val_share: int, seed: int, rules: Rules
) -> Data:
    """Splits a data set.

    Args:
        spec: what it is called.
        classes: names, in the order of the labels.
        images: by part: `train` and, optionally, `val`.
        val_share: without `val`, one in so many training images takes its place.
        seed: of the split.
        rules: whether it is done class by class.

    Raises:
        DataError: too few images.
    """
    hold_out, stream = (_by_class, 0x5118) if rules.by_class else (_at_random, 0x5117)
    rng = np.random.default_rng([seed, stream])
    train = images["train"]
    train, val = (train, images["val"]) if "val" in images else hold_out(train, len(train) // val_share, rng)
    train, tune = hold_out(train, min(TUNE_MOST, int(len(train) * TUNE_SHARE)), rng)
    for name, part in (("training", train), ("validation", val), ("held-out", tune)):
        if len(part) < SMALLEST_SPLIT:
            raise DataError(f"{spec} leaves {len(part)} {name} images after the split; give it more images.")
    return Data(spec, classes, train, tune, val)


def note_unmeasured(data: Data, progress: Progress) -> None:
    """Names the classes of which no image measures an accuracy."""
    parts = {"for validation": data.val, "that the accuracy predictor learns from": data.tune}
    labels = [part.labels for part in (data.train, *parts.values()) if part.labelled]
    present = np.unique(np.concatenate([*labels, np.empty(0, np.int32)]))
    for use, part in parts.items():
        missing = np.setdiff1d(present, part.labels) if part.labelled else present[:0]
        if len(missing):
            names = ", ".join(repr(data.classes[label]) for label in missing[:MOST_NAMES])
            more = f" and {len(missing) - MOST_NAMES} more" if len(missing) > MOST_NAMES else ""
            have = "has" if len(missing) == 1 else "have"
            progress.note(f"{len(missing)} of {len(present)} classes {have} no image {use}: {names}{more}.")


def _at_random(images: Images, n: int, rng: np.random.Generator) -> tuple[Images, Images]:
    order = rng.permutation(len(images))
    return images.take(np.sort(order[n:])), images.take(np.sort(order[:n]))


def _by_class(images: Images, n: int, rng: np.random.Generator) -> tuple[Images, Images]:
    """Holds out n images, of each class in proportion to its size: every class gives one before any gives a second.

    That is Adams' method of apportionment; of classes with equal claims the larger comes first. One image of each class
    stays, even if fewer than n are held out then.
    """
    order = rng.permutation(len(images))
    _, classes, sizes = np.unique(images.labels[order], return_inverse=True, return_counts=True)
    rank = np.empty(len(order), np.int64)  # of an image among those of its class
    rank[np.argsort(classes, kind="stable")] = np.concatenate([np.arange(size) for size in sizes])
    size = sizes[classes]
    with np.errstate(divide="ignore"):
        claim = np.where(rank < size - 1, size / rank, 0)
    chosen = np.lexsort((np.arange(len(order)), -size, -claim))[: min(n, int((claim > 0).sum()))]
    held = np.zeros(len(order), bool)
    held[order[chosen]] = True
    return images.take(np.flatnonzero(~held)), images.take(np.flatnonzero(held))
