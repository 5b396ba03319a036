"""Images from a program: arrays, or a `tf.data.Dataset`; and the `.npz` file that keeps them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tf.data.images import CHUNK, ImageSet, Survey, resize
from ofa_tf.errors import DataError
from ofa_tf.npzio import read_arrays, write_arrays

MEMORY_BYTES = 1 << 30  # of pixels, at most
PARTS = ("train", "val")
PIXELS = "give pixels from 0 to 255 without normalisation, which ofa-tf does itself"
Parts = dict[str, ImageSet]


def take_in(data: Any, size: int, classes: Sequence[str] | None = None) -> tuple[tuple[str, ...], Parts]:
    """Takes the images of a program.

    Args:
        data: a pair `(images, labels)`; a `tf.data.Dataset` of such pairs, batched or not; or a mapping with either
            under `train` and, optionally, `val`. Images are uint8, or numbers from 0 to 255, of shape (n, height,
            width, 3), (n, height, width, 1) or (n, height, width); labels are integers from 0, of shape (n,). The
            centre of images that are not square is used.
        size: larger images are reduced to this height and width, in pixels.
        classes: names of the classes, in the order of the labels; None to use the labels themselves as names.

    Returns:
        Names of the classes, and the images of each part.

    Raises:
        DataError: arrays of another rank, type, range or length; a dataset that does not end, or is too large.
    """
    parts = data if isinstance(data, Mapping) else {"train": data}
    if "train" not in parts or set(parts) - set(PARTS):
        raise DataError(f"`data` has the keys {sorted(map(str, parts))}: it needs `train` and may also have `val`.")
    images = {part: _take_part(value, size, f"`data` ({part})") for part, value in parts.items()}
    n_classes = 1 + max(int(part.labels.max()) for part in images.values())
    names = tuple(map(str, range(n_classes))) if classes is None else tuple(map(str, classes))
    if len(names) < max(n_classes, 2) or len(set(names)) < len(names):
        raise DataError(
            f"`classes` has {len(set(names))} different names, and the labels go up to {n_classes - 1}: one name for "
            "each class is needed, and at least two classes."
        )
    return names, images


def survey(data: Any) -> Survey:
    """How many training images there are in what `take_in` takes, and how large they are.

    Raises:
        DataError: a dataset that does not end; anything else that cannot be used is left for `take_in` to refuse.
    """
    value: Any = data.get("train") if isinstance(data, Mapping) else data
    if not hasattr(value, "as_numpy_iterator"):
        shape = np.shape(value[0]) if isinstance(value, tuple | list) and len(value) == 2 else ()
        return Survey(shape[0], min(shape[1:3])) if len(shape) > 2 else Survey(0, 0)
    _refuse_endless(value, "`data`")
    n, side = 0, 0
    for element in value.as_numpy_iterator():
        if not isinstance(element, tuple) or len(element) != 2:
            return Survey(0, 0)
        image, label = element
        shape = np.shape(image)[1:3] if np.ndim(label) else np.shape(image)[:2]
        side = side or min(shape, default=0)
        n += np.size(label)
        if value.cardinality() > 0:
            return Survey(n * int(value.cardinality()), side)
    return Survey(n, side)


def digest(classes: Sequence[str], parts: Mapping[str, ImageSet]) -> str:
    """A hexadecimal number that differs between different sets of images, including their classes."""
    found = hashlib.sha256(repr(tuple(classes)).encode())
    for part, images in sorted(parts.items()):
        found.update(f"{part} {images.images.shape}".encode())
        found.update(images.images.tobytes())
        found.update(images.labels.astype("<i4").tobytes())
    return found.hexdigest()[:16]


def write_npz(path: Path, classes: Sequence[str], parts: Mapping[str, ImageSet]) -> None:
    """Keeps images in a file that `read_npz` reads, atomically."""
    arrays = {"classes": np.array(classes)}
    for part, images in parts.items():
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = images.images, images.labels
    write_arrays(path, arrays)


def read_npz(path: Path) -> tuple[tuple[str, ...], Parts]:
    """Images of an `.npz` file of arrays `train_images` and `train_labels`, and optionally `val_…` and `classes`.

    Raises:
        DataError: there is no such file, or it holds something else.
        DamagedError: it is cut short or altered.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path} of images.")
    arrays = read_arrays(path)
    names = arrays.pop("classes", None)
    parts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for part in PARTS:
        if f"{part}_images" in arrays and f"{part}_labels" in arrays:
            parts[part] = arrays.pop(f"{part}_images"), arrays.pop(f"{part}_labels")
    if arrays or "train" not in parts:
        found = f"it has {min(arrays)!r}" if arrays else "it lacks the first two"
        raise DataError(
            f"{path} must hold the arrays `train_images` and `train_labels` and, optionally, `val_images`, "
            f"`val_labels` and `classes`; {found}."
        )
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
        raise DataError(f"{path}: `classes` must be a list of strings.")
    try:
        size = max(images.shape[1] for images, _ in parts.values())
        return take_in(parts, size, None if names is None else names.tolist())
    except (DataError, IndexError) as error:
        raise DataError(f"{path}: {error}") from None


