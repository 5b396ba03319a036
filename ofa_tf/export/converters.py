"""Converting blocks and subnets in several processes.

Each is started as a separate program, because a pool of `multiprocessing` would run the user's script again in every
process. Run as a program, this module is the child: it reads pickled requests from standard input, one after another,
and answers each on standard output with the file or the error.
"""

import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from subprocess import PIPE, Popen

from ofa_tf.blocks import Block
from ofa_tf.errors import ExportError
from ofa_tf.space import Arch, SearchSpace

COMMAND = [sys.executable, "-P", "-m", "ofa_tf.export.converters"]  # -P: nothing is imported from the current folder


def convert_all(
    items: Sequence[Block | Arch], processes: int, space: SearchSpace, n_classes: int, precision: str
) -> Iterator[bytes]:
    """The files of blocks and subnets, in the order given; the processes are stopped when the iterator ends.

    Args:
        items: what to convert.
        processes: number of processes to start.
        space: this and the next two as for `BlockConverter`.

    Raises:
        ExportError: an item cannot be converted, or a process dies.
    """
    children = []
    idle: SimpleQueue[_Child] = SimpleQueue()

    def convert(item: Block | Arch) -> bytes:
        child = idle.get()
        try:
            return child.answer(space, n_classes, precision, item)
        finally:
            idle.put(child)

    try:
        with ThreadPoolExecutor(processes) as pool:
            try:
                for _ in range(processes):
                    children.append(_Child())
                    idle.put(children[-1])
                yield from pool.map(convert, items)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                for child in children:
                    child.kill()
    finally:
        for child in children:
            child.close()


class _Child:
    """A process that converts."""

    def __init__(self):
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self._process = Popen(COMMAND, stdin=PIPE, stdout=PIPE, stderr=self._complaints)

    def answer(self, *request) -> bytes:
        """The file of an item; the request is the arguments of `BlockConverter` and the item."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            pickle.dump(request, requests)
            requests.flush()
            answer = pickle.load(answers)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise ExportError(self._death()) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        """Stops the process, and with it the wait for an answer."""
        self._process.kill()

    def close(self) -> None:
        """Closes the pipes and the log of a process that was killed."""
        self._process.communicate()
        self._complaints.close()

    def _death(self) -> str:
        code = self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip()
        if code < 0 or not said:
            return "A converter process died, probably out of memory: free some and run the command again."
        return f"A converter process ended with status {code}: {said.splitlines()[-1].rstrip('.')}."


def main() -> None:
    """The child: converts one item after another until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops this process
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps what C++ code prints apart from the answers
    from ofa_tf.export.convert import BlockConverter

    while True:
        try:
            *arguments, item = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: bytes | Exception = BlockConverter(*arguments).convert(item)
        except Exception as error:  # noqa: BLE001 - raised in the parent
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
