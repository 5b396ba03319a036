"""Images from a folder: `train/<class>/*.jpg` and, if it is there, `val/<class>/*.jpg`."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ofa_tf.data.decode import SUFFIXES
from ofa_tf.data.rules import NEWEST, Rules
from ofa_tf.errors import DataError


def list_images(folder: Path, rules: Rules = NEWEST) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """Finds the classes of a folder and the images of each.

    Args:
        folder: with a folder of images for each class.
        rules: which files are images.

    Returns:
        Class names in alphabetic order, paths, and the label of each path (int32).

    Raises:
        DataError: no class with images.
    """
    classes: list[str] = []
    paths: list[Path] = []
    labels: list[int] = []
    for sub in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if rules.passes_over(sub.name):
            continue
        found = sorted(path for path in _files(sub, rules) if path.suffix.lower() in SUFFIXES)
        if found:
            labels += [len(classes)] * len(found)
            if not sub.name.isprintable():
                raise DataError(f"{folder} has a class with letters that cannot be printed, {sub.name!r}: rename it.")
            classes.append(sub.name)
            paths += found
    if not paths:
        raise DataError(f"{folder} holds no images: it must have a folder of images for each class.")
    return tuple(classes), paths, np.array(labels, np.int32)


def _files(folder: Path, rules: Rules) -> Iterator[Path]:
    """All files in a folder, at any depth, but for those that the rules pass over."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not rules.passes_over(name)]
        files = (Path(place, name) for name in names if not rules.passes_over(name))
        yield from (path for path in files if path.is_file())
