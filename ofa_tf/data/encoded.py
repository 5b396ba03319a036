"""Images that stay as the files they came in and are decoded at each use."""

import contextlib
import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from ofa_tf.data.augment import Crops
from ofa_tf.data.decode import decode_crop, decode_square, shorter_side
from ofa_tf.data.images import Images
from ofa_tf.errors import DataError
from ofa_tf.limits import MOST_IMAGE_BYTES
from ofa_tf.reading import open_regular

AHEAD = 256  # results that wait until they are asked for
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """`map` in threads: the results come in order, and not many more are computed than were asked for."""
    pool = ThreadPoolExecutor()
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Records:
    """Where encoded images are: whole files, or pieces of larger ones.

    Args:
        files: the files.
        file_of: which of them each image is in, int32 of shape (images,).
        offset: where it begins there, in bytes, int64 of shape (images,).
        length: its size in bytes, int64 of shape (images,); -1 for a whole file.
        checked: whether it is known already that all can be decoded.
    """

    files: tuple[Path, ...] = field(repr=False)
    file_of: np.ndarray = field(repr=False)
    offset: np.ndarray = field(repr=False)
    length: np.ndarray = field(repr=False)
    checked: bool = False

    @classmethod
    def of_files(cls, paths: Iterable[Path]) -> "Records":
        """One image in each file."""
        files = tuple(paths)
        n = len(files)
        return cls(files, np.arange(n, dtype=np.int32), np.zeros(n, np.int64), np.full(n, -1, np.int64))

    def take(self, indices: np.ndarray) -> "Records":
        """The records at these indices."""
        return Records(
            self.files, self.file_of[indices], self.offset[indices], self.length[indices], checked=self.checked
        )

    def name(self, index: int) -> str:
        """How an error calls an image."""
        path = self.files[self.file_of[index]]
        return str(path) if self.length[index] < 0 else f"{path}, the image at byte {self.offset[index]},"

    def read(self, index: int) -> bytes:
        """The bytes of an image.

        Raises:
            DataError: its file is gone, cannot be read or is too short.
        """
        length = int(self.length[index])
        most = MOST_IMAGE_BYTES if length < 0 else None  # without a length the whole file is the image
        try:
            with open_regular(self.files[self.file_of[index]], "image", most, DataError) as file:
                file.seek(int(self.offset[index]))
                content = file.read(length if length >= 0 else MOST_IMAGE_BYTES)
        except OSError as error:
            raise DataError(f"{self.name(index)} cannot be read: {error.strerror}.") from None
        if len(content) < length:
            raise DataError(f"{self.name(index)} cannot be read: the file ends before the image does.")
        return content

    def cache_file(self, cache: Path | None, what: str) -> Path | None:
        """The file in a cache for what is known about these images: another one for others, or once a file is replaced.

        Args:
            cache: the folder, or None for no cache.
            what: is known about them.
        """
        if cache is None:
            return None
        parts = [f"{what}\n".encode()]
        for index in dict.fromkeys(self.file_of.tolist()):
            status = self.files[index].stat()
            parts.append(os.fsencode(self.files[index]) + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        if (self.length >= 0).any():
            parts += [array.tobytes() for array in (self.file_of, self.offset, self.length)]
        return cache / f"{hashlib.sha256(b''.join(parts)).hexdigest()[:32]}.npz"


@dataclass(frozen=True)
class EncodedImageSet(Images):
    """Images of any shape, each decoded, in threads, whenever it is used.

    Args:
        records: where they are.
        labels: int32 of shape (images,); all -1 where the classes are not known.
    """

    records: Records
    labels: np.ndarray = field(repr=False)

    def take(self, indices: np.ndarray) -> "EncodedImageSet":
        return EncodedImageSet(self.records.take(indices), self.labels[indices])

    def batches(self, size: int, resolution: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        def decode(index: int) -> np.ndarray:
            return decode_square(self.records.read(index), resolution, self.records.name(index), exact=False)

        decoded = in_order(decode, range(len(self)))
        for start in range(0, len(self), size):
            yield np.stack(list(itertools.islice(decoded, size))), self.labels[start : start + size]

    def shorter_sides(self) -> np.ndarray:
        sides = []
        for index in range(len(self)):
            with contextlib.suppress(DataError):  # broken images are reported when all are read
                sides.append(shorter_side(self.records.read(index), self.records.name(index)))
        return np.array(sides, np.int64)

    def crops(self, indices: np.ndarray, crops: Crops, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        result = np.empty((len(indices), resolution, resolution, 3), np.uint8)

        def decode(row: int) -> None:
            index = int(indices[row])
            content, crop = self.records.read(index), crops.take(slice(row, row + 1))
            result[row] = decode_crop(content, crop, resolution, self.records.name(index))

        for _ in in_order(decode, range(len(indices))):
            pass
        return result, np.empty((0, 4), np.float32)


Parts = Mapping[str, tuple[tuple[str, ...], EncodedImageSet]]  # the names of the classes, and the images, of each part
