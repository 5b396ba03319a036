"""The child process of `HostDevice`: `python -m ofa_tf.latency.host_worker`, a request in, lines of progress out.

It says which file it is about to load, so that the parent can name the file that it crashed on.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

GROUP = 128  # files whose interpreters are alive at the same time: what a large space needs would not fit in memory
MOST_ROUNDS = 2000
BEAT_S = 5.0  # after which it says that it lives


def say(**message: Any) -> None:
    """Sends the parent a message."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def prepare(path: str, in_size: int | None, threads: int, delegate: str) -> Callable[[], None]:
    """A file loaded and fed: the function that runs it.

    Raises:
        ValueError, RuntimeError: the interpreter refuses it.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {
        "none": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "xnnpack": OpResolverType.BUILTIN,
    }[delegate]
    interpreter = Interpreter(path, num_threads=threads, experimental_op_resolver_type=resolver)
    for details in interpreter.get_input_details():
        shape = list(details["shape"])
        if in_size is not None:
            shape[1] = shape[2] = in_size
            interpreter.resize_tensor_input(details["index"], shape)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        values = rng.uniform(-1, 1, details["shape"])
        if details["dtype"] != np.float32:
            values = values * 127
        interpreter.set_tensor(details["index"], values.astype(details["dtype"]))
    return interpreter.invoke


def time_group(
    invokes: Sequence[Callable[[], None]],
    seconds: float,
    least_rounds: int,
    runs: int,
    rng: np.random.Generator,
    progress: Callable[[float], None],
) -> np.ndarray:
    """Seconds of every run, shape (files, rounds * runs); the order of the files is another one in every round."""
    start = time.perf_counter()
    for invoke in invokes:
        for _ in range(1 + runs):
            invoke()
            progress(0)
    rounds = max(least_rounds, min(int(seconds / (time.perf_counter() - start)), MOST_ROUNDS))
    taken = np.empty((len(invokes), rounds, runs))
    for turn in range(rounds):
        for index in rng.permutation(len(invokes)):
            invoke = invokes[index]
            invoke()
            for run in range(runs):
                start = time.perf_counter()
                invoke()
                taken[index, turn, run] = time.perf_counter() - start
            progress(turn / rounds)
        progress((turn + 1) / rounds)
    return taken.reshape(len(invokes), -1)


def main() -> None:
    """Reads the request, measures group by group, writes the runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    request = json.load(sys.stdin)
    if request["cores"]:
        os.sched_setaffinity(0, request["cores"])
    workloads, rng = request["workloads"], np.random.default_rng([request["seed"], 6])
    order = rng.permutation(len(workloads))
    results: dict[str, np.ndarray] = {}
    parent, told, said = os.getppid(), 0, time.monotonic()

    def tell(done: float) -> None:
        nonlocal told, said
        if os.getppid() != parent:  # it is gone, and nobody waits for this
            sys.exit(1)
        percent = int(100 * (len(results) + done * len(group)) / len(order))
        if percent > told or time.monotonic() - said > BEAT_S:
            say(percent=percent - told)
            told, said = percent, time.monotonic()

    for group in np.array_split(order, -(-len(order) // GROUP)):
        invokes = []
        for index in group:
            say(file=int(index))
            try:
                path, in_size = workloads[index]
                invokes.append(prepare(path, in_size, request["threads"], request["delegate"]))
            except (ValueError, RuntimeError) as error:
                say(error=str(error))
                return
        seconds = request["seconds"] * len(group) / len(order)
        taken = time_group(invokes, seconds, request["least_rounds"], request["runs"], rng, tell)
        results |= {str(index): runs for index, runs in zip(group, taken, strict=True)}
    np.savez(request["results"], **results)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
