"""Whether a `.tflite` file runs on an Edge TPU, judged by the file itself; and compiling it, where that is possible.

The compiler makes one partition: what follows the first operator that is not supported runs on the CPU.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, takewhile
from math import prod
from typing import Any

from ofa_tf.edgetpu import compiler as edgetpu_compiler
from ofa_tf.edgetpu.latency_model import MODEL, PARAMETER_MEMORY_BYTES
from ofa_tf.edgetpu.rules import LARGE, MAY_STAY, TOO_NEW, WITH_BIAS, fallback_reason
from ofa_tf.errors import ExportError
from ofa_tf.tflite.fallback import Fallback, find_fallbacks
from ofa_tf.tflite.inspect import COMPILED
from ofa_tf.tflite.operators import Operator, read_operators


@dataclass(frozen=True)
class LintReport:
    """What of a file runs on an Edge TPU, as far as the file shows.

    Args:
        n_operators: operators of the file.
        n_on_edge_tpu: those that run there, usually all before the first that does not.
        n_partitions: parts that the operators fall into, in order, on the Edge TPU and off it; 1 for a clean file.
        fallbacks: every operator that does not run there.
        parameter_bytes: weights and biases.
        parameter_memory_bytes: on-chip memory for them.
        warnings: what the compiler may refuse or leave on the CPU.
    """

    n_operators: int
    n_on_edge_tpu: int
    n_partitions: int
    fallbacks: tuple[Fallback, ...]
    parameter_bytes: int
    parameter_memory_bytes: int = PARAMETER_MEMORY_BYTES
    warnings: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether every operator runs on the Edge TPU."""
        return not self.fallbacks

    @property
    def fits_on_chip(self) -> bool:
        """Whether no parameter has to be streamed over USB on every call."""
        return self.parameter_bytes <= self.parameter_memory_bytes

    def explain(self) -> str:
        """The first fallback, and what it does to the rest; one sentence."""
        if self.clean:
            return f"All {self.n_operators} operators run on an Edge TPU."
        first = self.fallbacks[0]
        kinds = ", ".join(f"{n} {name}" for name, n in Counter(item.operator for item in self.fallbacks).items())
        on_cpu = self.n_operators - self.n_on_edge_tpu
        return (
            f"Operator {first.index + 1} of {self.n_operators}, {first.operator}, does not run on an Edge TPU: "
            f"{first.reason}; {on_cpu} of {self.n_operators} operators would run on the CPU "
            f"(all that are not supported: {kinds})."
        )

    def to_document(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            **asdict(self),
            "fallbacks": [asdict(item) for item in self.fallbacks],
            "warnings": list(self.warnings),
            "fits_on_chip": self.fits_on_chip,
        }


def lint(content: bytes) -> LintReport:
    """Checks a file against the table.

    Args:
        content: any `.tflite` file.

    Raises:
        FormatError: not a `.tflite` file, or a damaged one.
        ExportError: one without operators, or one that is compiled already.
    """
    operators = read_operators(content)
    if not operators:
        raise ExportError("The file has no operators.")
    if any(op.name == COMPILED for op in operators):
        raise ExportError("The file is compiled for an Edge TPU already: check the one that it was compiled from.")
    reasons = [fallback_reason(op) for op in operators]
    fallbacks = find_fallbacks(operators, fallback_reason)
    entry = 0  # the compiler leaves the quantisation of a float input on the CPU, and takes what follows
    while entry < len(operators) and reasons[entry] and operators[entry].name == "QUANTIZE":
        entry += 1
    mapped = len(list(takewhile(lambda reason: reason is None, reasons[entry:])))
    sides = [reason is None for reason in reasons]
    return LintReport(
        n_operators=len(operators),
        n_on_edge_tpu=mapped,
        n_partitions=1 + sum(before != after for before, after in pairwise(sides)),
        fallbacks=fallbacks,
        parameter_bytes=_parameter_bytes(operators),
        warnings=_warnings(operators),
    )


def _parameter_bytes(operators: Sequence[Operator]) -> int:
    """Weights and biases; not axes, shapes and other constants that say what to do."""
    return sum(
        {
            id(tensor): len(tensor.data)
            for op in operators
            for tensor in op.inputs
            if tensor is not None and tensor.data is not None and (tensor.type != "INT32" or op.name in WITH_BIAS)
        }.values()
    )


def _warnings(operators: Sequence[Operator]) -> tuple[str, ...]:
    new = {(op.name, op.version) for op in operators if op.version >= TOO_NEW.get(op.name, op.version + 1)}
    large = {
        op.name for op in operators if op.name in MAY_STAY and any(prod(tensor.shape) >= LARGE for tensor in op.tensors)
    }
    is_open = any(tensor.open_batch for op in operators for tensor in op.tensors)
    return (
        *(["The batch size is left open: it is treated as 1, as the compiler does."] if is_open else []),
        *(f"{name} has version {version}, which compiler 16.0 is reported to refuse." for name, version in sorted(new)),
        *(f"A large {name} may stay on the CPU." for name in sorted(large)),
    )


# --- for an export ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EdgeTpuCheck:
    """What is known about a file that is meant for an Edge TPU.

    Args:
        document: for the manifest: `lint`, the linter's report, and `compiler`, that of the compiler or None.
        compiled: the compiled file, or None without a compiler.
        notes: what to tell the user.
    """

    document: Mapping[str, Any]
    compiled: bytes | None
    notes: tuple[str, ...]


def check(content: bytes, allow_cpu: bool = False) -> EdgeTpuCheck:
    """Checks a file for an Edge TPU, and compiles it where `edgetpu_compiler` is on PATH.

    Args:
        content: a full-integer `.tflite` file.
        allow_cpu: whether operators may run on the CPU.

    Raises:
        ExportError: an operator would run on the CPU and may not, or the compiler fails.
    """
    report = lint(content)
    if not (report.clean or allow_cpu):
        raise ExportError(
            f"{report.explain()} Export it anyway with --allow-cpu, or train a network without such operators: "
            "`ofa-tf train --space edge`."
        )
    notes = [*report.warnings]
    if not report.clean:
        notes.append(report.explain())
    if not report.fits_on_chip:
        streamed_mb = (report.parameter_bytes - report.parameter_memory_bytes) / 1e6
        notes.append(
            f"{streamed_mb:.1f} MB of parameters do not fit into the Edge TPU's memory and are streamed on every call, "
            f"about {streamed_mb * MODEL.ms_per_streamed_mb:.1f} ms (modelled)."
        )
    program = edgetpu_compiler.find_compiler()
    if program is None:
        return EdgeTpuCheck({"lint": report.to_document(), "compiler": None}, None, (*notes, edgetpu_compiler.ABSENT))
    compiled, said = edgetpu_compiler.compile_file(content, program)
    if (said.subgraphs != 1 or said.n_on_cpu) and not allow_cpu:
        raise ExportError(
            f"{edgetpu_compiler.PROGRAM} makes {said.subgraphs} parts of the file and leaves {said.n_on_cpu} operators "
            "on the CPU: export it anyway with --allow-cpu."
        )
    return EdgeTpuCheck({"lint": report.to_document(), "compiler": said.to_document()}, compiled, tuple(notes))
