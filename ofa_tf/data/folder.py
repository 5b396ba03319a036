"""Images from a folder: `train/<class>/*.jpg` and, if it is there, `val/<class>/*.jpg`."""

from pathlib import Path

import numpy as np

from ofa_tf.data.decode import SUFFIXES
from ofa_tf.errors import DataError


def list_images(folder: Path) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """Finds the classes of a folder and the images of each.

    Args:
        folder: with a folder of images for each class.

    Returns:
        Class names in alphabetic order, paths, and the label of each path (int32).

    Raises:
        DataError: no class with images.
    """
    classes: list[str] = []
    paths: list[Path] = []
    labels: list[int] = []
    for sub in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found = sorted(path for path in sub.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if found:
            labels += [len(classes)] * len(found)
            if not sub.name.isprintable():
                raise DataError(f"{folder} has a class whose name cannot be printed, {sub.name!r}: rename it.")
            classes.append(sub.name)
            paths += found
    if not paths:
        raise DataError(f"{folder} holds no images: it must have a folder of images for each class.")
    return tuple(classes), paths, np.array(labels, np.int32)
