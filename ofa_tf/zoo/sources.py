"""Where an import comes from: a published name, a local file, or an address."""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ofa_tf.errors import FormatError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.zoo.download import Tell, fetch, file_sha256

KILOBYTE = 1000


@dataclass(frozen=True)
class Source:
    """A file that is at hand.

    Args:
        path: the file.
        address: where it came from, an address or a path.
    """

    path: Path
    address: str

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file, in hexadecimal."""
        return file_sha256(self.path)

    def to_document(self) -> dict[str, str]:
        """Address and hash, as JSON values."""
        return {"address": self.address, "sha256": self.sha256}


def is_address(source: str) -> bool:
    """Whether a source is to be downloaded."""
    return source.startswith(("http://", "https://"))


def get_file(source: str, max_bytes: int, progress: Progress = SILENT) -> Source:
    """A local file, or a download of an address, which may already be in the cache.

    Raises:
        FormatError: no such file, or a file of more than `max_bytes`.
        DownloadError: the download fails.
    """
    if is_address(source):
        with _bar(source, progress) as tell:
            return Source(fetch(source, max_bytes=max_bytes, progress=tell), source)
    path = Path(source)
    if not path.is_file():
        raise FormatError(f"There is no file {source}.")
    if path.stat().st_size > max_bytes:
        raise FormatError(f"{source} has {path.stat().st_size} bytes; at most {max_bytes} are accepted.")
    return Source(path, os.fspath(path.resolve()))


@contextmanager
def _bar(address: str, progress: Progress) -> Iterator[Tell]:
    """Shows a download as a progress bar, once its size is known."""
    advance: Callable[[int], None] | None = None
    shown = 0
    with contextlib.ExitStack() as stack:

        def tell(done: int, total: int | None) -> None:
            nonlocal advance, shown
            if advance is None:
                if total is None:
                    return
                title = f"downloading {address.rpartition('/')[2]}"
                shown = done // KILOBYTE
                advance = stack.enter_context(progress.task(title, -(-total // KILOBYTE), "kB", done=shown))
            now = -(-done // KILOBYTE) if done == total else done // KILOBYTE
            advance(now - shown)
            shown = now

        yield tell
