"""Android phones over adb, timed with TFLite's own `benchmark_model`, which the user supplies as a program or an app.

`adb_app` is the other way: with ofa-tf's own app.

Good practice on a phone: use one cluster of cores, keep the screen on, run many models per call so that the phone has
no time to clock down between them, and count no run that was throttled.
"""

import hashlib
import os
import shlex
import tempfile
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ofa_tf.errors import DeviceError
from ofa_tf.latency import benchmark_model
from ofa_tf.latency.adb_app import VARIABLE, AppDevice
from ofa_tf.latency.adb_call import (
    ADB,
    APP,
    REMOTE,
    STAY_AWAKE,
    STOP_STAYING_AWAKE,
    app_on,
    call,
    choose_phone,
    number,
    phone_facts,
    phones,
)
from ofa_tf.latency.backend import Backend
from ofa_tf.latency.device import Device, Timing, Workload, check_settings
from ofa_tf.latency.settings import DEFAULT, Settings
from ofa_tf.progress import SILENT, Progress

__all__ = ["AdbBackend", "AdbDevice", "choose_phone", "phones"]
PROGRAM_VARIABLE = "OFA_TF_BENCHMARK_MODEL"
CPUS = "/sys/devices/system/cpu"
BATCH = 20  # models per shell call
COOLING_S = 30.0
COOLINGS = 10
MARK = "ofa-tf-mark"
MODERATE = 2  # Android's ThrottlingSeverity from which on the phone slows itself down
MOST_CORES = 1024


