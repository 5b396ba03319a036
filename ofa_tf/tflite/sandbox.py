"""Running a `.tflite` file from elsewhere in a separate process.

The interpreter is C++ that trusts the file: a hostile file may crash the process. Here it crashes a child process, and
the parent says so. Run as a program, this module is the child: it reads a line of JSON, the file and then inputs from
standard input, and answers each on standard output.
"""

import json
import math
import os
import select
import signal
import struct
import subprocess
import sys
import time
from typing import IO, Any

import numpy as np

from ofa_tf.errors import ExportError

HEADER = struct.Struct("<dI")  # milliseconds of a run, bytes of the output that follow
LIMIT_S = 300.0  # for an answer: a file may hold a loop without an end


class ChildInterpreter:
    """A `.tflite` file, loaded by ai-edge-litert in a child process; use it in a `with` statement.

    Args:
        content: the bytes of the file.
        name: name of the file, for messages.
        threads: threads of the interpreter.
        delegate: "none" or "xnnpack".

    Attributes:
        load_ms: time from the bytes to an interpreter that is ready.
        peak_bytes: how much the memory of the child grew for the file, the interpreter and a first run; None where the
            operating system does not report it.

    Raises:
        ExportError: the interpreter refuses the file, crashes on it, or does not end.
    """

    def __init__(self, content: bytes, name: str = "the file", threads: int = 1, delegate: str = "none"):
        self._name = name
        # -P: nothing is imported from the current folder.
        command = [sys.executable, "-P", "-m", "ofa_tf.tflite.sandbox"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            settings = {"size_bytes": len(content), "threads": threads, "delegate": delegate}
            self._send(json.dumps(settings).encode() + b"\n" + content)
            self._wait()
            answer = json.loads(self._answers.readline() or self._crashed())
        except BaseException:
            self.close()
            raise
        if "error" in answer:
            self.close()
            raise ExportError(f"The interpreter refuses {name}: {answer['error']}.")
        self.load_ms: float = answer["load_ms"]
        self.peak_bytes: int | None = answer["peak_bytes"]
        self._dtype, self._shape = np.dtype(answer["dtype"]), answer["shape"]

    def run(self, stored: np.ndarray) -> tuple[np.ndarray, float]:
        """Runs the first input to the first output.

        Args:
            stored: of the input's type and shape.

        Returns:
            The output, of its own type and shape, and the milliseconds that the interpreter took.

        Raises:
            ExportError: the interpreter fails, crashes or does not end, or gives an output of another size than for
                zeros.
        """
        self._send(stored.tobytes())
        self._wait()
        header = self._answers.read(HEADER.size)
        if len(header) < HEADER.size:
            self._crashed()
        duration_ms, size = HEADER.unpack(header)
        data = self._answers.read(size)
        if len(data) < size:
            self._crashed()
        if size != math.prod(self._shape) * self._dtype.itemsize:
            raise ExportError(f"The size of the output of {self._name} depends on its input; a fixed one is needed.")
        return np.frombuffer(data, self._dtype).reshape(self._shape), duration_ms

    def close(self) -> None:
        """Ends the child."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> "ChildInterpreter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _answers(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._crashed()

    def _wait(self) -> None:
        """Until an answer begins; whatever came before it has been read."""
        if not select.select([self._answers], [], [], LIMIT_S)[0]:
            raise ExportError(f"One run of {self._name} took longer than {LIMIT_S:g} s and was stopped.")

    def _crashed(self) -> Any:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        raise ExportError(f"The interpreter crashed on {self._name} ({how}): the file is damaged, or not meant for it.")


def main() -> None:
    """The child: loads the file and runs it on one input after the other, until there are no more."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what C++ code prints is no answer
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    settings = json.loads(requests.readline())
    plain = settings["delegate"] == "none"
    before = _peak_bytes()
    content = requests.read(settings["size_bytes"])
    start = time.perf_counter()
    try:
        interpreter = Interpreter(
            model_content=content,
            num_threads=settings["threads"],
            experimental_op_resolver_type=(
                OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.BUILTIN
            ),
        )
        interpreter.allocate_tensors()
        load_ms = (time.perf_counter() - start) * 1e3
        for details in interpreter.get_input_details():
            interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
        interpreter.invoke()
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:
        _answer(answers, json.dumps({"error": " ".join(str(error).split())[:300].rstrip(".")}).encode() + b"\n")
        return
    entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    after = _peak_bytes()
    facts = {
        "load_ms": load_ms,
        "peak_bytes": None if before is None or after is None else after - before,
        "dtype": np.dtype(result["dtype"]).str,
        "shape": interpreter.get_tensor(result["index"]).shape,
    }
    _answer(answers, json.dumps(facts).encode() + b"\n")
    size = int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize
    while data := requests.read(size):
        interpreter.set_tensor(entry["index"], np.frombuffer(data, entry["dtype"]).reshape(entry["shape"]))
        start = time.perf_counter()
        interpreter.invoke()
        duration_ms = (time.perf_counter() - start) * 1e3
        output = interpreter.get_tensor(result["index"]).tobytes()
        _answer(answers, HEADER.pack(duration_ms, len(output)) + output)


def _answer(answers: IO[bytes], data: bytes) -> None:
    answers.write(data)
    answers.flush()


def _peak_bytes() -> int | None:
    """The most memory that this process has held; `getrusage` would count that of the parent too."""
    try:
        with open("/proc/self/status") as file:
            (line,) = (line for line in file if line.startswith("VmHWM:"))
    except (OSError, ValueError):
        return None
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
