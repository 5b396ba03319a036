"""The driver of Vela, Arm's compiler for Ethos-U, which `pip install 'ofa-tf[ethosu]'` brings.

Vela does not run a file: it estimates the cycles of every operator from a model of the hardware. Its figures are
modelled, and are called so.

Reference: https://review.mlplatform.org/plugins/gitiles/ml/ethos-u/ethos-u-vela, version 5.2.0.
"""

import csv
import importlib.util
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ofa_tf.errors import ExportError, FormatError
from ofa_tf.ethosu.targets import NpuTarget
from ofa_tf.processes import MOST_OUTPUT_BYTES, end, read_log, run_to_log
from ofa_tf.progress import SILENT, Progress
from ofa_tf.reading import read_text
from ofa_tf.tflite.operators import read_operators

PROGRAM = "vela"
KNOWN_VERSION = "5.2.0"
SECONDS = 300.0  # for one file
VERSION_SECONDS = 60.0
NPU_OPERATOR = "CUSTOM ethos-u"  # what Vela makes of the operators that run on the NPU
CONFIG = "Arm/vela.ini"  # comes with Vela
INSTALL = "pip install 'ofa-tf[ethosu]'"
ABSENT = f"{PROGRAM}, Arm's compiler for Ethos-U, is not on PATH: `{INSTALL}`."
FIGURES = ("inference_time", "sram_memory_used", "dram_memory_used")
FLASH = ("on_chip_flash_memory_used", "off_chip_flash_memory_used")
LARGEST_FIGURE = 1e12  # seconds, or KiB
VERSION = re.compile(r"\d+(\.\d+)*\S{0,40}")


