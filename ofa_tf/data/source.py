"""From a data spec, such as `digits` or a folder, to the split data set."""

from pathlib import Path

import numpy as np

from ofa_tf.data.folder import decode_all, list_images
from ofa_tf.data.images import Data, ImageSet, resize
from ofa_tf.errors import DataError
from ofa_tf.progress import SILENT, Progress

SOURCES = ("digits",)
TUNE_SHARE, TUNE_MOST = 0.1, 10_000
SMALLEST_SPLIT = 2


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
    if not folder.is_dir():
        raise DataError(
            f"There is no data set {spec!r}: give one of {list(SOURCES)} or a folder with train/<class>/*.jpg."
        )
    if not (folder / "train").is_dir():
        raise DataError(f"{folder} has no folder `train`: it must hold train/<class>/*.jpg and, optionally, val/.")
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
