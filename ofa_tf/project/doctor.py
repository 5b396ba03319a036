"""What this machine has for ofa-tf, and what is missing."""

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

REQUIRED = (
    "tensorflow",
    "keras",
    "ai-edge-litert",
    "tf-keras",
    "tensorflow-model-optimization",
    "numpy",
    "click",
    "rich",
    "matplotlib",
    "pillow",
    "scikit-learn",
    "scipy",
    "pyyaml",
    "libusb-package",
)
TFLITE_SUPPORT = "0.4.4"
PROGRAMS = {
    "adb": "needed to measure on phones",
    "edgetpu_compiler": "needed to compile for an Edge TPU (x86-64 Linux, from Coral)",
}


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


def examine() -> list[Check]:
    """Looks for Python, packages and optional programs; imports nothing heavy."""
    checks = [Check("python", sys.version_info >= (3, 11), platform.python_version())]
    for package in REQUIRED:
        found = _version(package)
        checks.append(Check(package, found is not None, found or f"missing: pip install {package}"))
    return [*checks, tflite_support(), *(_program(name, use) for name, use in PROGRAMS.items())]


def tflite_support() -> Check:
    """Whether the metadata library is there; `docs/dependencies.md` says why it is installed on its own."""
    found = _version("tflite-support")
    if found:
        return Check("tflite-support", True, found)
    if sys.version_info >= (3, 12):
        detail = f"missing, no file metadata: its last release ({TFLITE_SUPPORT}) ends at Python 3.11"
    else:
        detail = f"missing, no file metadata: pip install --no-deps tflite-support=={TFLITE_SUPPORT}"
    return Check("tflite-support", False, detail)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _program(name: str, use: str) -> Check:
    path = shutil.which(name)
    return Check(name, path is not None, path or f"not found; {use}")
