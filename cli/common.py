"""What commands share: options, progress bars, tables."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click


def workdir_option(default: str = ".") -> Callable:
    """The option `--workdir`."""
    return click.option(
        "--workdir", "-w", default=default, show_default=True, metavar="DIR", help="Folder of the project."
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output.")
device_option = click.option("--device", default="host", show_default=True, help="`host`, or the name of a table.")
precision_option = click.option(
    "--precision", type=click.Choice(["int8", "fp16", "fp32"]), default="int8", show_default=True, help="Of the file."
)


class Milliseconds(click.ParamType):
    """A positive, finite number."""

    name = "MS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not 0 < number < float("inf"):
            self.fail(f"{value!r} is not a positive number of milliseconds.", param, ctx)
        return number


@contextmanager
def library() -> Iterator[Any]:
    """Loads TensorFlow without its chatter; yields a progress that draws bars, or lines where there is no terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from ofa_tf.cli.progress import TerminalProgress

    from ofa_tf.quiet import quiet

    with TerminalProgress() as progress:
        with quiet():
            import tensorflow  # noqa: F401
        yield progress


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Prints a table for people to standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def print_json(document: Any) -> None:
    """Prints one JSON object to standard output."""
    click.echo(json.dumps(document, allow_nan=False))


def percent(share: float) -> str:
    """`98.4 %`."""
    return f"{share:.1%}".replace("%", " %")


def milliseconds(value: float | None, error: float | None = None) -> str:
    """`14.8 ms ± 4 %`: the error is the table's mean error on whole subnets."""
    if value is None:
        return "-"
    return f"{value:.3g} ms" + (f" ± {error:.0%}".replace("%", " %") if error is not None else "")


def elapsed(since: float) -> float:
    """Seconds since a `time.monotonic()`."""
    return time.monotonic() - since
