"""The sources of the Android app in a folder of their own, where they are built and tested."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "android_bench"
JAVA_TOOLS = ("make", "javac", "jar", "java", "curl")


def run(*command, folder: Path | None = None, status: int = 0) -> str:
    """What a command prints."""
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def copied_sources(folder: Path, tools: tuple[str, ...]) -> Path:
    """A copy of the sources; tests skip where they cannot be built, except in CI, where they fail."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and "CI" not in os.environ:
        pytest.skip(f"needs {', '.join(missing)}")
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("build"))
    got = subprocess.run(["make", "downloads"], cwd=folder, capture_output=True, text=True, timeout=600)
    if got.returncode and "CI" not in os.environ:
        pytest.skip("needs Maven Central")
    assert not got.returncode, got.stdout + got.stderr
    return folder
