"""Opening files that may be anybody's: regular files only, of bounded size, so that nothing waits or fills memory."""

import os
import stat
from pathlib import Path
from typing import IO

from ofa_tf.errors import FormatError, OfaError

JSON_BYTES = 256 << 20  # a latency table of the largest space has 20 MB
TEXT_BYTES = 16 << 20
JOURNAL_BYTES = 256 << 20


def open_regular(
    path: str | os.PathLike, kind: str, most: int | None = None, error: type[OfaError] = FormatError
) -> IO[bytes]:
    """Opens a file for reading. It does not wait for a pipe and does not read a device.

    Args:
        path: the file.
        kind: what it should be, for messages, such as "JSON".
        most: the largest size in bytes; None for any.
        error: what is raised.

    Raises:
        OfaError: of the type `error`: there is no such file, it is something else, too large or not readable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise error(f"There is no file {path}.") from None
    except (OSError, ValueError) as failure:  # a null byte in the name
        raise error(f"{path} cannot be read: {getattr(failure, 'strerror', failure)}.") from None
    status = os.fstat(descriptor)
    complaint = _complaint(path, status, kind, most)
    if complaint:
        os.close(descriptor)
        raise error(complaint)
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | os.PathLike, kind: str, most: int, error: type[OfaError] = FormatError) -> bytes:
    """The content of a file; arguments and errors are those of `open_regular`."""
    with open_regular(path, kind, most, error) as file:
        try:
            content = file.read(most + 1)
        except OSError as failure:
            raise error(f"{path} cannot be read: {failure.strerror}.") from None
    if len(content) > most:
        raise error(f"{path} has more than {most} bytes, and a {kind} file has at most that many.")
    return content


def read_text(path: str | os.PathLike, kind: str, most: int = TEXT_BYTES, error: type[OfaError] = FormatError) -> str:
    """The text of a file in UTF-8; arguments and errors are those of `open_regular`."""
    try:
        return read_regular(path, kind, most, error).decode()
    except UnicodeDecodeError:
        raise error(f"{path} is not a text file in UTF-8.") from None


def _complaint(path: str | os.PathLike, status: os.stat_result, kind: str, most: int | None) -> str:
    if stat.S_ISDIR(status.st_mode):
        return f"{path} is a folder; a {kind} file is needed."
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a file; a {kind} file is needed."
    if most is not None and status.st_size > most:
        return f"{path} has {status.st_size} bytes, and a {kind} file has at most {most}."
    return ""


def strange_entry(folder: Path, name: str) -> str:
    """What is strange about an entry of a folder that strangers may have made; empty where nothing is.

    Args:
        folder: the folder.
        name: a file, or a folder that is looked through.

    Returns:
        A clause such as "work/lut is a link out of work", for the first entry that is neither a file nor a folder, or
        that a link leads to another place from.
    """
    root = folder.resolve()
    entries = [folder / name]
    while entries:
        path = entries.pop()
        try:
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                return f"{path} is a link out of {folder}"
            if path.is_dir():
                entries += sorted(path.iterdir()) if not path.is_symlink() else []
            elif path.exists() and not path.is_file():
                return f"{path} is neither a file nor a folder"
        except (OSError, RuntimeError) as failure:  # a circle of links
            return f"{path} cannot be read ({getattr(failure, 'strerror', None) or failure})"
    return ""
