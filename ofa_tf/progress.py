"""How the library tells what it is doing, without knowing about terminals."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Tells nobody anything. A command line subclasses it."""

    @contextmanager
    def task(self, title: str, total: int, unit: str = "steps", done: int = 0) -> Iterator[Callable[[int], None]]:
        """Opens a piece of long work.

        Args:
            title: what is being done.
            total: how many units there are.
            unit: what is counted.
            done: units done before, in an earlier run.

        Yields:
            A function to call with the number of units done since the last call.
        """
        del title, total, unit, done
        yield lambda _: None

    def note(self, text: str) -> None:
        """Says one sentence that a user should read."""
        del text


SILENT = Progress()
