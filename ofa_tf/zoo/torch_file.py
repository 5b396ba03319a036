"""PyTorch checkpoints, read without PyTorch: tensors and plain containers, nothing else, and nothing is executed.

A checkpoint is a pickle that names storages (flat arrays of one type) by key, and the bytes of these storages. Two
containers are in use: a zip archive (`<top>/data.pkl`, `<top>/data/<key>`), and an older stream (three pickles that say
what it is, the pickle, the list of keys, then per storage its length as 8 bytes and its values).

Lengths in a file are claims: reads are limited, and all memory is taken from one budget before it is allocated, twice
the size of the file (bfloat16 doubles when it becomes float32) and a fixed part. Values are read straight into the
arrays that are returned.
"""

import os
import struct
import zipfile
from typing import IO, Any

import numpy as np

from ofa_tf.errors import FormatError
from ofa_tf.reading import open_regular
from ofa_tf.zoo.torch_pickle import LimitedFile, Unpickler, short, weigh

_PER_ENTRY = 1000  # bytes of memory for one entry in the directory of an archive
_DAMAGE = (  # what reading a broken archive raises
    zipfile.BadZipFile,
    AssertionError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,  # and its subclass that zipfile raises for a compression or a version that it cannot read
    ValueError,
    struct.error,
)


def read_checkpoint(path: str | os.PathLike) -> Any:
    """Reads a file that `torch.save` wrote, in either container.

    Args:
        path: the file.

    Returns:
        What was saved, as dicts (ordered ones too), lists, tuples, strings, numbers, booleans, None, and NumPy
        arrays for tensors and parameters, in the shape they had; bfloat16 becomes float32. Tensors that shared a
        storage share memory here too.

    Raises:
        FormatError: the file is absent, damaged, or asks for anything else; names it.
    """
    with open_regular(path, "PyTorch") as file:
        try:
            return _read(file)
        except FormatError as error:
            raise FormatError(f"{path} {error}.") from None
        except _DAMAGE as error:
            raise FormatError(f"{path} is damaged ({type(error).__name__}: {str(error)[:120]}).") from None
        except OSError as error:
            raise FormatError(f"{path} cannot be read: {error.strerror or error}.") from None


def state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors of a model by name, from a checkpoint that holds them directly or under `state_dict`.

    A `module.` that all names start with, left by data-parallel training, is taken off.

    Raises:
        FormatError: the file is absent, damaged, asks for anything but tensors and plain containers, or holds
            something else than named tensors.
    """
    root = read_checkpoint(path)
    tensors = root["state_dict"] if isinstance(root, dict) and "state_dict" in root else root
    if not isinstance(tensors, dict) or not tensors:
        raise FormatError(f"{path} must hold tensors by name, not {type(tensors).__name__}.")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, np.ndarray):
            raise FormatError(f"{path}: {short(str(name))} must be a tensor, not {type(tensor).__name__}.")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


# --- the two containers ----------------------------------------------------------------------------------------------


def _read(file: IO[bytes]) -> Any:
    unpickler = Unpickler(os.fstat(file.fileno()).st_size)
    head = file.read(2)
    file.seek(0)
    if head == b"PK":
        root = _read_zip(file, unpickler)
    elif head[:1] == b"\x80":
        root = _read_stream(file, unpickler)
    else:
        raise FormatError("is not a PyTorch checkpoint: it starts like neither of the two containers")
    weigh(root, unpickler.budget, {})
    return root


def _read_zip(file: IO[bytes], unpickler: Unpickler) -> Any:
    with zipfile.ZipFile(LimitedFile(file)) as archive:  # type: ignore[call-overload]
        entries = _entries(archive, unpickler)
        if "data.pkl" not in entries:
            raise FormatError("is not a PyTorch checkpoint: the archive lacks `data.pkl`")
        if "byteorder" in entries:
            with archive.open(entries["byteorder"]) as byteorder:
                _check_little_endian(byteorder.read(16) == b"little")
        with archive.open(entries["data.pkl"]) as pickled:
            root = unpickler.load(LimitedFile(pickled))
            if pickled.read(1):
                raise FormatError("is damaged: `data.pkl` goes on after its end")
        for key, storage in unpickler.storages.items():
            entry = entries.get(f"data/{key}")
            if entry is None:
                raise FormatError(f"lacks the values of {storage.owner}")
            storage.check_bytes(entry.file_size)
            try:
                with archive.open(entry) as values:
                    storage.fill(values.read)
            except (zipfile.BadZipFile, EOFError) as error:
                raise FormatError(f"is damaged: {storage.owner} ({str(error)[:120]})") from None
        return root


def _entries(archive: zipfile.ZipFile, unpickler: Unpickler) -> dict[str, zipfile.ZipInfo]:
    """The entries by their name below the one top folder. `torch.save` writes only plain, uncompressed entries."""
    entries, tops = {}, set()
    for entry in archive.infolist():
        unpickler.budget.take(_PER_ENTRY)
        name = entry.orig_filename
        top, *parts = name.split("/")
        if "\\" in name or "\0" in name or not parts or {top, *parts} & {"", ".", ".."}:
            raise FormatError(f"is refused: its entry {short(name)} is no path below the archive's top folder")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.compress_size != entry.file_size:
            raise FormatError(f"is refused: its entry {short(name)} is compressed or encrypted")
        if entry.file_size > unpickler.file_bytes:
            raise FormatError(f"is damaged: its entry {short(name)} claims more bytes than the file has")
        tops.add(top)
        inner = "/".join(parts)
        if inner in entries or len(tops) > 1:
            raise FormatError(f"is refused: its entry {short(name)} is there twice or in a second top folder")
        entries[inner] = entry
    return entries


def _read_stream(file: IO[bytes], unpickler: Unpickler) -> Any:
    source = LimitedFile(file)
    magic, protocol, system = unpickler.load(source), unpickler.load(source), unpickler.load(source)
    if magic != 0x1950A86A20F9469CFC6C or protocol != 1001 or type(system) is not dict:
        raise FormatError("is not a PyTorch checkpoint: the numbers at its start are not those of the container")
    _check_little_endian(system.get("little_endian") is True)
    root, keys = unpickler.load(source), unpickler.load(source)
    storages = unpickler.storages
    if type(keys) is not list or not all(type(key) is str for key in keys) or len(set(keys)) != len(keys):
        raise FormatError("is damaged: its list of storages is not one of different names")
    for key in keys:
        if key not in storages:
            raise FormatError(f"is damaged: no tensor uses the storage {short(key)}")
    for key in storages.keys() - set(keys):
        raise FormatError(f"lacks the values of {storages[key].owner}")
    for storage in (storages[key] for key in keys):
        n_values = source.read(8)
        if len(n_values) < 8:
            raise FormatError(f"ends before {storage.owner}")
        storage.check_bytes(int.from_bytes(n_values, "little") * storage.stored.itemsize)
        storage.fill(source.read)
    if source.read(1):
        raise FormatError("is damaged: it goes on after its last tensor")
    return root


def _check_little_endian(little: bool) -> None:
    if not little:
        raise FormatError("was written by a big-endian machine; save it again on a little-endian one")
