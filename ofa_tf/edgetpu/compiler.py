"""The driver of `edgetpu_compiler`, which the user installs: x86-64 Linux, from Coral's packages.

Reference: coral.ai/docs/edgetpu/compiler, version 16.0 of the compiler.
"""

import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ofa_tf.errors import ExportError
from ofa_tf.processes import read_log, run_to_log
from ofa_tf.tflite.inspect import IDENTIFIER

PROGRAM = "edgetpu_compiler"
SECONDS = 300.0
MAPPED = "Mapped to Edge TPU"
CAUSES = ("ERROR", "Compilation failed:", "Compilation timeout", "Internal compiler error")  # begin lines that say why
CONSEQUENCE = "ERROR: Restored original execution plan"  # of the cause, which a later line names
ABSENT = (
    f"{PROGRAM} is not on PATH, so the file is not compiled yet: install it on x86-64 Linux from Coral's packages "
    f"(coral.ai/docs/edgetpu/compiler) and export again, or run `{PROGRAM} model.tflite` elsewhere."
)
COUNT = re.compile(r"\d{1,9}")
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class MappedOperators:
    """One row of the compiler's table: how many operators of a kind have which status."""

    operator: str
    count: int
    status: str


@dataclass(frozen=True)
class CompilerReport:
    """What the compiler says of a file.

    Args:
        version: version of the compiler.
        subgraphs: number of parts that run on the Edge TPU.
        on_chip_bytes: parameters in the on-chip memory; None, here and below, where the compiler does not say.
        on_chip_free_bytes: what is left of it.
        off_chip_bytes: parameters streamed on every call.
        operators: where each kind of operator runs.
    """

    version: str
    subgraphs: int
    on_chip_bytes: int | None
    on_chip_free_bytes: int | None
    off_chip_bytes: int | None
    operators: tuple[MappedOperators, ...]

    @property
    def n_on_cpu(self) -> int:
        """Operators that run on the CPU."""
        return sum(row.count for row in self.operators if row.status != MAPPED)

    def to_document(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {**asdict(self), "operators": [asdict(row) for row in self.operators]}


def find_compiler() -> str | None:
    """Path of the compiler, or None."""
    return shutil.which(PROGRAM)


def compile_file(content: bytes, program: str, seconds: float = SECONDS) -> tuple[bytes, CompilerReport]:
    """Compiles a file for the Edge TPU.

    Args:
        content: a full-integer `.tflite` file.
        program: path of the compiler.
        seconds: time limit, after which it is stopped.

    Returns:
        The compiled file, and what the compiler says of it.

    Raises:
        ExportError: it fails, hangs, says nothing that can be read, or writes no file.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, log = Path(folder, "model.tflite"), Path(folder, "log.txt")
        model.write_bytes(content)
        code = run_to_log([program, "-s", "-o", folder, str(model)], log, seconds)
        said = read_log(log)
        if code is None:
            raise ExportError(f"{PROGRAM} was stopped after {seconds:g} seconds without a result.")
        if code:
            raise ExportError(f"{PROGRAM} failed with status {code}: {_cause(said)}")
        report = parse_report(said)
        compiled = Path(folder, "model_edgetpu.tflite")
        if not compiled.is_file() or compiled.read_bytes()[4:8] != IDENTIFIER:
            raise ExportError(f"{PROGRAM} wrote no TFLite file: {_cause(said)}")
        return compiled.read_bytes(), report


def parse_report(said: str) -> CompilerReport:
    """Reads what the compiler prints with `-s`.

    Raises:
        ExportError: the number of subgraphs is not there.
    """
    subgraphs = re.search(r"^Number of Edge TPU subgraphs:\s*(\d{1,6})\s*$", said, re.MULTILINE)
    if subgraphs is None:
        raise ExportError(f"{PROGRAM} printed no readable report: {_cause(said)}")
    version = re.search(r"^Edge TPU Compiler version\s+(\S+)", said, re.MULTILINE)
    table = said.partition("Operator ")[2] if re.search(r"^Operator\s+Count\s+Status\s*$", said, re.MULTILINE) else ""
    rows = [
        words for line in table.splitlines() if len(words := line.split(None, 2)) == 3 and COUNT.fullmatch(words[1])
    ]
    return CompilerReport(
        version=version[1] if version else "unknown",
        subgraphs=int(subgraphs[1]),
        on_chip_bytes=_memory(said, "On-chip memory used for caching model parameters"),
        on_chip_free_bytes=_memory(said, "On-chip memory remaining for caching model parameters"),
        off_chip_bytes=_memory(said, "Off-chip memory used for streaming uncached model parameters"),
        operators=tuple(MappedOperators(name, int(count), status.strip()) for name, count, status in rows),
    )


def _memory(said: str, what: str) -> int | None:
    """Bytes of a line such as `…: 4.16MiB`."""
    found = re.search(rf"^{what}:\s*(\d{{1,9}}(?:\.\d{{1,9}})?)\s*([KMG]iB|B)\s*$", said, re.MULTILINE)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def _cause(said: str) -> str:
    """The line that says why it failed, which is rarely the last one."""
    lines = [line.strip() for line in said.split("\n") if line.strip()]
    causes = [line for line in lines if line.startswith(CAUSES) and not line.startswith(CONSEQUENCE)]
    if causes:
        return f"it says {causes[0].removeprefix('Compilation failed: ')[:200]!r}."
    return f"it ends with {lines[-1][:200]!r}." if lines else "it says nothing."
