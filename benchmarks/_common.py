"""What the benchmarks share: facts about the machine, timed processes, a table for people, JSON for programs."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "numpy")
COMMAND = str(Path(sys.executable).parent / "ofa-tf")


def machine() -> dict[str, object]:
    """Processor, cores and memory of this machine."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"processor": processor, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "os": platform.platform()}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def run_timed(command: Sequence[str], **streams: Any) -> tuple[float, float]:
    """Runs a process to its end; its wall and CPU seconds.

    Args:
        command: the program and its arguments.
        streams: what `subprocess.run` takes for standard output and error.

    Raises:
        CalledProcessError: it failed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, **streams)
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(figures: Mapping[str, float], seed: int, json_file: str | None, setting: Mapping | None = None) -> None:
    """Prints the figures as a table and, if a file is named, writes them as JSON, with what they are figures of."""
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:.6g}")
    if json_file:
        document = {"schema": 1, "machine": machine(), "versions": versions(), "seed": seed, "figures": dict(figures)}
        document |= {} if setting is None else {"setting": setting}
        Path(json_file).write_text(json.dumps(document, indent=1) + "\n")
        print(f"written to {json_file}", file=sys.stderr)
