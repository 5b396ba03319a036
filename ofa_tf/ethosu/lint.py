"""Whether a `.tflite` file runs on an Ethos-U, judged by the file itself; and compiling it, where Vela is installed.

Vela puts every operator on the NPU that the NPU has; those that it does not have run on the CPU, in between.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ofa_tf.errors import ExportError
from ofa_tf.ethosu.rules import fallback_reason
from ofa_tf.ethosu.targets import DEFAULT_NAME, NpuTarget, parse_target
from ofa_tf.ethosu.vela import ABSENT, NPU_OPERATOR, PROGRAM, Compiled, Vela
from ofa_tf.formatting import milliseconds
from ofa_tf.tflite.fallback import Fallback, find_fallbacks
from ofa_tf.tflite.operators import read_operators


@dataclass(frozen=True)
class NpuLint:
    """What of a file runs on an Ethos-U, as far as the file shows.

    Args:
        accelerator: the Ethos-U.
        n_operators: operators of the file.
        fallbacks: every operator that runs on the CPU.
    """

    accelerator: str
    n_operators: int
    fallbacks: tuple[Fallback, ...]

    @property
    def clean(self) -> bool:
        """Whether every operator runs on the NPU."""
        return not self.fallbacks

    @property
    def on_cpu(self) -> Mapping[str, int]:
        """Operators that run on the CPU, by kind."""
        return dict(sorted(Counter(item.operator for item in self.fallbacks).items()))

    def explain(self) -> str:
        """The first fallback and the number of all; one sentence."""
        if self.clean:
            return f"All {self.n_operators} operators run on an {self.accelerator}."
        first = self.fallbacks[0]
        kinds = ", ".join(f"{n} {name}" for name, n in self.on_cpu.items())
        return (
            f"Operator {first.index + 1} of {self.n_operators}, {first.operator}, does not run on an "
            f"{self.accelerator}: {first.reason}; on the CPU would run {kinds}."
        )

    def to_document(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {**asdict(self), "fallbacks": [asdict(item) for item in self.fallbacks]}


def lint(content: bytes, device: str = DEFAULT_NAME) -> NpuLint:
    """Checks a file against the table.

    Args:
        content: any `.tflite` file.
        device: the Ethos-U, such as `ethos-u85-256`.

    Raises:
        FormatError: not a `.tflite` file, or a damaged one.
        ExportError: one without operators, or one that Vela has compiled already.
        DeviceError: there is no such Ethos-U.
    """
    target, operators = parse_target(device), read_operators(content)
    if not operators:
        raise ExportError("The file has no operators.")
    if any(op.name == NPU_OPERATOR for op in operators):
        raise ExportError(f"The file is compiled by {PROGRAM} already: check the one that it was compiled from.")
    fallbacks = find_fallbacks(operators, lambda op: fallback_reason(op, target.family))
    return NpuLint(target.accelerator, len(operators), fallbacks)


# --- for an export ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EthosUCheck:
    """What is known about a file that is meant for an Ethos-U.

    Args:
        document: for the manifest: `lint`, the linter's report, and `vela`, that of the compiler or None.
        compiled: the compiled file with its report, or None without a compiler.
        notes: what to tell the user.
    """

    document: Mapping[str, Any]
    compiled: Compiled | None
    notes: tuple[str, ...]


def check(content: bytes, target: NpuTarget, vela: Vela | None, allow_cpu: bool = False) -> EthosUCheck:
    """Checks a file for an Ethos-U, and compiles it where there is a compiler.

    Args:
        content: a full-integer `.tflite` file.
        target: the Ethos-U.
        vela: the compiler, or None.
        allow_cpu: whether operators may run on the CPU.

    Raises:
        ExportError: an operator would run on the CPU and may not, or the compiler fails.
    """
    found = lint(content, target.name)
    if not (found.clean or allow_cpu):
        raise ExportError(f"{found.explain()} Export it anyway with --allow-cpu.")
    notes = [] if found.clean else [found.explain()]
    if vela is None:
        note = f"{ABSENT.removesuffix('.')}, and export again to have the file compiled."
        return EthosUCheck({"lint": found.to_document(), "vela": None}, None, (*notes, note))
    compiled = vela.compile(content, target)
    report = compiled.report
    if report.on_cpu and not allow_cpu:
        raise ExportError(
            f"{PROGRAM} leaves {report.n_on_cpu} operators on the CPU ({', '.join(report.on_cpu)}): "
            "export it anyway with --allow-cpu."
        )
    rest = " without the operators on the CPU" if report.on_cpu else ""
    notes.append(
        f"{target.name}: {milliseconds(report.latency_ms)}{rest}, {report.sram_bytes / 1e3:.0f} kB of SRAM and "
        f"{report.flash_bytes / 1e3:.0f} kB of flash, modelled by {report.origin}."
    )
    return EthosUCheck({"lint": found.to_document(), "vela": report.to_document()}, compiled, tuple(notes))
