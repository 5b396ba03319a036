"""Which images are held in memory, decoded once and cached, and which stay encoded."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ofa_tf.data.decode import check, decode_square
from ofa_tf.data.encoded import EncodedImageSet, in_order
from ofa_tf.data.images import Images, ImageSet
from ofa_tf.errors import DataError, FormatError
from ofa_tf.npzio import read_arrays_of, write_arrays
from ofa_tf.progress import SILENT, Progress
from ofa_tf.quiet import quiet

MEMORY_BYTES = 1 << 30  # of decoded pixels, at most
MAX_BROKEN_SHARE = 0.01


def decode_or_stream(
    parts: Sequence[EncodedImageSet], size: int, cache: Path | None, progress: Progress = SILENT
) -> Sequence[Images]:
    """Decodes all parts of a data set into memory, or none of them if that takes more than 1 GiB.

    Args:
        parts: the encoded images.
        size: height and width to hold images at, in pixels.
        cache: folder for what was found out, or None.
        progress: where to report progress, and images left out.

    Raises:
        DataError: more than 1 % of a part's images cannot be read; names the first.
    """
    n_bytes = sum(map(len, parts)) * size * size * 3
    if n_bytes <= MEMORY_BYTES:
        return [decode_all(part, size, cache, progress) for part in parts]
    progress.note(
        f"The images are decoded each time they are used: at {size} px they would take {n_bytes / (1 << 30):.1f} GiB "
        "of memory."
    )
    return [check_all(part, cache, progress) for part in parts]


def decode_all(images: EncodedImageSet, size: int, cache: Path | None = None, progress: Progress = SILENT) -> ImageSet:
    """Decodes images in parallel; those that cannot be read are named and left out.

    Args:
        images: the encoded images.
        size: height and width of the result, in pixels.
        cache: folder to keep the decoded pixels in, or None; a later call with the same files reads them from there.
        progress: where to report progress, and files left out.

    Raises:
        DataError: more than 1 % of the files cannot be read; names the first.
    """
    cached = images.records.cache_file(cache, str(size))
    n = len(images)
    if cached is not None:
        with contextlib.suppress(FormatError):
            kept = read_arrays_of(cached, {"images": (np.uint8, (None, size, size, 3)), "good": (np.bool_, (n,))})
            if len(kept["images"]) == kept["good"].sum():
                _note_skipped(int((~kept["good"]).sum()), n, progress)
                return ImageSet(kept["images"], images.labels[kept["good"]])
    pixels = np.empty((n, size, size, 3), np.uint8)

    def work(index: int) -> None:
        pixels[index] = decode_square(images.records.read(index), size, images.records.name(index))

    good = _find_good(work, n, "reading images", progress)
    pixels = pixels if good.all() else pixels[good]
    if cached is not None:
        write_arrays(cached, {"images": pixels, "good": good})
    return ImageSet(pixels, images.labels[good])


def check_all(images: EncodedImageSet, cache: Path | None = None, progress: Progress = SILENT) -> EncodedImageSet:
    """Leaves out the images that cannot be decoded; arguments and errors as for `decode_all`."""
    if images.records.checked:
        return images
    cached = images.records.cache_file(cache, "check")
    n = len(images)
    if cached is not None:
        with contextlib.suppress(FormatError):
            good = read_arrays_of(cached, {"good": (np.bool_, (n,))})["good"]
            _note_skipped(int((~good).sum()), n, progress)
            return images.take(np.flatnonzero(good))

    def work(index: int) -> None:
        check(images.records.read(index), images.records.name(index))

    good = _find_good(work, n, "checking images", progress)
    if cached is not None:
        write_arrays(cached, {"good": good})
    return images.take(np.flatnonzero(good))


def _find_good(work: Callable[[int], None], n: int, title: str, progress: Progress) -> np.ndarray:
    """Which numbers below n the work does not raise a DataError for: bool of shape (n,)."""
    broken: list[str] = []
    good = np.ones(n, bool)

    def attempt(index: int) -> str | None:
        try:
            work(index)
        except DataError as error:
            return str(error)
        return None

    with quiet(), progress.task(title, n, "images") as advance:
        for index, message in enumerate(in_order(attempt, range(n))):
            if message is not None:
                good[index] = False
                broken.append(message)
            advance(1)
    refuse_many(broken, n)
    note_broken(broken, n, progress)
    return good


def refuse_many(broken: Sequence[str], n: int) -> None:
    """Refuses a set of n images of which more than 1 % are broken.

    Raises:
        DataError: says how many, and what is wrong with the first.
    """
    if len(broken) > MAX_BROKEN_SHARE * n:
        share = len(broken) / n
        raise DataError(f"{len(broken)} of {n} images ({share:.1%}) cannot be read; the first: {broken[0]}")


def refuse_lost(labels: np.ndarray, kept: np.ndarray, classes: Sequence[str], where: str) -> None:
    """Refuses a set of images of which a class has lost all, as none of them can be read.

    Args:
        labels: of all images.
        kept: those of the images that can be read.
        classes: names, in the order of the labels.
        where: the images are.

    Raises:
        DataError: names the class.
    """
    for label in np.setdiff1d(labels, kept)[:1]:
        name = classes[label]
        raise DataError(f"No image of the class {name!r} in {where} can be read: mend them, or leave the class out.")


def note_broken(broken: Sequence[str], n: int, progress: Progress) -> None:
    """Says what is wrong with the first images that were left out, and how many there are, if any."""
    for message in broken[:5]:
        progress.note(f"Skipped: {message}")
    _note_skipped(len(broken), n, progress)


def _note_skipped(n_broken: int, n: int, progress: Progress) -> None:
    if n_broken:
        progress.note(f"{n_broken} of {n} images cannot be read and were skipped.")
