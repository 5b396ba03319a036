"""What the commands share: options, progress bars, tables."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from ofa_tf.errors import ArgumentError
from ofa_tf.formatting import visible
from ofa_tf.precision import table_precisions
from ofa_tf.project.arguments import positive, whole

WIDE = 10_000  # characters, where no terminal limits a table
FOLDABLE = 4  # columns that can still be read when their cells are folded


def workdir_option(default: str = ".") -> Callable:
    """The option `--workdir`."""
    return click.option(
        "--workdir", "-w", default=default, show_default=True, metavar="DIR", help="Folder of the project."
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output.")
device_option = click.option(
    "--device",
    default="host",
    show_default=True,
    help="`host` (this machine), `adb:SERIAL`, `edgetpu` or `ethos-u55-128`.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(table_precisions()),
    default="int8",
    show_default=True,
    help="Precision of the model file.",
)
images_option = click.option(
    "--data", metavar="FOLDER", help="Images for an imported network: train/<class>/*.jpg and, optionally, val/."
)


class Whole(click.ParamType):
    """A whole number within bounds."""

    name = "N"

    def __init__(self, least: int, most: int):
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return whole(value, self.least, self.most)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)


class Positive(click.ParamType):
    """A positive, finite number.

    Args:
        name: its placeholder in the help text.
        unit: the unit that error messages name.
    """

    def __init__(self, name: str = "X", unit: str = ""):
        self.name, self.unit = name, unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return positive(value, self.unit)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)

    def get_missing_message(self, *_, **__) -> str:
        return f"Give a positive number{self.unit and ' of '}{self.unit}."


MILLISECONDS = Positive("MS", "milliseconds")


ram_option = click.option(
    "--ram-kb", type=Positive("KB"), help="Budget of the predicted peak RAM on a microcontroller, in kilobytes."
)


def _only_size(_, option: click.Parameter, values: tuple[float, ...]) -> float | None:
    if len(values) > 1:
        raise click.UsageError("Give --size-kb or --flash-kb, once: they are two names of one budget.")
    return values[0] if values else None


size_option = click.option(
    "--size-kb",
    "--flash-kb",
    "size_kb",
    type=Positive("KB"),
    multiple=True,
    callback=_only_size,
    help="Budget of the predicted file size, in kilobytes (1,000 bytes).",
)

benchmark_model_option = click.option(
    "--benchmark-model",
    metavar="FILE",
    help="TFLite's benchmark_model for a phone's processor, or an app that contains it.",
)


app_option = click.option(
    "--app", metavar="APK", help="ofa-tf's benchmark app, which runs the files on a phone itself."
)


def runtime_options(function):
    """Adds the options that say how a device runs files."""
    for option in (
        app_option,
        benchmark_model_option,
        click.option(
            "--cores", metavar="N,N", callback=_parse_cores, help="Use only these processor cores of this machine."
        ),
        click.option(
            "--delegate",
            type=click.Choice(["none", "xnnpack"]),
            help="Delegate of the interpreter.  [default: none; on phones xnnpack]",
        ),
        click.option("--threads", type=Whole(1, 64), help="Threads of the interpreter.  [default: 1]"),
    ):
        function = option(function)
    return function


def _parse_cores(_, option: click.Parameter, value: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(core) for core in value.split(",")) if value is not None else ()
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of core numbers such as 0,1.", param=option) from None


@contextmanager
def library(tensorflow: bool = True) -> Iterator[Any]:
    """Yields a progress that draws bars, or prints lines where there is no terminal.

    Args:
        tensorflow: whether to load it now; otherwise it is loaded when it is first needed.
    """
    from ofa_tf.quiet import load_tensorflow
    from ofa_tf.terminal import TerminalProgress

    with TerminalProgress() as progress:
        if tensorflow:
            load_tensorflow()
        yield progress


def fits(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bool:
    """Whether the terminal is wide enough for a table; a file always is."""
    lengths = ([len(str(cell)) for cell in column] for column in zip(columns, *rows, strict=True))
    return sum(max(cells) + 3 for cells in lengths) + 1 <= _console().width


def _console():
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, markup=False, highlight=False, emoji=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Prints a table to standard output, or row by row where the terminal is too narrow for a table."""
    from rich.table import Table

    rows, console = [[visible(str(cell)) for cell in row] for row in rows], _console()
    columns = [visible(name) for name in columns]
    if fits(columns, rows) or len(columns) <= FOLDABLE:
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    if title:
        console.print(title)
    margin = max(map(len, columns))
    for row in rows:
        for name, cell in zip(columns, row, strict=True):
            console.print(f"{name:>{margin}}: {cell}", soft_wrap=True)
        console.print()


def say(text: str, err: bool = False) -> None:
    """Prints a line to standard output, or to standard error."""
    click.echo(visible(text), err=err)


def print_caution(caution: str | None, as_json: bool) -> None:
    """Prints a sentence below what it is about; to standard error if JSON was asked for."""
    if caution is not None:
        say(caution, err=as_json)


def print_json(document: Any) -> None:
    """Prints one JSON object to standard output."""
    click.echo(json.dumps(document, allow_nan=False))
