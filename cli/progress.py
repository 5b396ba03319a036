"""Progress for people: bars on a terminal, plain lines otherwise, both on standard error."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from ofa_tf.progress import Progress as LibraryProgress

SECONDS_BETWEEN_LINES = 15


class _Rate(ProgressColumn):
    def render(self, task) -> Text:
        return Text(f"{task.speed:.1f} {task.fields['unit']}/s" if task.speed else "")


class TerminalProgress(LibraryProgress):
    """Writes to a copy of standard error, so that it is still heard while TensorFlow is kept quiet."""

    def __enter__(self) -> "TerminalProgress":
        self._terminal = sys.stderr.isatty()
        try:
            self._stream: IO[str] = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1)
        except (OSError, ValueError):  # standard error is not a file, as under a test runner
            self._stream = sys.stderr
        self._console = Console(file=self._stream, width=None if self._terminal else 160)
        return self

    def __exit__(self, *_) -> None:
        if self._stream is not sys.stderr:
            self._stream.close()

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int, unit: str = "steps", done: int = 0) -> Iterator[Callable[[int], None]]:
        if self._terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self._console) as bar:
                task = bar.add_task(title, total=total, completed=done, unit=unit)
                yield lambda n: bar.advance(task, n)
            return
        start = last = time.monotonic()
        count = done

        def advance(n: int) -> None:
            nonlocal count, last
            count += n
            now = time.monotonic()
            if now - last > SECONDS_BETWEEN_LINES and done < count < total:
                last = now
                rate = (count - done) / (now - start)
                self.note(f"{title}: {count}/{total} {unit}, {rate:.1f} a second, {(total - count) / rate:.0f} s left")

        yield advance
        self.note(f"{title}: {count}/{total} {unit} in {time.monotonic() - start:.0f} s")
