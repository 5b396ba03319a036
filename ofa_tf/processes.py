"""Running a program of others: within a time, its output in a file, and its process group ended afterwards."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ofa_tf.errors import ExportError

MOST_OUTPUT_BYTES = 1_000_000


def run_to_log(command: Sequence[str], log: Path, seconds: float) -> int | None:
    """Runs a program, and ends what is left of its process group.

    Args:
        command: the program and its arguments.
        log: file for what it prints.
        seconds: time limit.

    Returns:
        Its exit status, negative for a signal; None if it did not end in time.

    Raises:
        ExportError: it cannot be run.
    """
    with open(log, "wb") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            raise ExportError(f"{command[0]} cannot be run: {error.strerror}.") from None
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            end(process)


def end(process: subprocess.Popen) -> None:
    """Ends a process that leads a session, and its children even if it has ended already."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def read_log(log: Path) -> str:
    """What a program printed, up to a megabyte; empty if there is no such file."""
    with suppress(OSError), open(log, "rb") as file:
        return file.read(MOST_OUTPUT_BYTES).decode(errors="replace")
    return ""
