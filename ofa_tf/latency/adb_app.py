"""Android phones over adb, timed by the benchmark app of `android_bench/`, which runs the files itself, in front.

The computer pushes the files and a `job.json` to the phone and starts the app by an intent. The app keeps
`status.json`, and at the end `results.json`, in its own folder of the phone's shared storage, from where they are read.
Every round is a job of its own, so that an app that is killed loses one round at most.
"""

import json
import os
import secrets
import shlex
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ofa_tf.errors import DeviceError
from ofa_tf.latency.adb_call import APP, REMOTE, STAY_AWAKE, STOP_STAYING_AWAKE, app_on, call, phone_facts
from ofa_tf.latency.device import Timing, Workload, check_settings
from ofa_tf.progress import SILENT, Progress

VARIABLE = "OFA_TF_APP"
APP_VERSION = 2  # that of `Results.java`
KIND = "ofa-tf android results"
RUNTIME = "litert_app"
JOB = "job.json"  # in a folder of files
FACTS = "assets/ofa-tf.json"  # of the APK
ANSWERS = f"/sdcard/Android/data/{APP}/files/runs"
WARM_UP = 5
POLL_S = 1.0
MOST_TURNS = 1 << 31
ABSENT = 5  # times that the app is not seen running before it counts as killed
RESTARTS = 3
FINAL = ("finished", "failed", "cancelled")
SILENT_S = 600.0  # without any progress, after which the app counts as hanging
LONGEST_MS = 1e9


