"""An Ethos-U as Vela models it: files are compiled, and the compiler's estimate is their latency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ofa_tf.errors import DeviceError
from ofa_tf.ethosu.targets import NpuTarget
from ofa_tf.ethosu.vela import PROGRAM, Compiled, Vela, origin
from ofa_tf.latency.device import Timing, Workload
from ofa_tf.progress import SILENT, Progress
from ofa_tf.tflite.resize import resize_file


@dataclass(frozen=True)
class EthosUDevice:
    """An Ethos-U that is not there: a file takes as long as Vela says, the same every time.

    Args:
        target: which one, in which system.
        vela: the compiler.
        ready: a file that is compiled already, by its content.
    """

    target: NpuTarget
    vela: Vela
    ready: tuple[bytes, Compiled] | None = None
    resizes: ClassVar[bool] = True

    def facts(self) -> Mapping[str, Any]:
        """Its name, and what its latencies are modelled by."""
        return {
            "name": self.target.name,
            "modelled_by": origin(self.vela.version, self.target),
            "accelerator": self.target.accelerator,
            "system_config": self.target.system_config,
            "memory_mode": self.target.memory_mode,
        }

    def runtime(self) -> Mapping[str, Any]:
        """Vela, whose version decides the figures."""
        return {"name": PROGRAM, "version": self.vela.version, "threads": 1, "delegate": "ethos-u"}

    def measure(self, workloads: Sequence[Workload], seed: int = 0, progress: Progress = SILENT) -> list[Timing]:
        """Compiles files, and takes the estimated time of each as its only run.

        Raises:
            DeviceError: an operator of a file stays on the CPU, for which Vela has no estimate.
            ExportError: Vela fails.
        """
        del seed  # nothing varies
        if self.ready is not None and [(work.content, work.in_size) for work in workloads] == [(self.ready[0], None)]:
            compiled = [self.ready[1]]
        else:
            files = [
                work.content if work.in_size is None else resize_file(work.content, work.in_size) for work in workloads
            ]
            compiled = self.vela.compile_all(files, self.target, progress)
            for report in (item.report for item in compiled):
                if report.on_cpu:
                    raise DeviceError(
                        f"{PROGRAM} leaves {', '.join(report.on_cpu)} of a file on the CPU and does not estimate "
                        f"how long they take there: {self.target.name} has no latency for it."
                    )
        for report in (item.report for item in compiled):
            if not report.latency_ms:
                raise DeviceError(f"{PROGRAM} puts no operator of the file on the {self.target.name}.")
        return [Timing(np.array([item.report.latency_ms])) for item in compiled]
