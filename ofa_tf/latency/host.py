"""This machine as a device: ai-edge-litert in a separate process."""

import dataclasses
import json
import os
import platform
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ofa_tf.errors import DeviceError
from ofa_tf.latency.backend import Backend
from ofa_tf.latency.device import Device, Timing, Workload, check_settings
from ofa_tf.latency.settings import DEFAULT, Settings
from ofa_tf.latency.table import LatencyTable
from ofa_tf.progress import SILENT, Progress

HOST = "host"
LIMIT_S = 300.0  # for a run: a file may hold a loop without an end
CORE_CONTROL = sys.platform == "linux"


@dataclass(frozen=True)
class HostDevice:
    """This machine, with ai-edge-litert in a child process, so that a crash or a leak cannot take the run down.

    Args:
        threads: threads of the interpreter.
        delegate: "none", or "xnnpack", which is LiteRT's default. It is slower on x86 for full-integer files with large
            depthwise kernels.
        cores: numbers of the processor cores that the child may use; empty for any.
        seconds: total time to measure; long enough that the runs include quiet moments of a busy machine.
        least_rounds: least number of turns of each file.
        runs: timed runs per turn, after one that is not timed.

    Raises:
        DeviceError: a setting that does not exist.
    """

    threads: int = 1
    delegate: str = "none"
    cores: tuple[int, ...] = ()
    seconds: float = 10.0
    least_rounds: int = 12
    runs: int = 4
    resizes: ClassVar[bool] = True

    def __post_init__(self):
        check_settings(self.threads, self.delegate)
        if self.cores and not CORE_CONTROL:
            raise DeviceError("`cores`: this operating system does not let a program choose its cores.")
        if unknown := set(self.cores) - set(available_cores()):
            raise DeviceError(f"`cores`: core {min(unknown)} is not one of {available_cores()}.")

    def facts(self) -> Mapping[str, Any]:
        """Name, processor and operating system of this machine."""
        facts = {"name": HOST, "model": platform.machine(), "soc": _processor(), "os": platform.platform()}
        return facts | ({"cores": list(self.cores)} if self.cores else {})

    def runtime(self) -> Mapping[str, Any]:
        """LiteRT and its settings."""
        settings = {"threads": self.threads, "delegate": self.delegate}
        return {"name": "ai-edge-litert", "version": version("ai-edge-litert"), **settings}

    def measure(self, workloads: Sequence[Workload], seed: int = 0, progress: Progress = SILENT) -> list[Timing]:
        """Times files on this machine.

        Raises:
            DeviceError: the interpreter refuses a file, crashes on it, or does not end.
        """
        with tempfile.TemporaryDirectory(prefix="ofa-tf-") as folder:
            # A file that is run at several sizes is written once.
            contents = dict.fromkeys(workload.content for workload in workloads)
            paths = {content: str(Path(folder, f"{n}.tflite")) for n, content in enumerate(contents)}
            try:
                for content, path in paths.items():
                    Path(path).write_bytes(content)
            except OSError as error:  # which does not tell what was written
                error.filename = folder
                raise
            results = Path(folder, "runs.npz")
            request = {
                "workloads": [[paths[workload.content], workload.in_size] for workload in workloads],
                "results": str(results),
                "seed": seed,
                "threads": self.threads,
                "delegate": self.delegate,
                "cores": list(self.cores),
                "seconds": self.seconds,
                "least_rounds": self.least_rounds,
                "runs": self.runs,
            }
            _run_child(request, progress)
            with np.load(results) as runs:
                return [Timing(runs[str(index)] * 1e3) for index in range(len(workloads))]


