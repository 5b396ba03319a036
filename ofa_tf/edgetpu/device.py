"""An Edge TPU that is plugged in: files are compiled for it and timed through its delegate."""

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from ofa_tf.edgetpu.latency_model import NAME, PARAMETER_MEMORY_BYTES
from ofa_tf.errors import DeviceError
from ofa_tf.latency.device import Timing, Workload
from ofa_tf.progress import SILENT, Progress

LIBRARY = "libedgetpu.so.1"


def load_delegates() -> list[Any]:
    """The delegate of the Edge TPU; empty where its library or the device itself is missing."""
    from ai_edge_litert.interpreter import load_delegate

    try:
        ctypes.CDLL(LIBRARY)  # a delegate without its library complains once more when it is collected
        return [load_delegate(LIBRARY)]
    except (OSError, ValueError):  # no such library; no device
        return []


@dataclass(frozen=True)
class EdgeTpuDevice:
    """The Edge TPU of this machine.

    Args:
        compile: makes the file that the Edge TPU runs from a full-integer one.
        delegates: the delegate of the Edge TPU.
        rounds: number of turns of each file.
        runs: timed runs per turn, after one untimed run that brings the parameters into the on-chip memory.
    """

    compile: Callable[[bytes], bytes]
    delegates: Sequence[Any] = field(repr=False)
    rounds: int = 5
    runs: int = 20
    resizes: ClassVar[bool] = False  # compiled files have one size

    def facts(self) -> Mapping[str, Any]:
        """Name and on-chip memory."""
        return {"name": NAME, "model": "Edge TPU", "parameter_memory_bytes": PARAMETER_MEMORY_BYTES}

    def runtime(self) -> Mapping[str, Any]:
        """LiteRT and its delegate."""
        return {"name": "ai-edge-litert", "version": version("ai-edge-litert"), "threads": 1, "delegate": NAME}

    def measure(self, workloads: Sequence[Workload], seed: int = 0, progress: Progress = SILENT) -> list[Timing]:
        """Times files, in shuffled rounds over all of them.

        Raises:
            DeviceError: the device refuses a file.
        """
        invokes = []
        with progress.task("compiling for the Edge TPU", len(workloads), "files") as advance:
            for workload in workloads:
                invokes.append(self._prepare(workload))
                advance(1)
        runs = np.empty((len(invokes), self.rounds, self.runs))
        rng = np.random.default_rng([seed, 6])
        with progress.task("measuring", self.rounds, "rounds") as advance:
            for turn in range(self.rounds):
                for index in rng.permutation(len(invokes)):
                    invokes[index]()
                    for run in range(self.runs):
                        start = time.perf_counter()
                        invokes[index]()
                        runs[index, turn, run] = time.perf_counter() - start
                advance(1)
        return [Timing(times.ravel() * 1e3) for times in runs]

    def _prepare(self, workload: Workload) -> Callable[[], None]:
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(
                model_content=self.compile(workload.content), experimental_delegates=list(self.delegates)
            )
            interpreter.allocate_tensors()
            for details in interpreter.get_input_details():
                interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
        except (ValueError, RuntimeError) as error:
            raise DeviceError(f"The Edge TPU refuses the file: {error}.") from None
        return interpreter.invoke
