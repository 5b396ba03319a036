"""JSON files that are either the old one or the new one, never half of each."""

import contextlib
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ofa_tf.errors import FormatError, WorkdirError

SCHEMA = 1


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes `content` to `path`, as `replacing` does."""
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of `path` when it is whole: temporary file beside it, fsync, rename.

    Raises:
        OSError: the disk is full or not writable; the old file is untouched and the temporary one removed.
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def check_place(path: str | os.PathLike, option: str = "--out") -> None:
    """Refuses a place where no file can be, before any work is done for it.

    Raises:
        WorkdirError: it is a folder, or lies in none; names the option.
    """
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise WorkdirError(f"{option} {path} must be a file in a folder that exists.")


def temporary_path(path: Path) -> Path:
    """Where `path` is written until it is whole: beside it, hidden, with the number of this process."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` when it is whole.

    Raises:
        OSError: the disk is full or not writable; the old folder is untouched and the temporary one removed.
    """
    temporary, old = temporary_path(path), _old_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
    except BaseException as error:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Removes a folder, if there is one: it is out of sight at once, so that a process killed meanwhile leaves no part.

    Raises:
        OSError: it cannot be moved out of sight, and is untouched.
    """
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        temporary = temporary_path(path)
        os.rename(path, temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def check_old(path: Path, mark: str) -> None:
    """Refuses, as `restore_folder` does, what is not ours, and changes nothing."""
    old = _old_path(path)
    if old.exists() and not (old / mark).is_file():
        raise WorkdirError(f"{old} is in the way, and is none of our folders: move it to another place.")


def restore_folder(path: Path, mark: str) -> None:
    """Brings back a folder that a process was killed while replacing.

    Args:
        path: the folder.
        mark: a file that every such folder has.

    Raises:
        WorkdirError: something else has the name that the old folder is kept under.
    """
    check_old(path, mark)
    old = _old_path(path)
    if old.exists():
        shutil.rmtree(old) if path.exists() else os.rename(old, path)


def _old_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def sweep(folder: Path, folders: bool = False, name: str = "*") -> None:
    """Removes the temporary files of processes that were killed; the temporary folders too, if asked to.

    Args:
        folder: where to look.
        folders: whether to remove folders too.
        name: pattern of what they were to become.
    """
    for path in folder.glob(f".{name}.*.tmp"):
        number = path.name.split(".")[-2]
        if not number.isdecimal() or (int(number) != os.getpid() and _alive(int(number))):
            continue
        if path.is_file():
            path.unlink(missing_ok=True)
        elif folders:
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_json(path: str | os.PathLike, document: Mapping[str, Any]) -> None:
    """Writes `document` with its `schema` number to `path`, atomically.

    Raises:
        ValueError: the document holds NaN or infinity, which JSON has no word for.
    """
    text = json.dumps({"schema": SCHEMA, **document}, indent=1, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a JSON object and checks its schema number, which is taken out of the result.

    Raises:
        FormatError: not JSON, not an object, no schema number or one this version does not know.
    """
    document = read_object(path)
    schema = document.pop("schema", None)
    if schema != SCHEMA or isinstance(schema, bool):
        newer = isinstance(schema, int) and schema > SCHEMA
        hint = "it was written by a newer ofa-tf, so update this one" if newer else f"it must be {SCHEMA}"
        raise FormatError(f"{path} has schema {schema!r}: {hint}.")
    return document


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a JSON object that need not be one of ours. NaN and infinity are refused, large numbers like 1e999 too.

    Raises:
        FormatError: no such file, one that cannot be read, not JSON, not an object.
    """
    try:
        document = json.loads(Path(path).read_bytes(), parse_constant=_finite, parse_float=_finite)
    except FileNotFoundError:
        raise FormatError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise FormatError(f"{path} is a folder; a JSON file is needed.") from None
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise FormatError(f"{path} must hold a JSON object, not a {type(document).__name__}.")
    return document


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def check_keys(document: Any, required: set[str], optional: set[str], where: str) -> None:
    """Refuses a document that lacks a required key or has one that is not known.

    Raises:
        FormatError: names the keys and the place.
    """
    if not isinstance(document, Mapping):
        raise FormatError(f"{where} must be a JSON object, not {document!r}.")
    unknown = sorted(set(document) - required - optional)
    missing = sorted(required - set(document))
    if unknown:
        raise FormatError(f"{where} has the unknown key {unknown[0]!r}; known are {sorted(required | optional)}.")
    if missing:
        raise FormatError(f"{where} lacks the key {missing[0]!r}.")


def from_document(cls: type, document: Any, where: str) -> Any:
    """Builds the dataclass `cls` from a JSON object; lists become tuples, nothing else is converted.

    Raises:
        FormatError: unknown or missing keys, or values that the class refuses.
    """
    fields = dataclasses.fields(cls)
    required = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    check_keys(document, required, {field.name for field in fields} - required, where)
    try:
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in document.items()})
    except TypeError as error:
        raise FormatError(f"{where} has a value of a wrong type: {error}.") from None
