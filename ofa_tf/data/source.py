"""From a data spec, such as `digits` or a folder, to the split data set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ofa_tf.data.folder import decode_all, list_images
from ofa_tf.data.images import Data, ImageSet, resize
from ofa_tf.errors import DataError
from ofa_tf.progress import SILENT, Progress

SOURCES = ("digits",)
TUNE_SHARE, TUNE_MOST = 0.1, 10_000
SMALLEST_SPLIT = 2
# For a network that is trained already: batch norm statistics and int8 ranges need this many, and memory that few.
LEAST_IMAGES, GOOD_IMAGES, MOST_IMAGES = 100, 2000, 10_000


def load_data(spec: str, size: int, seed: int = 0, cache: Path | None = None, progress: Progress = SILENT) -> Data:
    """Loads and splits a data set.

    Args:
        spec: "digits" (1,797 handwritten digits that come with scikit-learn), or a folder with `train/<class>/` and,
            optionally, `val/<class>/`; without the latter a tenth of the training images takes its place.
        size: height and width to hold the images at, in pixels: the largest resolution of the space.
        seed: of the split. A tenth of the training images (10,000 at most) is held out for the predictor.
        cache: folder for decoded pixels, or None.
        progress: told about the work.

    Raises:
        DataError: an unknown spec, or a folder that does not hold usable images.
    """
    rng = np.random.default_rng([seed, 0x5117])
    if spec == "digits":
        classes, images = _digits(size)
        train, val = _split(images, len(images) // 5, rng)
    else:
        classes, train, held_out = _folder(Path(spec), spec, size, cache, progress)
        train, val = _split(train, len(train) // 10, rng) if held_out is None else (train, held_out)
    return _finish(spec, classes, train, val, rng)


def load_images(
    spec: str,
    classes: Sequence[str],
    size: int,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress = SILENT,
    aliases: Sequence[str] = (),
) -> Data:
    """Loads images for a network whose classes are given, such as a published one.

    Folders named after some of the classes are those classes: upper and lower case and "_" for " " make no difference.
    Where no folder is named after a class, the images have no labels: they do for statistics, not for accuracies.

    Args:
        spec: a folder with `train/<class>/` and, optionally, `val/<class>/`, as for `load_data`.
        classes: names, in the order of the network's outputs.
        size: height and width to hold the images at, in pixels.
        seed: of the split.
        cache: folder for decoded pixels, or None.
        progress: told about the work, and about images left out: more than 10,000 each are not held in memory.
        aliases: other names of the classes, in the same order; empty for none.

    Raises:
        DataError: not such a folder, too few images, or folders of which only some are named after classes.
    """
    folder, rng = Path(spec), np.random.default_rng([seed, 0x5117])
    _check_folder(folder, f"There is no folder {spec!r}: name one with train/<class>/*.jpg.")
    labels_of = {_plain(name): label for names in (aliases, classes) for label, name in enumerate(names)}
    sets = {}
    for part in ("train", "val") if (folder / "val").is_dir() else ("train",):
        names, paths, labels = list_images(folder / part, least=1)
        found = [labels_of.get(_plain(name), -1) for name in names]
        if -1 in found and max(found) >= 0:
            raise DataError(
                f"{folder / part} has the folder {names[found.index(-1)]!r}, which is none of the network's classes, "
                "beside others that are: rename it or take it out."
            )
        chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), MOST_IMAGES)).astype(np.int64))
        if len(chosen) < len(paths):
            progress.note(f"{len(chosen)} of the {len(paths)} images in {folder / part} are used, evenly spread.")
        images, good = decode_all([paths[index] for index in chosen], size, cache, progress)
        sets[part] = ImageSet(images, np.array(found, np.int32)[labels[chosen][good]])
    train = sets["train"]
    train, val = (train, sets["val"]) if "val" in sets else _split(train, len(train) // 10, rng)
    data = _finish(spec, tuple(classes), train, val, rng)
    if len(data.train) < LEAST_IMAGES:
        raise DataError(
            f"{spec} leaves {len(data.train)} training images after the split; at least {LEAST_IMAGES} are needed, "
            f"and {GOOD_IMAGES} are better."
        )
    if not train.labelled:
        progress.note(f"No folder in {folder / 'train'} is named after a class: its images are used without labels.")
    if len(data.train) < GOOD_IMAGES * 0.8:
        progress.note(f"{spec} has {len(data.train)} training images; {GOOD_IMAGES} give better batch norm statistics.")
    return data


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()


def _finish(spec: str, classes: tuple[str, ...], train: ImageSet, val: ImageSet, rng: np.random.Generator) -> Data:
    train, tune = _split(train, min(TUNE_MOST, int(len(train) * TUNE_SHARE)), rng)
    for name, part in (("training", train), ("validation", val), ("held-out", tune)):
        if len(part) < SMALLEST_SPLIT:
            raise DataError(f"{spec} leaves {len(part)} {name} images after the split; give it more images.")
    return Data(spec, classes, train, tune, val)


def _split(images: ImageSet, n_second: int, rng: np.random.Generator) -> tuple[ImageSet, ImageSet]:
    order = rng.permutation(len(images))
    return images.take(np.sort(order[n_second:])), images.take(np.sort(order[:n_second]))


def _digits(size: int) -> tuple[tuple[str, ...], ImageSet]:
    from sklearn.datasets import load_digits  # 1 s to import, and needed for this data set alone

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = resize(np.repeat(pixels[..., None], 3, axis=3), size)
    return tuple(str(name) for name in digits.target_names), ImageSet(images, digits.target.astype(np.int32))


def _folder(
    folder: Path, spec: str, size: int, cache: Path | None, progress: Progress
) -> tuple[tuple[str, ...], ImageSet, ImageSet | None]:
    absent = f"There is no data set {spec!r}: give one of {list(SOURCES)} or a folder with train/<class>/*.jpg."
    _check_folder(folder, absent)
    classes, paths, labels = list_images(folder / "train")
    parts = [(paths, labels)]
    if (folder / "val").is_dir():
        val_classes, val_paths, val_labels = list_images(folder / "val")
        unknown = sorted(set(val_classes) - set(classes))
        if unknown:
            raise DataError(f"{folder / 'val'} has the class {unknown[0]!r}, which `train` does not have.")
        lookup = np.array([classes.index(name) for name in val_classes], np.int32)
        parts.append((val_paths, lookup[val_labels]))
    sets = []
    for part_paths, part_labels in parts:
        images, good = decode_all(part_paths, size, cache, progress)
        sets.append(ImageSet(images, part_labels[good]))
    return classes, sets[0], sets[1] if len(sets) > 1 else None


def _check_folder(folder: Path, absent: str) -> None:
    if not folder.is_dir():
        raise DataError(absent)
    if not (folder / "train").is_dir():
        raise DataError(f"{folder} has no folder `train`: it must hold train/<class>/*.jpg and, optionally, val/.")
