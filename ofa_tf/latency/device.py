"""Devices: where files are run and timed."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar, Protocol

import numpy as np

from ofa_tf.errors import DeviceError
from ofa_tf.progress import SILENT, Progress

DELEGATES = ("none", "xnnpack")
MOST_ROUNDS = 2000


@dataclass(frozen=True)
class Workload:
    """A file to time.

    Args:
        content: the `.tflite` file.
        in_size: height and width to resize its input to, or None to leave it.
    """

    content: bytes = field(repr=False)
    in_size: int | None = None


@dataclass(frozen=True)
class Timing:
    """What timing a file gave.

    Args:
        runs_ms: duration of each run, shape (runs,).
    """

    runs_ms: np.ndarray

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the runs, in milliseconds."""
        return float(np.percentile(self.runs_ms, percent))


class Device(Protocol):
    """What a device must be able to do. `resizes`: whether a file may be run at another input size."""

    resizes: ClassVar[bool]

    def facts(self) -> Mapping[str, Any]:
        """`name`, and what else is known: model, processor, operating system."""
        ...

    def runtime(self) -> Mapping[str, Any]:
        """`name`, `version`, `threads` and `delegate` of what runs the files."""
        ...

    def measure(self, workloads: Sequence[Workload], seed: int = 0, progress: Progress = SILENT) -> list[Timing]:
        """Times files, in shuffled rounds over all of them."""
        ...


@dataclass(frozen=True)
class HostDevice:
    """This machine, with ai-edge-litert in this process.

    Args:
        threads: of the interpreter.
        delegate: "none", or "xnnpack", which LiteRT uses unless told otherwise. For full-integer files with large
            depthwise kernels it is the slower one on x86.
        seconds: how long to measure in all; long enough, and quiet moments of a busy machine are among the runs.
        least_rounds: how often each file gets its turn at least.
        runs: timed runs per turn, after one that is not.
    """

    threads: int = 1
    delegate: str = "none"
    seconds: float = 10.0
    least_rounds: int = 12
    runs: int = 4
    resizes: ClassVar[bool] = True

    def __post_init__(self):
        if self.delegate not in DELEGATES:
            raise DeviceError(f"`delegate` (={self.delegate!r}) must be one of {list(DELEGATES)}.")

    def facts(self) -> Mapping[str, Any]:
        """Name, processor and operating system of this machine."""
        return {"name": "host", "model": platform.machine(), "soc": _processor(), "os": platform.platform()}

    def runtime(self) -> Mapping[str, Any]:
        """LiteRT and its settings."""
        settings = {"threads": self.threads, "delegate": self.delegate}
        return {"name": "ai-edge-litert", "version": version("ai-edge-litert"), **settings}

    def measure(self, workloads: Sequence[Workload], seed: int = 0, progress: Progress = SILENT) -> list[Timing]:
        """Times files on this machine.

        Raises:
            DeviceError: the interpreter refuses a file.
        """
        invokes = [self._prepare(workload) for workload in workloads]
        start = time.perf_counter()
        for invoke in invokes:
            for _ in range(1 + self.runs):
                invoke()
        round_s = time.perf_counter() - start
        rounds = max(self.least_rounds, min(int(self.seconds / round_s), MOST_ROUNDS))
        runs = np.empty((len(invokes), rounds, self.runs))
        rng = np.random.default_rng([seed, 6])
        with progress.task("measuring", rounds, "rounds") as advance:
            for turn in range(rounds):
                for index in rng.permutation(len(invokes)):
                    invoke = invokes[index]
                    invoke()
                    for run in range(self.runs):
                        start = time.perf_counter()
                        invoke()
                        runs[index, turn, run] = time.perf_counter() - start
                advance(1)
        return [Timing(times.ravel() * 1e3) for times in runs]

    def _prepare(self, workload: Workload):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = {
            "none": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "xnnpack": OpResolverType.BUILTIN,
        }[self.delegate]
        try:
            interpreter = Interpreter(
                model_content=workload.content, num_threads=self.threads, experimental_op_resolver_type=resolver
            )
            for details in interpreter.get_input_details():
                shape = list(details["shape"])
                if workload.in_size is not None:
                    shape[1] = shape[2] = workload.in_size
                    interpreter.resize_tensor_input(details["index"], shape)
            interpreter.allocate_tensors()
            rng = np.random.default_rng(0)
            for details in interpreter.get_input_details():
                values = rng.uniform(-1, 1, details["shape"])
                if details["dtype"] != np.float32:
                    values = values * 127
                interpreter.set_tensor(details["index"], values.astype(details["dtype"]))
        except (ValueError, RuntimeError) as error:
            raise DeviceError(f"The interpreter refuses the file: {error}.") from None
        return interpreter.invoke


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"
