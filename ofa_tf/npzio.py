"""Files of named arrays (`.npz`) that are written whole or not at all, and read whole or refused."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ofa_tf.atomic import replacing
from ofa_tf.errors import DamagedError, FormatError
from ofa_tf.reading import open_regular

MOST_UNPACKED = 500 << 20  # bytes that the arrays of a file may have beyond its size


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a file, atomically; makes its folder.

    Raises:
        OSError: the disk is full or not writable; a file that was there is untouched.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: str | os.PathLike, fault: str = "damaged") -> dict[str, np.ndarray]:
    """The arrays of a file, by name.

    Args:
        path: the file.
        fault: what a file is that cannot be read, for the message.

    Raises:
        DamagedError: the file is cut short or altered, or not there.
    """
    try:
        with open_regular(path, ".npz") as opened, np.load(opened, allow_pickle=False) as file:
            n_bytes = sum(entry.file_size for entry in file.zip.infolist())
            if n_bytes > os.fstat(opened.fileno()).st_size + MOST_UNPACKED:
                raise FormatError(f"{path} would unpack to {n_bytes} bytes, which no file of arrays does.")
            return {name: file[name] for name in file.files}
    except FormatError as error:
        raise DamagedError(str(error)) from None
    except Exception as error:  # NumPy and zipfile raise some ten kinds for broken files
        raise DamagedError(f"{path} is {fault}: {error}.") from error


def read_arrays_of(
    path: str | os.PathLike, wanted: Mapping[str, tuple[type, tuple[int | None, ...]]]
) -> dict[str, np.ndarray]:
    """The arrays of a file that must hold certain ones.

    Args:
        path: the file.
        wanted: element type and shape of each; None is any length.

    Raises:
        DamagedError: the file is absent or damaged, or its arrays are others.
    """
    arrays = read_arrays(path)
    for name, (kind, shape) in wanted.items():
        array = arrays.get(name)
        if array is None:
            raise DamagedError(f"{path} is damaged: it lacks `{name}`.")
        fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
        if array.dtype != kind or not fits:
            raise DamagedError(f"{path} is damaged: `{name}` is {array.dtype} of shape {array.shape}.")
    return arrays