@dataclass(frozen=True)
class VelaReport:
    """What Vela estimates for a file.

    Args:
        version: version of Vela.
        accelerator: the Ethos-U.
        system_config: the system.
        memory_mode: which memory holds what.
        latency_ms: estimated time of the operators on the NPU; those on the CPU are not in it.
        sram_bytes: SRAM in use at the peak.
        dram_bytes: DRAM in use at the peak.
        flash_bytes: flash in use: the commands of the NPU and the encoded weights.
        n_on_npu: operators on the NPU, as Vela counts them: an activation counts separately.
        on_cpu: operators on the CPU by kind.
    """

    version: str
    accelerator: str
    system_config: str
    memory_mode: str
    latency_ms: float
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int
    n_on_npu: int
    on_cpu: Mapping[str, int]

    @property
    def n_on_cpu(self) -> int:
        """Operators on the CPU."""
        return sum(self.on_cpu.values())

    @property
    def origin(self) -> str:
        """Where its figures come from."""
        return origin(self.version, NpuTarget(self.accelerator, self.system_config, self.memory_mode))

    def to_document(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {**asdict(self), "on_cpu": dict(self.on_cpu), "source": f"modelled by {self.origin}"}


@dataclass(frozen=True)
class Compiled:
    """A compiled file, and what Vela says of it."""

    content: bytes
    report: VelaReport


def origin(version: str, target: NpuTarget) -> str:
    """What latencies are modelled by: program, version, system, memory mode."""
    return f"{PROGRAM} {version}, {target.system_config}, {target.memory_mode}"


def find_vela() -> str | None:
    """Path of the program: the first on PATH, or that beside this Python; None if there is none."""
    beside = Path(sys.executable).with_name(PROGRAM)
    return shutil.which(PROGRAM) or (str(beside) if os.access(beside, os.X_OK) else None)


@dataclass(frozen=True)
class Vela:
    """Vela, as it is installed.

    Args:
        program: path of the program.
        seconds: time limit for a file, after which it is stopped.
    """

    program: str
    seconds: float = SECONDS

    @cached_property
    def version(self) -> str:
        """Its version.

        Raises:
            ExportError: it fails, hangs, or prints something else.
        """
        with tempfile.TemporaryDirectory(prefix="ofa-tf-") as folder:
            log = Path(folder, "log.txt")
            status = self._run(["--version"], log, min(self.seconds, VERSION_SECONDS))
            said = read_log(log)
            self._require_success(status, said, min(self.seconds, VERSION_SECONDS))
        if not VERSION.fullmatch(said.strip()):
            raise ExportError(f"{PROGRAM} --version printed no version: {_cause(said)}")
        return said.strip()

    @property
    def here(self) -> bool:
        """Whether the program is that of this Python, which can then compile many files in one process."""
        same = Path(self.program).absolute() == Path(sys.executable).with_name(PROGRAM).absolute()
        return same and importlib.util.find_spec("ethosu") is not None

    def compile(self, content: bytes, target: NpuTarget) -> Compiled:
        """Compiles one file; as `compile_all`."""
        (compiled,) = self.compile_all([content], target)
        return compiled

    def compile_all(self, contents: Sequence[bytes], target: NpuTarget, progress: Progress = SILENT) -> list[Compiled]:
        """Compiles files.

        Args:
            contents: full-integer `.tflite` files; equal ones are compiled once.
            target: what for.
            progress: where to report progress.

        Raises:
            ExportError: Vela fails, hangs, writes no file or one that cannot be read; says why.
        """
        version, different = self.version, list(dict.fromkeys(contents))
        with tempfile.TemporaryDirectory(prefix="ofa-tf-") as folder:
            jobs = [_write_job(Path(folder, str(index)), content, target) for index, content in enumerate(different)]
            compiled = []
            with (
                progress.task(f"compiling with {PROGRAM}", len(jobs), "files") as advance,
                self._statuses(jobs) as statuses,
            ):
                for job, status in zip(jobs, statuses, strict=True):
                    said = read_log(job.log)
                    self._require_success(status, said, self.seconds)
                    compiled.append(read_results(job.folder, job.log, version, target))
                    shutil.rmtree(job.folder)
                    advance(1)
        found = dict(zip(different, compiled, strict=True))
        return [found[content] for content in contents]

    @contextmanager
    def _statuses(self, jobs: Sequence["_Job"]) -> Iterator[Iterator[int | None]]:
        """The exit status of every job as it ends; None for one that did not end in time."""
        if not self.here or len(jobs) == 1:
            yield (self._run(job.arguments, job.log, self.seconds) for job in jobs)
            return
        command = [sys.executable, "-P", "-m", "ofa_tf.ethosu.worker"]  # -P: nothing from the current folder
        request, log = (jobs[0].folder.with_name(name) for name in ("request.json", "worker.txt"))
        request.write_text(
            json.dumps({"jobs": [[job.arguments, str(job.log)] for job in jobs], "seconds": self.seconds})
        )
        with open(request, "rb") as source, open(log, "wb") as complaints:
            process = subprocess.Popen(
                command, stdin=source, stdout=subprocess.PIPE, stderr=complaints, bufsize=0, start_new_session=True
            )
        try:
            yield self._answers(process, jobs, log)
        finally:
            end(process)

    def _answers(self, process: subprocess.Popen, jobs: Sequence["_Job"], log: Path) -> Iterator[int | None]:
        assert process.stdout is not None
        for _ in jobs:
            # The worker keeps the time of each file; this is for a worker that hangs itself.
            if not select.select([process.stdout], [], [], self.seconds + VERSION_SECONDS)[0]:
                yield None
            try:
                yield json.loads(process.stdout.readline())["status"]
            except ValueError:
                said = read_log(log)
                if "ModuleNotFoundError" in said:
                    raise ExportError(f"{PROGRAM} cannot be loaded by {sys.executable}: `{INSTALL}`.") from None
                raise ExportError(f"{PROGRAM} ended early in {sys.executable}: {_cause(said)}") from None

    def _run(self, arguments: Sequence[str], log: Path, seconds: float) -> int | None:
        return run_to_log([self.program, *arguments], log, seconds)

    def _require_success(self, status: int | None, said: str, seconds: float) -> None:
        if status is None:
            raise ExportError(f"{PROGRAM} was stopped after {seconds:g} seconds without a result.")
        if status:
            raise ExportError(f"{PROGRAM} failed with status {status}: {_cause(said)}")


@dataclass(frozen=True)
class _Job:
    """A file to compile, and its folder."""

    folder: Path
    arguments: Sequence[str]

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"


def _write_job(folder: Path, content: bytes, target: NpuTarget) -> _Job:
    folder.mkdir()
    model = folder / "model.tflite"
    model.write_bytes(content)
    arguments = {
        "--accelerator-config": target.accelerator,
        "--system-config": target.system_config,
        "--memory-mode": target.memory_mode,
        "--config": CONFIG,
        "--output-dir": str(folder),
    }
    return _Job(folder, [str(model), *(word for pair in arguments.items() for word in pair), "--show-cpu-operations"])


def read_results(folder: Path, log: Path, version: str, target: NpuTarget) -> Compiled:
    """The compiled file, and the report from the summary that Vela writes beside it.

    Args:
        folder: where Vela wrote, of a file `model.tflite`.
        log: what it printed.
        version: its version.
        target: what it compiled for.

    Raises:
        ExportError: a file is missing, or says nothing that can be read.
    """
    model, said = folder / "model_vela.tflite", read_log(log)
    try:
        content = model.read_bytes()
        kinds = Counter(op.name for op in read_operators(content))
    except OSError:
        raise ExportError(f"{PROGRAM} wrote no compiled file: {_cause(said)}") from None
    except FormatError as error:
        raise ExportError(f"{PROGRAM} wrote a file that cannot be read: {error}") from None
    row = _read_summary(folder / f"model_summary_{target.system_config}.csv", version)
    found = re.search(r"^NPU operators = (\d{1,9})\b", said, re.MULTILINE)
    if found is None:
        raise ExportError(f"{PROGRAM} {version} does not say how many operators run on the NPU: {_expected()}")
    del kinds[NPU_OPERATOR]
    report = VelaReport(
        version=version,
        accelerator=target.accelerator,
        system_config=target.system_config,
        memory_mode=target.memory_mode,
        latency_ms=row["inference_time"] * 1000,
        sram_bytes=round(row["sram_memory_used"] * 1024),
        dram_bytes=round(row["dram_memory_used"] * 1024),
        flash_bytes=round(sum(row[name] for name in FLASH) * 1024),
        n_on_npu=int(found[1]),
        on_cpu=dict(sorted(kinds.items())),
    )
    return Compiled(content, report)


def _read_summary(path: Path, version: str) -> dict[str, float]:
    """The figures of the summary's only row."""
    try:
        (row,) = csv.DictReader(read_text(path, "CSV", MOST_OUTPUT_BYTES).splitlines())
        found = {name: float(row[name]) for name in (*FIGURES, *FLASH)}
    except FormatError:
        raise ExportError(f"{PROGRAM} {version} wrote no summary {path.name} that can be read: {_expected()}") from None
    except KeyError as error:
        raise ExportError(f"{PROGRAM} {version} wrote a summary without {error}: {_expected()}") from None
    except (ValueError, TypeError, csv.Error):
        raise ExportError(f"{PROGRAM} {version} wrote a summary that cannot be read: {_expected()}") from None
    if not all(0 <= value <= LARGEST_FIGURE for value in found.values()):
        raise ExportError(f"{PROGRAM} {version} wrote a summary with impossible numbers: {_expected()}")
    return found


def _expected() -> str:
    return f"ofa-tf was made for {PROGRAM} {KNOWN_VERSION}, `{INSTALL}`."


def _cause(said: str) -> str:
    """The last line, which is that of the exception or of the argument parser."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\w+ )?error\b|\w*Error\b", line, re.IGNORECASE)]
    text = (errors or lines or [""])[-1]
    shown = "".join(letter if letter.isprintable() else " " for letter in text)[:200]
    return f"it says {shown!r}." if shown else "it says nothing."