@dataclass(frozen=True)
class AppDevice:
    """A phone, on which ofa-tf's own app runs the files.

    Args:
        serial: as `adb devices` lists it.
        app: the APK that `make -C android_bench` builds.
        threads: threads of the interpreter.
        delegate: "none" or "xnnpack".
        rounds: how often each file gets its turn.
        runs: of a file in a turn, after a warm-up of five.

    Raises:
        DeviceError: a setting does not exist, or the APK is not this app, or another version of it.
    """

    serial: str
    app: Path
    threads: int = 1
    delegate: str = "xnnpack"
    rounds: int = 5
    runs: int = 30
    resizes: ClassVar[bool] = True

    def __post_init__(self):
        check_settings(self.threads, self.delegate)
        if not self.app.is_file():
            raise DeviceError(
                f"{str(self.app)!r} is not a file: name the app that `make -C android_bench` builds with --app or the "
                f"variable {VARIABLE}."
            )
        _ = self._packed  # which refuses what is not the app

    def facts(self) -> Mapping[str, Any]:
        """What the phone reports about itself."""
        return phone_facts(self.serial)

    def runtime(self) -> Mapping[str, Any]:
        """The LiteRT in the app, and its settings."""
        return {"name": RUNTIME, "version": self._packed[0], "threads": self.threads, "delegate": self.delegate}

    def measure(self, workloads: Sequence[Workload], seed: int = 0, progress: Progress = SILENT) -> list[Timing]:
        """Times files in the app, in shuffled rounds; the app repeats turns in which the phone was throttled.

        Raises:
            DeviceError: the phone disappears, is full or stays throttled; the app is killed again and again, hangs, or
                cannot run a file.
        """
        seeds = np.random.default_rng([seed, 7]).integers(0, 2**31, self.rounds)
        runs_ms: list[list[float]] = [[] for _ in workloads]
        name = secrets.token_hex(4)  # of an earlier call, answers may still be on the phone
        total = len(workloads) * self.rounds
        prepared = self._prepared(workloads, name)
        with prepared as remote, progress.task("measuring on the phone", total, "turns") as advance:
            for number, round_seed in enumerate(seeds.tolist()):
                self._write_job(remote, workloads, round_seed)
                found = self._run(remote, f"{name}-{number}", advance)
                if found.get("app_version") == APP_VERSION:
                    self._check_runtime(found.get("litert"))  # another one may be why a file could not be run
                measured = check_results(found, self._named(workloads), self.runs)
                for runs, more in zip(runs_ms, measured, strict=True):
                    runs.extend(more)
        return [Timing(np.array(runs)) for runs in runs_ms]

    @cached_property
    def _packed(self) -> tuple[str, frozenset[str]]:
        """Version of the LiteRT in the app, and the processors that the app is for."""
        try:
            with zipfile.ZipFile(self.app) as file:
                facts = json.loads(file.read(FACTS))
                names = [name.split("/") for name in file.namelist() if name.startswith("lib/")]
            abis = frozenset(parts[1] for parts in names if parts[-1] == "libtensorflowlite_jni.so")
            litert, version = facts["litert"], facts["app_version"]
            if not isinstance(litert, str) or not litert.isprintable() or len(litert) > 40 or not abis:
                raise ValueError
        except Exception as error:  # zipfile raises some ten kinds for broken files
            raise DeviceError(
                f"{str(self.app)!r} is not the benchmark app of ofa-tf: build it with `make -C android_bench`."
            ) from error
        if version != APP_VERSION:
            raise DeviceError(
                f"{str(self.app)!r} is version {version!r} of the benchmark app, and this ofa-tf works with version "
                f"{APP_VERSION}: build it again with `make -C android_bench`."
            )
        return litert, abis

    @contextmanager
    def _prepared(self, workloads: Sequence[Workload], name: str) -> Iterator[str]:
        """The files and the app on the phone, and the phone awake; yields the files' folder. Cleaned up in the end."""
        remote = f"{REMOTE}-{os.getpid()}"
        self._check_processor()
        with tempfile.TemporaryDirectory(prefix="ofa-tf-") as folder:
            for content, number in _numbers(workloads).items():
                Path(folder, f"{number}.tflite").write_bytes(content)
            try:
                self._shell(f"mkdir -p {remote}")
                self._shell(STAY_AWAKE)
                self._adb(["push", f"{folder}/.", remote])
                with app_on(self.serial, self.app):
                    yield remote
            finally:
                with suppress(DeviceError):  # a phone that is gone cannot be tidied
                    self._shell(f"rm -rf {remote} {ANSWERS}/{name}-*; {STOP_STAYING_AWAKE}")

    def _check_processor(self) -> None:
        known = self._shell("getprop ro.product.cpu.abilist").strip().split(",")
        if known != [""] and not self._packed[1] & set(known):
            ours = ", ".join(sorted(self._packed[1]))
            raise DeviceError(f"The phone {self.serial} runs {', '.join(known)}, and the app is for {ours}.")

    def _check_runtime(self, reported: Any) -> None:
        if reported != self._packed[0]:
            raise DeviceError(
                f"The app on the phone {self.serial} runs LiteRT {_shown(reported).rstrip('.')}, and {str(self.app)!r} "
                f"names {self._packed[0]}: build it again with `make -C android_bench`."
            )

    def _write_job(self, remote: str, workloads: Sequence[Workload], seed: int) -> None:
        files = [{"file": name, "in_size": in_size} for name, in_size in self._named(workloads)]
        document = job_document(files, self.threads, self.delegate, self.runs, rounds=1, seed=seed)
        with tempfile.TemporaryDirectory(prefix="ofa-tf-") as folder:
            path = Path(folder, JOB)
            path.write_text(json.dumps(document))
            self._adb(["push", str(path), f"{remote}/{JOB}"])
        self._shell(f"chmod -R a+rX {remote}")  # the app is another user

    def _named(self, workloads: Sequence[Workload]) -> list[tuple[str, int | None]]:
        """Name and size of each workload, as the job and the results say them."""
        numbers = _numbers(workloads)
        return [(f"{numbers[workload.content]}.tflite", workload.in_size) for workload in workloads]

    def _run(self, remote: str, name: str, advance: Callable[[int], None]) -> Any:
        """Runs the job, again if the app is killed; returns its results."""
        shown = 0
        for restart in range(1 + RESTARTS):
            answers = f"{ANSWERS}/{name}-{restart}"
            self._start(remote, f"{name}-{restart}")
            state = message = ""
            for status in self._statuses(answers):
                state, message = status["state"], status["message"]
                advance(max(0, status["done"] - shown))
                shown = max(shown, status["done"])
            if not state:
                raise DeviceError(
                    f"The app on the phone {self.serial} ended before it said anything: unlock the phone, and run the "
                    "same command; `adb logcat` tells why."
                )
            if state == "finished":
                return _parsed(self._shell(f"cat {answers}/results.json 2>/dev/null; true"), "results")
            if state == "cancelled":
                raise DeviceError(f"The measurement was cancelled on the phone {self.serial}.")
            if state == "failed":
                raise DeviceError(f"The app on the phone {self.serial} says: {_shown(message)}")
        raise DeviceError(
            f"The app on the phone {self.serial} was killed {RESTARTS + 1} times: leave the phone alone, close other "
            "apps and run the same command; what was measured is kept."
        )

    def _start(self, remote: str, name: str) -> None:
        said = self._shell(
            f"am start -n {APP}/.MainActivity -a {APP}.RUN --es job {shlex.quote(remote)} --es name {name} 2>&1; true"
        )
        if "Error" in said or "Exception" in said:
            raise DeviceError(f"The app does not start on the phone {self.serial}: {_shown(said)}")

    def _statuses(self, answers: str) -> Iterator[Mapping[str, Any]]:
        """What the app says of its run, until that has ended or the app is gone.

        Raises:
            DeviceError: it says nothing new for long, or nothing that can be understood.
        """
        absent, before, since = 0, None, time.monotonic()
        while absent < ABSENT:
            said = self._shell(f"pidof {APP}; echo; cat {answers}/status.json 2>/dev/null; true")
            process, _, text = said.partition("\n")
            absent = 0 if process.strip() else absent + 1
            if text.strip():
                status = _parsed(text, "status")
                done, state = status.get("done"), status.get("state")
                if (
                    type(done) is not int
                    or not 0 <= done <= MOST_TURNS
                    or not isinstance(state, str)
                    or not isinstance(status.get("message"), str)
                ):
                    raise DeviceError(f"The app on the phone {self.serial} gives a status that is none: {_shown(text)}")
                yield status
                if state in FINAL:
                    return
            if text != before:
                before, since = text, time.monotonic()
            if time.monotonic() - since > SILENT_S:
                raise DeviceError(
                    f"The app on the phone {self.serial} has made no progress for {SILENT_S:.0f} s: look at its "
                    "screen, then run the same command; what was measured is kept."
                )
            time.sleep(POLL_S)

    def _shell(self, script: str) -> str:
        return self._adb(["shell", script])

    def _adb(self, arguments: Sequence[str]) -> str:
        return call(["-s", self.serial, *arguments])


