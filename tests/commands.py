"""Running `ofa-tf`, and what a command left behind."""

import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from ofa_tf.jsonio import read_json, write_json

OFA = [sys.executable, "-c", "from ofa_tf.cli.main import main; main()"]
HOST_TABLE = "lut/host__*__int8.json"
SEARCH = ["search", "--workdir", "work", "--latency", "1000"]
EXPORT = ["export", "--workdir", "work", "--latency", "1000", "--no-gate"]


@dataclass(frozen=True)
class Run:
    """What a command did: exit status, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line of standard error."""
        return (self.err.strip().splitlines() or [""])[-1]


def run_command(*arguments) -> int:
    """Runs `ofa-tf` in this process; Ctrl-C and its like are what they were afterwards."""
    from ofa_tf.cli.main import STOPPING, main

    handlers = {number: signal.getsignal(number) for number in STOPPING}
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


def contents(folder) -> dict[str, bytes]:
    """Every file in a folder, hidden ones too, but for the lock and converted files, which are kept as they come."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock")
    kept = ("block-files/*.tflite", "block-files/versions.json")
    files = (path for path in files if not any(path.match(pattern) for pattern in kept))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def assert_refused(run, *said: str) -> None:
    """The command ended with status 2 and a line that begins with `Error:` and has every text in it."""
    assert run.code == 2
    assert run.out == ""
    assert run.last.startswith("Error: ")
    assert "Traceback" not in run.err
    assert run.err.count("Error:") == 1
    for text in said:
        assert text in run.last


def forget(workdir: Path, *patterns: str) -> None:
    """Removes results from a workdir; `width` is its last stage."""
    for pattern in patterns:
        if pattern == "width":
            shutil.rmtree(workdir / "checkpoints" / "width")
            ledger = read_json(workdir / "ledger.json")
            del ledger["stages"]["width"]
            write_json(workdir / "ledger.json", ledger)
        for path in workdir.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
