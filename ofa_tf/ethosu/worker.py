"""The child process in which Vela compiles many files: `python -m ofa_tf.ethosu.worker`, a request in, lines out.

Vela takes several times as long to start as to compile a small file. So it is imported once, and each file is compiled
in a fork, which may crash, hang or leak without harm to the others.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence

POLL_S = 0.005


def compile_in_fork(main: Callable, arguments: Sequence[str], log: str, seconds: float) -> int | None:
    """Runs Vela in a fork.

    Args:
        main: Vela's entry point, which takes its arguments.
        arguments: of the command line.
        log: file for what it prints.
        seconds: time limit.

    Returns:
        The exit status, negative for a signal; None after the time limit.
    """
    child = os.fork()
    if not child:
        _be_vela(main, arguments, log)
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(POLL_S)


def _be_vela(main: Callable, arguments: Sequence[str], log: str) -> None:
    """What the fork does; it does not return."""
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = main(list(arguments)) or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # noqa: BLE001 (whatever Vela raises ends only this fork)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Reads the request, compiles file after file, says the exit status of each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    request, parent, answers = json.load(sys.stdin), os.getppid(), os.dup(1)
    from ethosu.vela import vela  # type: ignore[import-not-found,import-untyped,unused-ignore]

    for arguments, log in request["jobs"]:
        if os.getppid() != parent:  # it is gone, and nobody waits for this
            return
        status = compile_in_fork(vela.main, arguments, log, request["seconds"])
        os.write(answers, (json.dumps({"status": status}) + "\n").encode())


if __name__ == "__main__":
    main()
