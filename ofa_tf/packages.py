"""Which packages are installed."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Check:
    """One thing looked for.

    Args:
        name: what.
        good: whether it is there.
        detail: its version, or what to do.
    """

    name: str
    good: bool
    detail: str


def check_package(name: str) -> Check:
    """Looks for a package by its name on PyPI; imports nothing."""
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, f"missing: pip install {name}")
