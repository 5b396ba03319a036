"""How the library reports what it is doing, without knowing about terminals."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Reports nothing. A command line subclasses it."""

    @contextmanager
    def task(self, title: str, total: int, unit: str = "steps", done: int = 0) -> Iterator[Callable[[int], None]]:
        """Begins a long task.

        Args:
            title: what is being done.
            total: number of units.
            unit: name of what is counted.
            done: units done in an earlier run.

        Yields:
            A function to call with the number of units done since the last call.
        """
        del title, total, unit, done
        yield lambda _: None

    def note(self, text: str) -> None:
        """Reports one sentence that a user should read."""
        del text


class Once(Progress):
    """Says no sentence twice, where the same thing is looked at again.

    Args:
        progress: where the sentences go.
    """

    def __init__(self, progress: Progress):
        self.task = progress.task  # type: ignore[method-assign]
        self._note = progress.note
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._note(text)


SILENT = Progress()
