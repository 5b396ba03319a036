"""How fast a file is, ours or not, and how much memory it takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tf.formatting import milliseconds
from ofa_tf.latency.backends import backend_of
from ofa_tf.latency.device import Timing, Workload
from ofa_tf.latency.host import HOST, HostDevice
from ofa_tf.latency.settings import DEFAULT, Settings
from ofa_tf.progress import SILENT, Progress
from ofa_tf.quiet import quiet
from ofa_tf.tflite.describe import describe_file
from ofa_tf.tflite.run import check_runnable
from ofa_tf.tflite.sandbox import ChildInterpreter


@dataclass(frozen=True, repr=False)
class Benchmark:
    """The result of running a file many times.

    Args:
        path: path of the file.
        sha256: SHA-256 of the file.
        size_bytes: size of the file.
        n_macs: multiply-accumulates of one run, in convolutions and fully connected layers.
        device: facts about what it ran on.
        runtime: what ran it, with its settings.
        timing: the runs.
        load_ms: time from the bytes to an interpreter that is ready; None if the device does not report it.
        peak_bytes: memory that the file, the interpreter and a first run took; None if the device does not report it.
    """

    path: Path
    sha256: str
    size_bytes: int
    n_macs: int
    device: Mapping[str, Any]
    runtime: Mapping[str, Any]
    timing: Timing = field(repr=False)
    load_ms: float | None
    peak_bytes: int | None

    def __repr__(self) -> str:
        median = milliseconds(self.timing.percentile_ms(50))
        memory = "" if self.peak_bytes is None else f", {self.peak_bytes / 1e6:.1f} MB"
        n_runs = len(self.timing.runs_ms)
        return f"Benchmark({str(self.path)!r} on {self.device['name']}: {median}, median of {n_runs} runs{memory})"

    def histogram(self, bins: int = 40) -> tuple[np.ndarray, np.ndarray]:
        """Runs by duration, up to twice the median: the few that are slower would leave no room for the others.

        Returns:
            How many runs each bin has, shape (bins,), and the edges of the bins in milliseconds, shape (bins + 1,).
        """
        runs_ms = self.timing.runs_ms
        return np.histogram(runs_ms, bins, (float(runs_ms.min()), 2 * self.timing.percentile_ms(50)))


def benchmark_file(
    path: str | Path,
    device: str = HOST,
    settings: Settings = DEFAULT,
    seconds: float = 5.0,
    progress: Progress = SILENT,
) -> Benchmark:
    """Times a file on a device. On the host it is first run in a child process: it may come from anywhere.

    Args:
        path: the file.
        device: where to run it; for an Edge TPU the file is compiled first.
        settings: how the device runs it.
        seconds: how long to measure on the host; other devices make a fixed number of runs.
        progress: where to report progress, and what of the file stays on the CPU.

    Raises:
        ExportError: the interpreter refuses the file, or crashes on it, or the compiler does.
        FormatError: the file is not TFLite, or damaged.
        DeviceError: there is no such device, or it is not at hand.

    Examples:
        >>> ofa.benchmark("work/exports/first/model.tflite", seconds=0.1)
        Benchmark('work/exports/first/model.tflite' on host: ... ms, median of ... runs...)
    """
    backend = backend_of(device)
    runner = backend.open(device, settings, HostDevice(seconds=seconds))
    description = describe_file(path)
    check_runnable(description.facts, str(path))
    runner = backend.with_file(runner, description.content, progress)
    load_ms = peak_bytes = None
    if backend.runs_here:
        chosen = runner.runtime()
        with ChildInterpreter(description.content, str(path), chosen["threads"], chosen["delegate"]) as child:
            load_ms, peak_bytes = child.load_ms, child.peak_bytes
    with quiet():
        (timing,) = runner.measure([Workload(description.content)], progress=progress)
    if timing.caution:
        progress.note(timing.caution)
    return Benchmark(
        path=Path(path),
        sha256=description.sha256,
        size_bytes=description.facts.size_bytes,
        n_macs=description.facts.n_macs,
        device=runner.facts(),
        runtime=runner.runtime(),
        timing=timing,
        load_ms=load_ms,
        peak_bytes=peak_bytes,
    )
