"""Progress for people: bars on a terminal and in a notebook, plain lines otherwise."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from ofa_tf.formatting import visible
from ofa_tf.progress import SILENT, Progress

SECONDS_BETWEEN_LINES = 15
SECONDS_BETWEEN_UPDATES = 0.5  # of a notebook's line
BAR_WIDTH = 30  # characters


class _Rate(ProgressColumn):
    def render(self, task) -> Text:
        return Text(f"{task.speed:.1f} {task.fields['unit']}/s" if task.speed else "")


class TerminalProgress(Progress):
    """Writes to a copy of standard error, so that it is still visible while TensorFlow is kept quiet."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        try:
            self._stream: IO[str] = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1)
        except (OSError, ValueError):  # standard error is not a file, as under a test runner
            self._stream = sys.stderr
        self._console = Console(file=self._stream, width=None if self._terminal else 160)

    def __enter__(self) -> "TerminalProgress":
        return self

    def __exit__(self, *_) -> None:
        if self._stream is not sys.stderr:
            self._stream.close()

    def note(self, text: str) -> None:
        self._console.print(visible(text), highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int, unit: str = "steps", done: int = 0) -> Iterator[Callable[[int], None]]:
        title = visible(title)
        if self._terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
            )
            with Bars(*columns, console=self._console) as bars:
                task = bars.add_task(title, total=total, completed=done, unit=unit)
                yield lambda n: bars.advance(task, n)
            return
        count = _Count(title, total, unit, done)

        def advance(n: int) -> None:
            if count.advance(n, SECONDS_BETWEEN_LINES) and done < count.done < total:
                self.note(f"{count}, {count.rate:.1f} per second, {count.seconds_left:.0f} s left")

        yield advance
        self.note(f"{count} in {count.seconds:.0f} s")


class NotebookProgress(Progress):
    """Draws a line per task below the cell of a notebook, and keeps it up to date."""

    def note(self, text: str) -> None:
        _display(text)

    @contextmanager
    def task(self, title: str, total: int, unit: str = "steps", done: int = 0) -> Iterator[Callable[[int], None]]:
        count = _Count(title, total, unit, done)
        line = _display(str(count), display_id=True)

        def advance(n: int) -> None:
            if count.advance(n, SECONDS_BETWEEN_UPDATES):
                filled = BAR_WIDTH * count.done // max(total, 1)
                bar = "█" * filled + "░" * (BAR_WIDTH - filled)
                left = f", {count.seconds_left:.0f} s left" if count.rate else ""
                _update(line, f"{bar} {count}{left}")

        yield advance
        _update(line, f"{count} in {count.seconds:.0f} s")


class _Count:
    """How far a task is."""

    def __init__(self, title: str, total: int, unit: str, done: int):
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._first = done
        self._start = self._last = time.monotonic()

    def advance(self, n: int, pause_s: float) -> bool:
        """Adds to the count; says whether it is time to show it again."""
        self.done += n
        now = time.monotonic()
        due = now - self._last > pause_s
        if due:
            self._last = now
        return due

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    @property
    def rate(self) -> float:
        """Units per second in this run."""
        return (self.done - self._first) / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float:
        return (self.total - self.done) / self.rate

    def __str__(self) -> str:
        return f"{self.title}: {self.done}/{self.total} {self.unit}"


def _display(text: str, **options: Any) -> Any:
    from IPython.display import display

    return display({"text/plain": text}, raw=True, **options)


def _update(line: Any, text: str) -> None:
    line.update({"text/plain": text}, raw=True)


def default_progress() -> Progress:
    """Bars in a notebook and on a terminal; nothing elsewhere."""
    if "ipykernel" in sys.modules:
        return NotebookProgress()
    return TerminalProgress() if sys.stderr is not None and sys.stderr.isatty() else SILENT
