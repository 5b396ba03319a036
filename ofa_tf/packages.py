"""Which packages are installed."""

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

TFLITE_SUPPORT = "0.4.4"


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
    found = _version(name)
    return Check(name, found is not None, found or f"missing: pip install {name}")


def check_tflite_support() -> Check:
    """Looks for the metadata library; `docs/dependencies.md` says why it is installed on its own."""
    found = _version("tflite-support")
    if found:
        return Check("tflite-support", True, found)
    if sys.version_info >= (3, 12):
        detail = f"missing, no file metadata: its last release ({TFLITE_SUPPORT}) ends at Python 3.11"
    else:
        detail = f"missing, no file metadata: pip install --no-deps tflite-support=={TFLITE_SUPPORT}"
    return Check("tflite-support", False, detail)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
