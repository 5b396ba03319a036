"""Files and folders that are either the old ones or the new ones, never half of each."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from ofa_tf.errors import WorkdirError


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
def replacing_folder(path: Path, replace: bool) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` when it is whole.

    Args:
        path: the folder.
        replace: whether one that is there by then is replaced.

    Raises:
        WorkdirError: another process has made the folder meanwhile, and it is not to be replaced.
        OSError: the disk is full or not writable; the old folder is untouched and the temporary one removed.
    """
    temporary, old = temporary_path(path), _old_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.mkdir()
        yield temporary
        if replace and path.exists():
            os.rename(path, old)
        try:
            os.rename(temporary, path)  # onto nothing, or an empty folder
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            raise WorkdirError(f"{path} was made meanwhile by another process: choose another name.") from None
    except BaseException as error:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove_folders(paths: Iterable[Path]) -> None:
    """Removes those of some folders that exist: all, or none if one cannot be moved out of sight.

    A process that is killed meanwhile leaves no part of them in sight.

    Raises:
        OSError: one cannot be moved, and all are as they were.
    """
    moved: list[tuple[Path, Path]] = []
    try:
        for path in paths:
            if path.is_symlink() or path.exists():
                moved.append((path, temporary_path(path)))
                os.rename(*moved[-1])
    except BaseException:  # Ctrl-C, too
        for path, temporary in reversed(moved):
            if temporary.is_symlink() or temporary.exists():
                os.rename(temporary, path)
        raise
    for _, temporary in moved:
        if temporary.is_symlink():
            temporary.unlink()
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