def job_document(
    files: Sequence[Mapping[str, Any]],
    threads: int,
    delegate: str,
    runs: int = 30,
    rounds: int = 5,
    seed: int = 0,
    precision: str | None = None,
) -> dict[str, Any]:
    """What `job.json` says: `file`, `in_size` and, if it is a block, `key` of each file, and how to run them."""
    settings = {"threads": [threads], "delegates": [delegate], "warmup": WARM_UP, "runs": runs, "rounds": rounds}
    return {"schema": 1, **settings, "seed": seed, "precision": precision, "files": list(files)}


def check_results(found: Any, expected: Sequence[tuple[str, int | None]], runs: int) -> list[list[float]]:
    """Milliseconds of the runs of each file, in the order of the job.

    Args:
        found: the results, as the app wrote them.
        expected: name and input size of each file.
        runs: how many runs each has.

    Raises:
        DeviceError: the app could not run a file, or these are not the results of the job.
    """
    if not isinstance(found, dict) or found.get("kind") != KIND or found.get("app_version") != APP_VERSION:
        raise DeviceError("The app's results are none of this version: build and install the app again.")
    errors = found.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        raise DeviceError(
            f"The app cannot run {_shown(errors[0].get('file')).rstrip('.')}: {_shown(errors[0].get('error'))}"
        )
    measured = found.get("benchmarks")
    if errors != [] or not isinstance(measured, list) or len(measured) != len(expected):
        raise DeviceError("The app's results are not those of the job: run the same command again.")
    times = []
    for one, (name, in_size) in zip(measured, expected, strict=True):
        runs_ms = one.get("runs_ms") if isinstance(one, dict) else None
        good = isinstance(runs_ms, list) and len(runs_ms) == runs and all(_is_time(value) for value in runs_ms)
        if not good or not runs_ms or (one.get("file"), one.get("in_size")) != (name, in_size):
            raise DeviceError(f"The app's results for {name} are not those of the job: run the same command again.")
        times.append([float(ms) for ms in runs_ms])
    return times


def _is_time(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < LONGEST_MS  # neither NaN nor infinity is


def _numbers(workloads: Sequence[Workload]) -> dict[bytes, int]:
    return {content: n for n, content in enumerate(dict.fromkeys(workload.content for workload in workloads))}


def _parsed(text: str, what: str) -> Any:
    try:
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError
        return document
    except (ValueError, RecursionError):
        raise DeviceError(f"The app's {what} cannot be read: {_shown(text)}") from None


def _shown(words: Any) -> str:
    """What a phone says, for a message: printable, short, with one full stop at its end."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(words)).split())[:300]
    return f"{text.rstrip('.')}."