class HostBackend(Backend):
    """This machine."""

    usage = HOST
    always_at_hand = True
    runs_here = True

    def describe(self, name: str) -> str:
        """In words, since its name is the same on every machine."""
        return "this machine"

    def option(self, name: str) -> str:
        """Nothing: it is the default."""
        return ""

    def name_from_here(self, device: Mapping[str, Any]) -> str:
        """`host` for this machine; another one is called after its processor, such as `host-amd-epyc`."""
        if is_this_machine(device):
            return HOST
        processor = re.sub(r"\((r|tm|c)\)", "", str(device.get("soc", device.get("model"))).lower())
        return f"{HOST}-{re.sub('[^a-z0-9]+', '-', processor).strip('-') or 'other'}"

    def open(self, name: str, settings: Settings = DEFAULT, host: Device | None = None) -> HostDevice:
        """This machine; the way of measuring of `host` is kept.

        Raises:
            DeviceError: a setting that does not exist.
        """
        here = host if isinstance(host, HostDevice) else HostDevice()
        return dataclasses.replace(here, **settings.chosen(), cores=settings.cores)

    def settings_of(self, table: LatencyTable, settings: Settings = DEFAULT) -> Settings:
        """Of the table are the cores, too."""
        cores = tuple(table.device.get("cores", ()))
        return dataclasses.replace(super().settings_of(table, settings), cores=cores)

    def threads_to_try(self) -> Sequence[int]:
        """No more than there are cores."""
        return [n for n in super().threads_to_try() if n <= n_cores()]

    def in_passes(self, device: Device, passes: int) -> tuple[Device, int]:
        """The seconds and rounds of the host are for the whole table: each pass has its share."""
        assert isinstance(device, HostDevice)
        seconds, least_rounds = device.seconds / passes, -(-device.least_rounds // passes)
        return dataclasses.replace(device, seconds=seconds, least_rounds=least_rounds), passes

    def counts(self, table: LatencyTable) -> bool:
        """Only of the runtime that is installed."""
        installed = HostDevice().runtime()
        return all(table.runtime.get(key) == installed[key] for key in ("name", "version"))


def available_cores() -> list[int]:
    """Numbers of the cores that this process may use; empty where the system does not report them."""
    return sorted(os.sched_getaffinity(0)) if CORE_CONTROL else []


def n_cores() -> int:
    """How many processor cores this process may use."""
    return len(available_cores()) or os.cpu_count() or 1


def _run_child(request: Mapping[str, Any], progress: Progress) -> None:
    """Lets a child measure, and passes on what it reports; the child dies with this function."""
    command = [sys.executable, "-m", "ofa_tf.latency.host_worker"]
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, bufsize=0) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with suppress(BrokenPipeError), child.stdin:  # of one that died at once, the status below says how
                child.stdin.write(json.dumps(request).encode())
            last: dict[str, Any] = {}
            with progress.task("measuring", 100, "%") as advance:
                while True:
                    if not select.select([child.stdout], [], [], LIMIT_S)[0]:
                        raise DeviceError(f"One run of the file took longer than {LIMIT_S:g} s and was stopped.")
                    if not (line := child.stdout.readline()):
                        break
                    message = json.loads(line)
                    last |= message
                    advance(message.get("percent", 0))
        except BaseException:
            child.kill()
            raise
        code = child.wait()
        if "error" in last:
            raise DeviceError(f"The interpreter refuses the file: {last['error'].rstrip('.')}.")
        if code:
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
            at = f" at file {last['file'] + 1} of {len(request['workloads'])}" if "file" in last else ""
            raise DeviceError(f"The measuring process {how}{at}{': ' if said else ''}{''.join(said)}.")


def is_this_machine(device: Mapping[str, Any]) -> bool:
    """Whether a table's facts about a host are those of this machine; facts that it lacks contradict nothing."""
    here = HostDevice().facts()
    return all(device.get(fact, here[fact]) == here[fact] for fact in ("model", "soc"))


def _processor() -> str:
    """The processor as Linux names it, or else the board, since few ARM processors have a name there."""
    names: list[str] = []
    with suppress(OSError), open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    if not names:
        with suppress(OSError):
            names = [Path("/proc/device-tree/model").read_text().rstrip("\0")]
    return names[0] if names else platform.processor() or "unknown"
