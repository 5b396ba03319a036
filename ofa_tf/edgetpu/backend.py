"""The Edge TPU as a kind of device: measured where one is plugged in, modelled everywhere else."""

from collections.abc import Sequence

from ofa_tf.costs import arch_costs
from ofa_tf.edgetpu import lint
from ofa_tf.edgetpu.compiler import ABSENT, compile_file, find_compiler
from ofa_tf.edgetpu.device import LIBRARY, EdgeTpuDevice, load_delegates
from ofa_tf.edgetpu.latency_model import NAME, modelled_table, param_bytes, require_legal
from ofa_tf.errors import AbsentError
from ofa_tf.latency.backend import Finished, FixedBackend, MemoryLimit
from ofa_tf.latency.device import Device
from ofa_tf.latency.settings import DEFAULT, Settings, refuse_settings
from ofa_tf.latency.table import LatencyTable
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import SearchSpace


class EdgeTpuBackend(FixedBackend):
    """Coral's Edge TPU, for which every file is compiled."""

    usage = NAME
    precisions = ("int8",)
    measurable = False

    def open(self, name: str, settings: Settings = DEFAULT, host: Device | None = None) -> EdgeTpuDevice:
        """The Edge TPU that is plugged in, with its compiler.

        Raises:
            DeviceError: there are settings.
            AbsentError: none is plugged in, or its runtime or compiler is missing.
        """
        refuse_settings(settings, "An Edge TPU")
        delegates = load_delegates()
        if not delegates:
            raise AbsentError(f"No Edge TPU was found: plug one in and install its runtime, {LIBRARY}.")
        program = find_compiler()
        if program is None:
            raise AbsentError(ABSENT)
        return EdgeTpuDevice(lambda content: compile_file(content, program)[0], delegates)

    def require_legal(self, space: SearchSpace, precision: str) -> None:
        """Only full-integer files, without hard-swish and squeeze-and-excite.

        Raises:
            DeviceError: says what of the space, or that it is the precision.
        """
        require_legal(space, precision)

    def with_file(self, device: Device, content: bytes, progress: Progress = SILENT) -> EdgeTpuDevice:
        """The device with the compiled file; reports what stays on the CPU.

        Raises:
            ExportError: the compiler fails.
        """
        assert isinstance(device, EdgeTpuDevice)
        found = lint.check(content, allow_cpu=True)
        for note in found.notes:
            progress.note(note)
        compiled = found.compiled
        assert compiled is not None, "there is a compiler"
        return EdgeTpuDevice(lambda _: compiled, device.delegates)

    def finish(self, content: bytes, allow_cpu: bool = False, name: str = "") -> Finished:
        """The reports of linter and compiler, and the compiled file where there is a compiler.

        Raises:
            ExportError: an operator would run on the CPU and may not, or the compiler fails.
        """
        found = lint.check(content, allow_cpu)
        files = {} if found.compiled is None else {"model_edgetpu.tflite": found.compiled}
        return Finished(files, {"edgetpu": found.document}, found.notes)

    def in_passes(self, device: Device, passes: int) -> tuple[Device, int]:
        """One pass: each would compile every file again."""
        return device, 1

    def model_table(self, space: SearchSpace, n_classes: int, progress: Progress = SILENT) -> LatencyTable:
        """The table of a space from the latency model, with a note that it is modelled.

        Raises:
            DeviceError: the space has what an Edge TPU cannot run.
        """
        table = modelled_table(space, n_classes)
        assert table.validation is not None
        progress.note(
            f"Latencies of the Edge TPU are modelled, ± {table.validation['mape'] * 100:.0f} % on published networks; "
            f"to measure them, plug one in, put its compiler on PATH and run `ofa-tf lut build --device {NAME}`."
        )
        return table

    def rank(self, table: LatencyTable) -> int:
        """Measured before modelled."""
        return int(table.source != "measured")

    def memory_limits(self, table: LatencyTable, space: SearchSpace, n_classes: int) -> Sequence[MemoryLimit]:
        """The on-chip memory: parameters beyond it are streamed on every call, which no sum over blocks includes."""
        limit_bytes = table.device.get("parameter_memory_bytes")
        if not isinstance(limit_bytes, int):
            return ()
        costs = arch_costs(space, param_bytes, n_classes)
        return (MemoryLimit("parameters in on-chip memory", costs, limit_bytes),)
