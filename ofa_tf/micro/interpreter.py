"""Running a file in TensorFlow Lite Micro on this machine, which says how large its arena is.

The package `tflite-micro` has the interpreter of microcontrollers with its reference kernels. It trusts the file and
prints what it has allocated to standard error, so it runs in a separate process. Run as a program, this module is the
child: it reads a line of JSON, the file and inputs from standard input, and answers on standard output.
"""

import json
import os
import re
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from ofa_tf.arena import ALIGNMENT, ArenaSize
from ofa_tf.errors import ExportError, MissingDependencyError

PACKAGE = "tflite-micro"
LIMIT_S = 600.0  # for all inputs
ROOMY = 1 << 25  # bytes: an arena in which a file is measured
TRIES = 64  # arenas that are tried above what is in use, each larger by the alignment
ALLOCATED = re.compile(r"Arena allocation (head|tail) (\d{1,12}) bytes")


@dataclass(frozen=True)
class MicroRun:
    """What the interpreter answered.

    Args:
        outputs: of each input, of the file's own type; shape (inputs, …).
        arena: the bytes in use.
        arena_bytes: the smallest arena from what is in use on, in steps of the alignment, in which the file runs.
    """

    outputs: np.ndarray
    arena: ArenaSize
    arena_bytes: int


def available() -> bool:
    """Whether the interpreter is installed."""
    return find_spec("tflite_micro") is not None


def run_in_micro(content: bytes, inputs: np.ndarray, arena_bytes: int = ROOMY, limit_s: float = LIMIT_S) -> MicroRun:
    """Runs a file on inputs.

    Args:
        content: a `.tflite` file of one input and one output.
        inputs: of the input's type; shape (inputs, *shape of one); at least one.
        arena_bytes: the arena in which it is measured.
        limit_s: how long it may take.

    Raises:
        MissingDependencyError: the interpreter is not installed.
        ExportError: it refuses the file or the arena, crashes, or does not end.
    """
    if not available():
        raise MissingDependencyError(f"The file cannot be run as on a microcontroller: pip install {PACKAGE}")
    outputs, arena = _run(content, inputs, arena_bytes, limit_s)
    for more in range(TRIES):
        try:
            _run(content, inputs[:1], arena.total_bytes + more * ALIGNMENT, limit_s)
        except _TooSmall:
            continue
        return MicroRun(outputs, arena, arena.total_bytes + more * ALIGNMENT)
    raise ExportError(
        f"TensorFlow Lite Micro says that the file takes {arena.total_bytes} bytes, and does not run it in "
        f"{TRIES * ALIGNMENT} more."
    )


class _TooSmall(ExportError):
    """The interpreter refused the file, or crashed on it, as it also does where the arena is too small."""


def _run(content: bytes, inputs: np.ndarray, arena_bytes: int, limit_s: float) -> tuple[np.ndarray, ArenaSize]:
    """The outputs of a file in an arena, and what of the arena is in use."""
    settings = {
        "size_bytes": len(content),
        "arena_bytes": arena_bytes,
        "shape": inputs.shape,
        "dtype": np.dtype(inputs.dtype).str,
    }
    command = [sys.executable, "-P", "-m", "ofa_tf.micro.interpreter"]  # -P: nothing from the current folder
    sent = json.dumps(settings).encode() + b"\n" + content + inputs.tobytes()
    try:
        done = subprocess.run(command, input=sent, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise ExportError(f"TensorFlow Lite Micro was stopped after {limit_s:g} s without an answer.") from None
    line, _, data = done.stdout.partition(b"\n")
    said = done.stderr.decode(errors="replace")
    sizes = {part: int(size) for part, size in ALLOCATED.findall(said)}
    try:
        answer = json.loads(line)
    except ValueError:
        raise _TooSmall(_crash(done.returncode, said)) from None
    if "error" in answer:
        raise _TooSmall(f"TensorFlow Lite Micro refuses the file: {_reason(said) or answer['error']}.")
    if sizes.keys() < {"head", "tail"}:
        raise ExportError("TensorFlow Lite Micro does not say what it has allocated: its output has changed.")
    outputs = np.frombuffer(data, answer["dtype"]).reshape(len(inputs), *answer["shape"])
    return outputs, ArenaSize(sizes["head"], sizes["tail"])


def run_reference(content: bytes, inputs: np.ndarray) -> np.ndarray:
    """What LiteRT's reference kernels answer, in this process: only for files that we made ourselves.

    Args:
        content: a `.tflite` file of one input and one output.
        inputs: as for `run_in_micro`.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content, num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for image in inputs:
        interpreter.set_tensor(entry["index"], image)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result["index"]))
    return np.stack(outputs)


def _crash(code: int, said: str) -> str:
    how = signal.Signals(-code).name if code < 0 else f"status {code}"
    return f"TensorFlow Lite Micro crashed on the file ({how}): {_reason(said) or 'it says nothing'}."


def _reason(said: str) -> str:
    """The first line that tells of a failure."""
    lines = [" ".join(line.split()) for line in said.splitlines()]
    failures = [
        line for line in lines if re.search(r"fail|unable|didn't find|not support|missing", line, re.IGNORECASE)
    ]
    return failures[0][:200].rstrip(".") if failures else ""


def main() -> None:
    """The child: runs the inputs and prints what is allocated."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what C++ code prints is no answer
    from tflite_micro.python.tflite_micro.runtime import Interpreter

    settings = json.loads(requests.readline())
    content = requests.read(settings["size_bytes"])
    inputs = np.frombuffer(requests.read(), settings["dtype"]).reshape(settings["shape"])

    try:
        interpreter = Interpreter.from_bytes(content, arena_size=settings["arena_bytes"])
        outputs = []
        for image in inputs:
            interpreter.set_input(image, 0)
            interpreter.invoke()
            outputs.append(np.array(interpreter.get_output(0)))
    except (RuntimeError, ValueError, TypeError, LookupError, struct.error) as error:
        _answer(answers, {"error": " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__})
        return
    interpreter.print_allocations()
    sys.stderr.flush()
    stacked = np.stack(outputs)
    _answer(answers, {"dtype": stacked.dtype.str, "shape": stacked.shape[1:]}, stacked.tobytes())


def _answer(answers: Any, facts: dict[str, Any], data: bytes = b"") -> None:
    answers.write(json.dumps(facts).encode() + b"\n" + data)
    answers.flush()


if __name__ == "__main__":
    main()
