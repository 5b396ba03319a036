"""Checks for options of the command line and arguments of the library, which give the same messages."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ofa_tf.errors import ArgumentError
from ofa_tf.precision import table_precisions

T = TypeVar("T")
LEAST, MOST = 1e-12, 1e15  # of whatever is counted; what lies beyond is a mistake, and overflows
NO_BUDGET = (
    "Missing option '--latency': give a positive number of milliseconds, or --macs, --params, --size-kb, --ram-kb or "
    "--pareto."
)


def positive(value: Any, unit: str = "") -> float:
    """A positive number that is neither tiny nor huge.

    Args:
        value: what was given, a number or a text.
        unit: what it counts, for the error.

    Raises:
        ArgumentError: it is something else.
    """
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise ArgumentError(f"{value!r} is not a positive number{unit and ' of '}{unit}.")
    if not LEAST <= number <= MOST:
        raise ArgumentError(f"{value!r} is not a number{unit and ' of '}{unit} from {LEAST:g} to {MOST:g}.")
    return number


def whole(value: Any, least: int, most: int) -> int:
    """A whole number within bounds.

    Raises:
        ArgumentError: it is something else.
    """
    try:
        number = least - 1 if isinstance(value, bool | float) else int(value)
    except (TypeError, ValueError):
        number = least - 1
    if not least <= number <= most:
        raise ArgumentError(f"{value!r} is not a whole number from {least} to {most}.")
    return number


def one_of(value: T, choices: Sequence[T]) -> T:
    """One of some values.

    Raises:
        ArgumentError: it is not one of them.
    """
    if value not in choices:
        raise ArgumentError(f"{value!r} is not one of {', '.join(map(repr, choices))}.")
    return value


def optional(name: str, check: Callable[..., T], value: Any, *bounds: Any) -> T | None:
    """The checked value of an argument, or None where it is None; an error names the argument."""
    return None if value is None else required(name, check, value, *bounds)


def required(name: str, check: Callable[..., T], value: Any, *bounds: Any) -> T:
    """The checked value of an argument; an error names it."""
    try:
        return check(value, *bounds)
    except ArgumentError as error:
        raise ArgumentError(f"Invalid value for `{name}`: {error}") from None


def table_precision(name: str) -> str:
    """The precision, if there are latency tables for it."""
    return required("precision", one_of, name, table_precisions())
