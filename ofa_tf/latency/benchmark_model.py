"""What TFLite's own `benchmark_model` prints, and how to ask it."""

import re
from collections.abc import Sequence

from ofa_tf.errors import DeviceError

NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
LONGEST_US = 1e12
COUNT = re.compile(r"\bcount=\d+\b")
AVERAGE = re.compile(rf"\bavg={NUMBER}(?:\s|$)")
CAUSE = re.compile(r"error|exception|shortMsg", re.IGNORECASE)
SAME = re.compile(rf"\bcurr={NUMBER}(?:\(all same\)|$)")


def flags(threads: int, delegate: str, runs: int) -> list[str]:
    """The options for a number of runs, however long they take, after a warm-up of five."""
    return [
        f"--num_threads={threads}",
        f"--use_xnnpack={'true' if delegate == 'xnnpack' else 'false'}",
        "--warmup_runs=5",
        "--warmup_min_secs=0",
        f"--num_runs={runs}",
        "--min_secs=0",
    ]


def input_flags(name: str, shape: Sequence[int]) -> list[str]:
    """The options that resize an input."""
    return [f"--input_layer={name}", f"--input_layer_shape={','.join(map(str, shape))}"]


def parse_ms(output: str) -> float:
    """Mean milliseconds of the timed runs: from the second `count=` line, the first being the warm-up.

    The numbers are microseconds, in scientific notation from a million on; runs that took the same time each have no
    average of their own.

    Args:
        output: what the program printed.

    Raises:
        DeviceError: it has no such line, or a time of 0 or without an end; the first line that tells of an error, or
            else the last, is in the message.
    """
    lines = [line for line in output.splitlines() if COUNT.search(line)]
    found = None
    if len(lines) >= 2:
        found = AVERAGE.search(lines[1]) or SAME.search(lines[1].strip())
    if found is None or not 0 < float(found[1]) < LONGEST_US:
        words = output.strip().splitlines() or ["nothing"]
        said = next((line for line in words if CAUSE.search(line)), words[-1])
        raise DeviceError(f"benchmark_model printed no times; it said: {said[:200]!r}.")
    return float(found[1]) / 1000
