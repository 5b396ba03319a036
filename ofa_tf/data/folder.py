"""Images from a folder: `train/<class>/*.jpg` and, if it is there, `val/<class>/*.jpg`."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ofa_tf.errors import DataError
from ofa_tf.progress import SILENT, Progress

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
MAX_BROKEN_SHARE = 0.01


def list_images(folder: Path) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """Finds the classes of a folder and the images of each.

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
            classes.append(sub.name)
            paths += found
    if not paths:
        raise DataError(f"{folder} holds no images: it must have a folder of images for each class.")
    if len(classes) == 1:
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
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}.") from None


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
        stamp.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    cached = None if cache is None else cache / f"{stamp.hexdigest()[:32]}.npz"
    if cached is not None and cached.exists():
        with np.load(cached) as file:
            return file["images"], file["good"]

    broken: list[str] = []
    good = np.ones(len(paths), bool)
    images = np.empty((len(paths), size, size, 3), np.uint8)

    def work(index: int) -> str | None:
        try:
            images[index] = decode(paths[index], size)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool, progress.task("reading images", len(paths), "images") as advance:
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
    if broken:
        progress.note(f"{len(broken)} of {len(paths)} images cannot be read and were skipped.")
    images = images[good] if broken else images
    if cached is not None:
        cached.parent.mkdir(parents=True, exist_ok=True)
        temporary = cached.with_suffix(".tmp.npz")
        try:
            np.savez(temporary, images=images, good=good)
            temporary.replace(cached)
        finally:
            temporary.unlink(missing_ok=True)
    return images, good
