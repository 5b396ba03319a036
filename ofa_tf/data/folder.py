"""Images from a folder: `train/<class>/*.jpg` and, if it is there, `val/<class>/*.jpg`."""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ofa_tf.errors import DataError, FormatError
from ofa_tf.jsonio import replacing
from ofa_tf.progress import SILENT, Progress
from ofa_tf.quiet import quiet

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
MAX_BROKEN_SHARE = 0.01


def list_images(folder: Path, least: int = 2) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """Finds the classes of a folder and the images of each.

    Args:
        folder: with a folder of images for each class.
        least: classes that there must be, 1 or 2.

    Returns:
        Class names in alphabetic order, paths, and the label of each path (int32).

    Raises:
        DataError: no class with images, or only one.
    """
    classes: list[str] = []
    paths: list[Path] = []
    labels: list[int] = []
    for sub in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found = sorted(path for path in sub.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if found:
            labels += [len(classes)] * len(found)
            if not sub.name.isprintable():
                raise DataError(f"{folder} has a class with letters that cannot be printed, {sub.name!r}: rename it.")
            classes.append(sub.name)
            paths += found
    if not paths:
        raise DataError(f"{folder} holds no images: it must have a folder of images for each class.")
    if len(classes) < least:
        raise DataError(f"{folder} has only the class {classes[0]!r}; a classifier needs at least two.")
    return tuple(classes), paths, np.array(labels, np.int32)


def decode(path: Path, size: int) -> np.ndarray:
    """One image as uint8 of shape (size, size, 3): turned upright, its centre square, resized.

    Raises:
        DataError: the file is not an image that can be read in full.
    """
    try:
        with Image.open(path) as file:
            image: Image.Image = file
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            image = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))
    except Exception as error:  # Pillow's decoders raise some ten kinds for broken files
        raise DataError(f"{path} cannot be read as an image: {error}.") from error


def decode_all(
    paths: Sequence[Path], size: int, cache: Path | None = None, progress: Progress = SILENT
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes images in parallel; those that cannot be read are named and left out.

    Args:
        paths: the files.
        size: height and width of the result.
        cache: folder to keep the decoded pixels in, or None; a later call with the same files reads them from there.
        progress: told about the work, and about files left out.

    Returns:
        uint8 images of shape (n, size, size, 3), and which of the paths they come from (bool, one per path).

    Raises:
        DataError: more than 1 % of the files cannot be read; names the first.
    """
    stamp = hashlib.sha256(f"{size}\n".encode())
    for path in paths:
        status = path.stat()
        stamp.update(os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    cached = None if cache is None else cache / f"{stamp.hexdigest()[:32]}.npz"
    if cached is not None and cached.exists():
        with contextlib.suppress(FormatError):
            images, good = _read_cache(cached, len(paths), size)
            _note_skipped(good, progress)
            return images, good

    broken: list[str] = []
    good = np.ones(len(paths), bool)
    images = np.empty((len(paths), size, size, 3), np.uint8)

    def work(index: int) -> str | None:
        try:
            images[index] = decode(paths[index], size)
        except DataError as error:
            return str(error)
        return None

    with quiet(), ThreadPoolExecutor() as pool, progress.task("reading images", len(paths), "images") as advance:
        for index, message in enumerate(pool.map(work, range(len(paths)), chunksize=64)):
            if message is not None:
                good[index] = False
                broken.append(message)
            advance(1)
    if len(broken) > MAX_BROKEN_SHARE * len(paths):
        share = len(broken) / len(paths)
        raise DataError(f"{len(broken)} of {len(paths)} images ({share:.1%}) cannot be read, the first: {broken[0]}")
    for message in broken[:5]:
        progress.note(f"Skipped: {message}")
    _note_skipped(good, progress)
    images = images[good] if broken else images
    if cached is not None:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cached) as file:
            np.savez(file, images=images, good=good)
    return images, good


def _read_cache(path: Path, n_paths: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that an earlier call kept.

    Raises:
        FormatError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            images, good = file["images"], file["good"]
    except Exception as error:  # NumPy and zipfile raise some ten kinds for broken files
        raise FormatError(f"{path} is damaged: {error}.") from error
    if good.shape != (n_paths,) or good.dtype != bool or images.dtype != np.uint8:
        raise FormatError(f"{path} is damaged: it is of other images.")
    if images.shape != (good.sum(), size, size, 3):
        raise FormatError(f"{path} is damaged: it is of other images.")
    return images, good


def _note_skipped(good: np.ndarray, progress: Progress) -> None:
    if not good.all():
        progress.note(f"{(~good).sum()} of {len(good)} images cannot be read and were skipped.")
