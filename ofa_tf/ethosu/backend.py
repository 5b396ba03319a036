"""Arm's Ethos-U as a kind of device: never measured, modelled by Vela, which compiles every file for it."""

from collections.abc import Collection

from ofa_tf.errors import DeviceError
from ofa_tf.ethosu import lint
from ofa_tf.ethosu.device import EthosUDevice
from ofa_tf.ethosu.targets import DEFAULT_NAME, PREFIX, parse_target
from ofa_tf.ethosu.vela import ABSENT, Vela, find_vela
from ofa_tf.latency.backend import Finished, FixedBackend
from ofa_tf.latency.device import Device
from ofa_tf.latency.settings import DEFAULT, Settings, refuse_settings
from ofa_tf.precision import get_precision, integer_precisions
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import SearchSpace


class EthosUBackend(FixedBackend):
    """Ethos-U55, U65 and U85 by the names that Vela gives them, such as `ethos-u55-128`.

    A system and a memory mode may follow, each after a colon: `ethos-u55-128:Sram_Only`.
    """

    usage = DEFAULT_NAME
    precisions = ("int8",)
    source = "modelled"
    same_everywhere = True

    def recognises(self, name: str) -> bool:
        """All that begins like the names of Vela; which of them there are is said when one is opened."""
        return name.lower().startswith(PREFIX)

    def whose_table(self, name: str, tabulated: Collection[str]) -> str:
        """The name without what Vela takes by itself: `ethos-u55-128:Shared_Sram` is `ethos-u55-128`.

        Raises:
            DeviceError: there is no such Ethos-U, system or memory mode.
        """
        return parse_target(name).name

    def open(self, name: str, settings: Settings = DEFAULT, host: Device | None = None) -> EthosUDevice:
        """The Ethos-U as Vela models it.

        Raises:
            DeviceError: there are settings, there is no such Ethos-U, or Vela is missing.
        """
        refuse_settings(settings, "An Ethos-U")
        target, program = parse_target(name), find_vela()
        if program is None:
            raise DeviceError(f"Latencies of an {name} are modelled by Vela. {ABSENT}")
        return EthosUDevice(target, Vela(program))

    def require_legal(self, space: SearchSpace, precision: str) -> None:
        """Only full-integer files; every operator of every kind of block runs on all of them.

        Raises:
            DeviceError: it is another precision.
        """
        if not get_precision(precision).integer:
            raise DeviceError(
                f"An Ethos-U runs only full-integer files: --precision must be {integer_precisions()}, not {precision}."
            )

    def with_file(self, device: Device, content: bytes, progress: Progress = SILENT) -> EthosUDevice:
        """The device with the compiled file; reports what stays on the CPU, and that nothing is measured.

        Raises:
            ExportError: the compiler fails.
        """
        assert isinstance(device, EthosUDevice)
        found = lint.check(content, device.target, device.vela, allow_cpu=True)
        compiled = found.compiled
        assert compiled is not None, "there is a compiler"
        for note in (*found.notes, f"Nothing is measured: the latency is modelled by {compiled.report.origin}."):
            progress.note(note)
        return EthosUDevice(device.target, device.vela, (content, compiled))

    def finish(self, content: bytes, allow_cpu: bool = False, name: str = DEFAULT_NAME) -> Finished:
        """The reports of linter and compiler, and the compiled file where Vela is installed.

        Raises:
            ExportError: an operator would run on the CPU and may not, or the compiler fails.
        """
        program = find_vela()
        found = lint.check(content, parse_target(name), None if program is None else Vela(program), allow_cpu)
        files = {} if found.compiled is None else {"model_vela.tflite": found.compiled.content}
        return Finished(files, {"ethosu": found.document}, found.notes)

    def in_passes(self, device: Device, passes: int) -> tuple[Device, int]:
        """One pass: the estimate is the same every time."""
        return device, 1
