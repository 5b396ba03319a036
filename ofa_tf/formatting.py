"""How figures are written for people, by commands and on the report's page alike."""

import unicodedata
from collections.abc import Sequence

MOST_SHOWN = 80  # characters of a value in a message


# What a terminal obeys instead of showing it, or cannot show: control characters, marks that turn the direction of
# writing, halves of characters, separators of lines.
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
KEPT = "\n\t\u200c\u200d"  # lines and columns; what joins letters and emoji


def visible(text: str) -> str:
    """A text for a terminal, with escapes such as `\\x1b` for all that it would not show."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in HIDDEN and c not in KEPT else c for c in text
    )


def shown(value: object) -> str:
    """A value from a file, cut short: what `repr` gives may be endless, and it fails for an integer of 5,000 digits."""
    text = f"0x{value:x}" if isinstance(value, int) and value.bit_length() > 256 else repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


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


def kilobytes(size_bytes: float) -> str:
    """`12.3 kB`, of 1,000 bytes."""
    return f"{size_bytes / 1e3:.1f} kB"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h` or `12 days`."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (2 * 86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.0f} days"