def _take_part(value: Any, size: int, name: str) -> ImageSet:
    if hasattr(value, "as_numpy_iterator"):
        return _of_dataset(value, size, name)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise DataError(
            f"{name} is of type {type(value).__name__}: give a folder, a name, a pair (images, labels) of arrays, or a "
            "tf.data.Dataset of such pairs."
        )
    pixels, labels = (np.asarray(array) for array in value)
    images = _square(_pixels(pixels, name))
    _refuse_normalised(pixels, float(pixels.max()), name)
    _check_labels(labels, len(images), name)
    return ImageSet(np.concatenate(list(_reduced(images, size))), labels.reshape(-1).astype(np.int32))


def _of_dataset(dataset: Any, size: int, name: str) -> ImageSet:
    """Reads a dataset to its end and reduces each image as it comes: images may differ in size."""
    most = MEMORY_BYTES // (size * size * 3)
    _refuse_endless(dataset, name)
    pixels: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    highest = 0.0
    for element in dataset.as_numpy_iterator():
        if not isinstance(element, tuple) or len(element) != 2:
            raise DataError(f"{name} must be a dataset of pairs (image, label), not of {type(element).__name__}.")
        image, label = (np.asarray(array) for array in element)
        batched = np.ndim(label) > 0
        batch = _square(_pixels(image if batched else image[None], name))
        _check_labels(np.atleast_1d(label), len(batch), name)
        highest = max(highest, float(image.max()))
        pixels += _reduced(batch, size)
        labels.append(np.atleast_1d(label).reshape(-1))
        if sum(map(len, labels)) > most:
            raise DataError(
                f"{name} has more than {most:,} images of {size} px, which take {MEMORY_BYTES >> 30} GiB of memory: "
                "write them to a folder and pack it with `ofa-tf data pack`, or add `take(n)` to the dataset."
            )
    if not pixels:
        raise DataError(f"{name} is an empty dataset.")
    _refuse_normalised(image, highest, name)
    least = min(images.shape[1] for images in pixels)  # one size for all: that of the smallest
    return ImageSet(
        np.concatenate([images if images.shape[1] == least else resize(images, least) for images in pixels]),
        np.concatenate(labels).astype(np.int32),
    )


def _refuse_endless(dataset: Any, name: str) -> None:
    if int(dataset.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
        raise DataError(f"{name} is a dataset without an end: leave out `repeat`, or add `take(n)`.")


def _pixels(pixels: np.ndarray, name: str) -> np.ndarray:
    """uint8 of shape (n, height, width, 3)."""
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise DataError(
            f"{name} has images of shape {list(pixels.shape)}: [n, height, width, 3] is needed, or the same with one "
            "grey channel or none."
        )
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "fiu":
            raise DataError(f"{name} has images of type {pixels.dtype}: uint8 is needed, or numbers from 0 to 255.")
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 255):
            raise DataError(f"{name} has images with values from {low:g} to {high:g}: {PIXELS}.")
        pixels = np.rint(pixels).astype(np.uint8)
    return np.repeat(pixels, 3, axis=3) if pixels.shape[-1] == 1 else pixels


def _refuse_normalised(pixels: np.ndarray, highest: float, name: str) -> None:
    """Refuses numbers that were divided by 255; bytes may be as dark as they are."""
    if pixels.dtype != np.uint8 and highest <= 1:
        raise DataError(f"{name} has images with values up to {highest:g}: {PIXELS}.")


def _check_labels(labels: np.ndarray, n: int, name: str) -> None:
    if labels.shape not in ((n,), (n, 1)):
        raise DataError(
            f"{name} has {n} images and labels of shape {list(labels.shape)}: one integer for each image is needed."
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= 1 << 16:
        shown = f"from {labels.min()} to {labels.max()}" if labels.dtype.kind in "iu" else f"of type {labels.dtype}"
        raise DataError(f"{name} has labels {shown}: integers from 0 to {(1 << 16) - 1} are needed.")


def _square(images: np.ndarray) -> np.ndarray:
    """The centre of images that are not square."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]


def _reduced(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    chunks: Iterable[np.ndarray] = (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))
    yield from (resize(chunk, size) if chunk.shape[1] > size else chunk for chunk in chunks)
