"""Images from a folder: `train/<class>/*.jpg` and, if it is there, `val/<class>/*.jpg`."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ofa_tf.data.class_names import composed
from ofa_tf.data.rules import NEWEST, Rules, is_sidecar
from ofa_tf.errors import DataError
from ofa_tf.progress import SILENT, Progress

LONGEST_SUFFIX = 8  # what is longer is hardly one


def find_parts(folder: Path, progress: Progress = SILENT, rules: Rules = NEWEST) -> dict[str, Path]:
    """The folders of the parts of a data set, of those that there are; notes other folders with images beside them.

    Without `train`, a folder that holds only files is that of a class, whatever it is called.
    """
    parts = {}
    whole = (folder / "train").is_dir()
    for part, names in rules.parts.items():
        for place in (folder / name for name in names):
            if part not in parts and place.is_dir() and (whole or any(path.is_dir() for path in place.iterdir())):
                parts[part] = place
    used = " and ".join(f"`{place.name}`" for place in parts.values())
    for other in sorted(path for path in folder.iterdir() if path.is_dir() and path not in parts.values()):
        if used and not is_sidecar(other.name) and any(_is_image(path, rules) for path in _files(other, rules)):
            progress.note(f"The images of `{other.name}` in {folder} are not used, only those of {used}.")
    return parts


def list_images(
    folder: Path, progress: Progress = SILENT, rules: Rules = NEWEST
) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """Finds the classes of a folder and the images of each.

    Args:
        folder: with a folder of images for each class.
        progress: told about files that are no images.
        rules: which files are.

    Returns:
        Class names in alphabetic order, paths, and the label of each path (int32).

    Raises:
        DataError: no class with images, or a class with files of which none is an image.
    """
    classes: list[str] = []
    paths: list[Path] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    empty: list[str] = []
    for name, subs in sorted(_class_folders(folder, rules).items()):
        if len(subs) > 1:
            forms = f"{len(subs)} folders in {folder} are called {name!r}, in different forms of Unicode"
            progress.note(f"{forms}: they are one class.")
        files = sorted(path for sub in subs for path in _files(sub, rules))
        found = [path for path in files if _is_image(path, rules)]
        left_out = Counter(_suffix(path) for path in files if not _is_image(path, rules))
        if found:
            labels += [len(classes)] * len(found)
            if not name.isprintable():
                raise DataError(f"{folder} has a class whose name cannot be printed, {name!r}: rename it.")
            classes.append(name)
            paths += found
        elif left_out and rules.strict:
            raise DataError(
                f"The class {name!r} in {folder} has no image that can be read; its files are {_listed(left_out)}: "
                "convert them to JPEG, or take the folder out."
            )
        elif not files:
            empty.append(name)
        others += left_out
    if not paths:
        raise DataError(f"{folder} holds no images: it must have a folder of images for each class.")
    loose = sum(_is_image(path, rules) and not is_sidecar(path.name) for path in folder.iterdir())
    if loose:
        progress.note(f"{_count(loose, 'image')} in {folder} itself, in no folder of a class: not used.")
    if others:
        n = others.total()
        progress.note(f"{_count(n, 'file')} in {folder} {'is' if n == 1 else 'are'} not read: {_listed(others)}.")
    if empty:
        progress.note(f"Folders in {folder} without a file are no classes: {', '.join(map(repr, empty))}.")
    return tuple(classes), paths, np.array(labels, np.int32)


def _class_folders(folder: Path, rules: Rules) -> dict[str, list[Path]]:
    """The folders of each class: one, or those whose names differ only in how Unicode writes an accent."""
    found: dict[str, list[Path]] = {}
    for sub in sorted(path for path in folder.iterdir() if path.is_dir()):
        if not sub.name.startswith(".") and not rules.passes_over(sub.name):
            found.setdefault(composed(sub.name) if rules.strict else sub.name, []).append(sub)
    return found


def _files(folder: Path, rules: Rules) -> Iterator[Path]:
    """All files in a folder, at any depth, but for those that the rules pass over."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not rules.passes_over(name)]
        files = (Path(place, name) for name in names if not rules.passes_over(name))
        yield from (path for path in files if path.is_file())


def _is_image(path: Path, rules: Rules) -> bool:
    return path.suffix.lower() in rules.suffixes


def _suffix(path: Path) -> str:
    """How a file's kind is called."""
    suffix = path.suffix.lower()
    return suffix if suffix[1:].isalnum() and len(suffix) <= LONGEST_SUFFIX else "without a suffix"


def _listed(suffixes: Counter[str]) -> str:
    """Suffixes, the most frequent first, with their numbers if they are several."""
    if len(suffixes) == 1:
        return next(iter(suffixes))
    return ", ".join(f"{suffix} ({n})" for suffix, n in suffixes.most_common())


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
