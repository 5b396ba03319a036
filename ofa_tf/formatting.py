"""How figures are written for people, by commands and on the report's page alike."""

from collections.abc import Sequence


def percent(share: float | None) -> str:
    """`98.4 %`, or `-` for what is not known."""
    return "-" if share is None else f"{share * 100:.1f} %"


def multipliers(width_mult: float | Sequence[float]) -> str:
    """`1.2`, or `0.65, 0.8, 1` for width multipliers to choose from."""
    return ", ".join(f"{mult:g}" for mult in (width_mult if isinstance(width_mult, Sequence) else [width_mult]))


def milliseconds(value: float | None, error: float | None = None) -> str:
    """`14.8 ms ± 4 %`, or `-` for what is not known: the error is the table's mean error on whole subnets."""
    if value is None:
        return "-"
    if error is None:
        return f"{value:.3g} ms"
    return f"{value:.3g} ms ± {error * 100:.{0 if error >= 0.0095 else 1}f} %"