@dataclass(frozen=True)
class AdbDevice:
    """A phone, one cluster of its cores.

    Args:
        serial: as `adb devices` lists it.
        program: `benchmark_model` for the phone's processor, on this machine; or an `.apk` of `android_bench/`, which
            runs it as an app in front.
        threads: threads of the interpreter; as many cores are used, the fastest.
        delegate: "none" or "xnnpack".
        rounds: how often each file gets its turn.
        runs: of a file in a turn, after a warm-up of five.

    Raises:
        DeviceError: a setting or the program does not exist, or the app lacks the program.
    """

    serial: str
    program: Path
    threads: int = 1
    delegate: str = "xnnpack"
    rounds: int = 5
    runs: int = 30
    resizes: ClassVar[bool] = True

    def __post_init__(self):
        check_settings(self.threads, self.delegate)
        if not self.program.is_file():
            raise DeviceError(
                f"{str(self.program)!r} is not a file: name TFLite's benchmark_model for the phone's processor with "
                f"--benchmark-model or the variable {PROGRAM_VARIABLE}."
            )
        if self._is_app:
            _ = self._digest  # which refuses an app without the program

    def facts(self) -> Mapping[str, Any]:
        """What the phone reports about itself, and the cores used."""
        return {**phone_facts(self.serial), "cores": list(self._cores)}

    def runtime(self) -> Mapping[str, Any]:
        """The program, by its hash because it does not report its version, and its settings."""
        name = "benchmark_app" if self._is_app else "benchmark_model"
        return {"name": name, "version": self._digest, "threads": self.threads, "delegate": self.delegate}

    def measure(self, workloads: Sequence[Workload], seed: int = 0, progress: Progress = SILENT) -> list[Timing]:
        """Times files on the phone, in shuffled rounds; a throttled call is waited out and made again.

        Raises:
            DeviceError: the phone disappears, is full, stays throttled, or its program prints no times.
        """
        rng = np.random.default_rng([seed, 6])
        taken = np.empty((len(workloads), self.rounds))
        total = len(workloads) * self.rounds
        with self._prepared(workloads) as lines, progress.task("measuring on the phone", total, "calls") as advance:
            for turn in range(self.rounds):
                order = rng.permutation(len(workloads))
                for batch in np.array_split(order, -(-len(order) // BATCH)):
                    taken[batch, turn] = self._run_cool([lines[index] for index in batch])
                    advance(len(batch))
        return [Timing(runs_ms) for runs_ms in taken]

    @property
    def _is_app(self) -> bool:
        return self.program.suffix.lower() == ".apk"

    @cached_property
    def _digest(self) -> str:
        """Start of the hash of benchmark_model, which is the same in every app made with it.

        Raises:
            DeviceError: an app without it, or a broken one.
        """
        if not self._is_app:
            return hashlib.sha256(self.program.read_bytes()).hexdigest()[:12]
        try:
            with zipfile.ZipFile(self.program) as app:
                (name,) = (name for name in app.namelist() if name.endswith("/libbenchmark_model.so"))
                with app.open(name) as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()[:12]  # type: ignore[arg-type]
        except Exception as error:  # zipfile raises some ten kinds for broken files
            raise DeviceError(
                f"{str(self.program)!r} is not an app with benchmark_model: make one with `android_bench/`."
            ) from error

    @cached_property
    def _cores(self) -> tuple[int, ...]:
        """The fastest cores, as many as there are threads, ascending."""
        answer = self._shell(
            f"for c in {CPUS}/cpu[0-9]*; do echo ${{c##*cpu}} $(cat $c/cpufreq/cpuinfo_max_freq); done"
        )
        speeds = {}
        for line in answer.splitlines():
            core, _, speed = line.strip().partition(" ")
            index = number(core)
            if index is not None and index < MOST_CORES:
                speeds[index] = number(speed) or 0
        if not speeds:
            raise DeviceError(f"The phone {self.serial} does not report its cores.")
        fastest = sorted(speeds, key=lambda core: (-speeds[core], -core))
        return tuple(sorted(fastest[: self.threads]))

    @contextmanager
    def _prepared(self, workloads: Sequence[Workload]) -> Iterator[list[str]]:
        """Everything on the phone, and awake; yields the command line of each workload. Cleaned up in the end."""
        remote = f"{REMOTE}-{os.getpid()}"
        numbers = {content: n for n, content in enumerate(dict.fromkeys(w.content for w in workloads))}
        inputs = {w.content: _input_of(w.content) for w in workloads if w.in_size is not None}
        with tempfile.TemporaryDirectory(prefix="ofa-tf-") as folder:
            for content, number in numbers.items():
                Path(folder, f"{number}.tflite").write_bytes(content)
            try:
                self._shell(f"mkdir -p {remote}")
                self._shell(STAY_AWAKE)
                self._adb(["push", f"{folder}/.", remote])
                if self._is_app:
                    self._shell(f"chmod -R a+rX {remote}")  # the app is another user
                else:
                    self._adb(["push", str(self.program), f"{remote}/benchmark_model"])
                    self._shell(f"chmod 755 {remote}/benchmark_model")
                lines = []
                for workload in workloads:
                    options = benchmark_model.flags(self.threads, self.delegate, self.runs)
                    if workload.in_size is not None:
                        name, shape = inputs[workload.content]
                        options += benchmark_model.input_flags(
                            name, [shape[0], workload.in_size, workload.in_size, *shape[3:]]
                        )
                    graph = f"--graph={remote}/{numbers[workload.content]}.tflite"
                    lines.append(shlex.join(self._command(remote, [graph, *options])) + " 2>&1")
                with app_on(self.serial, self.program) if self._is_app else nullcontext():
                    yield lines
            finally:
                with suppress(DeviceError):  # a phone that is gone cannot be tidied
                    self._shell(f"rm -rf {remote}; {STOP_STAYING_AWAKE}")

    def _command(self, remote: str, flags: Sequence[str]) -> list[str]:
        """Runs benchmark_model on the phone, bound to the cores used."""
        mask = f"{sum(1 << core for core in self._cores):x}"
        if not self._is_app:
            return ["taskset", mask, f"{remote}/benchmark_model", *flags]
        return ["am", "instrument", "-w", "-e", "cores", mask, "-e", "flags", "\n".join(flags), f"{APP}/.Bench"]

    def _run_cool(self, lines: Sequence[str]) -> list[float]:
        """Milliseconds of each command line, from a call that was not throttled."""
        for cooling in range(1 + COOLINGS):
            if cooling:
                time.sleep(COOLING_S)
            outputs, throttled = self._run(lines)
            if not throttled:
                return [benchmark_model.parse_ms(output) for output in outputs]
        raise DeviceError(
            f"The phone {self.serial} stays throttled: let it cool down, unplug its charger and run the same command; "
            "what was measured is kept."
        )

    def _run(self, lines: Sequence[str]) -> tuple[list[str], bool]:
        """One shell call: what each line printed, and whether a core was held below its speed or the phone was hot."""
        limits = " ".join(f"{CPUS}/cpu{core}/cpufreq" for core in self._cores)
        watch = (
            f"for c in {limits}; do echo {MARK} $(cat $c/scaling_max_freq) $(cat $c/cpuinfo_max_freq); done; "
            f"echo {MARK} heat $(dumpsys thermalservice 2>/dev/null | grep 'Thermal Status')"
        )
        script = "\n".join([*(f"{line}; echo {MARK} end; {watch}" for line in lines)])
        answer = self._shell(script)
        outputs, throttled = [], False
        said: list[str] = []
        for line in answer.splitlines():
            if not line.startswith(MARK):
                said.append(line)
                continue
            words = line.split()[1:]
            if words == ["end"]:
                outputs.append("\n".join(said))
                said = []
            elif words[:1] == ["heat"]:
                throttled |= (number(words[-1]) or 0) >= MODERATE
            elif len(words) == 2:
                limit, highest = map(number, words)
                throttled |= limit is not None and highest is not None and limit < highest
        if len(outputs) != len(lines):
            raise DeviceError(
                f"The phone {self.serial} stopped answering: attach it again and run the same command; "
                "what was measured is kept."
            )
        return outputs, throttled

    def _shell(self, script: str) -> str:
        return self._adb(["shell", script])

    def _adb(self, arguments: Sequence[str]) -> str:
        return call(["-s", self.serial, *arguments])


class AdbBackend(Backend):
    """A phone: `adb:SERIAL`, or `adb` for the only one."""

    usage = f"{ADB}:SERIAL"
    cores_are_chosen = False  # always the fastest

    def recognises(self, name: str) -> bool:
        """With and without a serial number."""
        return name == ADB or name.startswith(f"{ADB}:")

    def open(self, name: str, settings: Settings = DEFAULT, host: Device | None = None) -> AdbDevice | AppDevice:
        """The phone.

        Raises:
            DeviceError: it is not attached, one of several has to be chosen, its program is not named or not there, or
                a setting that it does not have.
        """
        if settings.cores:
            raise DeviceError(
                "`cores` is only for this machine; on a phone benchmark_model gets the fastest cores, and Android"
                " chooses those of an app."
            )
        if settings.app and settings.benchmark_model:
            raise DeviceError("Give `app` or `benchmark_model`, not both: each runs the files in its own way.")
        serial = name.removeprefix(ADB).removeprefix(":")
        program = settings.benchmark_model or (None if settings.app else os.environ.get(PROGRAM_VARIABLE))
        app = settings.app or (None if program else os.environ.get(VARIABLE))
        if app:
            return AppDevice(choose_phone(serial), Path(app), **settings.chosen())
        if not program:
            raise DeviceError(
                "Phones are measured with TFLite's benchmark_model for their processor, or with ofa-tf's app: name the "
                f"file with --benchmark-model or the variable {PROGRAM_VARIABLE}, or the app with --app or {VARIABLE}."
            )
        return AdbDevice(choose_phone(serial), Path(program), **settings.chosen())

    def whose_table(self, name: str, tabulated: Collection[str]) -> str:
        """`adb` is the only phone that has a table.

        Raises:
            DeviceError: several phones have one.
        """
        if name != ADB:
            return name
        phones = sorted(other for other in tabulated if self.recognises(other))
        if len(phones) > 1:
            raise DeviceError(f"Several phones have tables: choose one of {', '.join(phones)}.")
        return phones[0] if phones else name


def _input_of(content: bytes) -> tuple[str, list[int]]:
    """Name and shape of a file's only input."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        (details,) = Interpreter(model_content=content).get_input_details()
    except (ValueError, RuntimeError) as error:
        raise DeviceError(f"The interpreter refuses the file: {str(error).rstrip('.')}.") from None
    return details["name"], [int(size) for size in details["shape"]]
