"""Ctrl-C, a kill, a full disk, a second process, in every step of the main job: nothing lost, nothing half-written."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
from commands import EXPORT, HOST_TABLE, SEARCH, assert_refused, contents, forget
from finished_workdir import CLASSES

from ofa_tf.atomic import sweep
from ofa_tf.export.folder import Manifest, write_export
from ofa_tf.jsonio import SPACE_SCHEMA, read_json
from ofa_tf.project.workdir import Workdir
from ofa_tf.quiet import load_tensorflow, quiet
from ofa_tf.space import Arch
from ofa_tf.terminal import TerminalProgress
from ofa_tf.training import checkpoint
from ofa_tf.training.ledger import StageRecord

WIDTH = ["train", "--workdir", "work", "--stage", "width"]
FIT = ["predictor", "fit", "--workdir", "work", "--archs", "12"]
BUILD = ["lut", "build", "--workdir", "work"]
NEW = [*EXPORT, "--name", "new"]
AGAIN = [*EXPORT, "--name", "first", "--force"]


def assert_untouched(workdir: Path, before: dict[str, bytes], grown: tuple[str, ...] = ()) -> None:
    """Every file is as it was, but for those that may grow or appear; no temporary file is left."""
    after = contents(workdir)
    assert not [name for name in after if name.endswith((".tmp", ".old")) or "/." in name]
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} <= set(grown)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def press_in_task(monkeypatch):
    """Makes the process send itself SIGINT when a task of this title has done some work; once."""

    def arm(title, after):
        task = TerminalProgress.task
        left = [after]

        @contextlib.contextmanager
        def pressing(self, name, *arguments, **options):
            with task(self, name, *arguments, **options) as advance:

                def advance_and_press(n):
                    advance(n)
                    if name == title:
                        left[0] -= 1
                        if left[0] == 0:
                            signal.raise_signal(signal.SIGINT)

                yield advance_and_press

        monkeypatch.setattr(TerminalProgress, "task", pressing)

    return arm


def assert_stopped(run) -> None:
    assert (run.code, run.out) == (130, "")
    assert run.last == "Stopped. The workdir is intact: the same command resumes where it left off."
    assert "Traceback" not in run.err


@pytest.mark.parametrize(
    ("command", "title", "after", "missing", "grown"),
    [
        ([*FIT[:-1], "13"], "reading images", 50, ["cache/*"], ()),
        (FIT, "evaluating subnets", 5, ["accuracy/*"], ("accuracy/pairs.jsonl",)),
        (BUILD, "converting", 3, ["cache/block-files/*", HOST_TABLE], ()),
        (BUILD, "measuring", 1, [HOST_TABLE], ()),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_ctrl_c_in_a_long_step(ofa, workdir, press_in_task, monkeypatch, command, title, after, missing, grown):
    content = (workdir / "exports" / "first" / "model.tflite").read_bytes()
    monkeypatch.setattr("ofa_tf.export.convert.to_tflite", lambda *_: content)  # instead of every block
    forget(workdir, *missing)
    before = contents(workdir)
    press_in_task(title, after)
    assert_stopped(ofa(*command))
    assert_untouched(workdir, before, grown)
    if grown:
        assert len((workdir / grown[0]).read_text().splitlines()) == after

    run = ofa(*command)
    assert run.code == 0, run.err
    assert all(list(workdir.glob(pattern)) for pattern in missing)


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("project.finder.search", SEARCH),
        ("export.verified.to_tflite", AGAIN),
        ("latency.host.HostDevice.measure", AGAIN),
    ],
)
def test_ctrl_c_in_search_and_export(ofa, workdir, monkeypatch, place, command):
    before = contents(workdir)
    monkeypatch.setattr(f"ofa_tf.{place}", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert_stopped(ofa(*command))
    assert_untouched(workdir, before)


def test_ctrl_c_that_tensorflow_turns_into_another_error(ofa, monkeypatch):
    def examine():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise SystemError("bad argument to internal function") from None

    monkeypatch.setattr("ofa_tf.project.doctor.examine", examine)
    assert_stopped(ofa("doctor"))


def test_an_error_of_ours_is_not_taken_for_ctrl_c(ofa, monkeypatch):
    monkeypatch.setattr("ofa_tf.project.doctor.examine", lambda: [][0])
    with pytest.raises(IndexError):
        ofa("doctor")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("failed")])
def test_quiet_gives_the_streams_back(capfd, error):
    def chat():
        with quiet():
            os.write(1, b"chatter of C")
            print("chatter of Python")  # noqa: T201
            raise error

    with pytest.raises(type(error)):
        chat()
    os.write(1, b"heard\n")
    print("heard too", file=sys.stderr)  # noqa: T201
    assert capfd.readouterr() == ("heard\n", "heard too\n")
    assert getattr(error, "__notes__", []) == (
        ["chatter of Cchatter of Python\n"] if isinstance(error, RuntimeError) else []
    )


# --- real processes ---------------------------------------------------------------------------------------------------

SLOW_TRAINING = """
import time
from ofa_tf.training import trainer
from ofa_tf.training.step import TrainingStep
from ofa_tf.cli.main import main
trainer.SECONDS_BETWEEN_CHECKPOINTS = 0
run = TrainingStep.run
TrainingStep.run = lambda *arguments: (time.sleep(0.6), run(*arguments))[1]
main()
"""


def wait_for(condition, process, seconds=120):
    """Waits until something is so, or the process has ended."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert condition(), process.communicate()


def test_a_training_that_is_stopped_goes_on_where_it_was(
    ofa, tmp_path, monkeypatch, image_folder, small_space, recipe_file
):
    load_tensorflow()  # which would take longer than the other process needs for its steps
    monkeypatch.chdir(tmp_path)
    options = ["--data", image_folder, "--space", small_space, "--recipe", recipe_file]
    command = ["train", "--stage", "full", "--workdir", "work", *map(str, options)]
    folder = Path("work/checkpoints/full")

    def steps() -> list[int]:
        return sorted(int(path.stem[5:]) for path in folder.glob("step-*.npz"))

    def train_and_send(number: int, after: int) -> tuple[str, str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_TRAINING, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            wait_for(lambda: max(steps(), default=0) >= after, process)
            assert_refused(ofa(*command), "Another ofa-tf is at work in work")
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == (-number if number == signal.SIGKILL else 130)
        assert out == ""
        assert "Traceback" not in err
        return err, f".step-00000099.npz.{process.pid}.tmp"

    err, _ = train_and_send(signal.SIGINT, 2)
    assert err.splitlines()[-1].startswith("Stopped.")
    assert not list(Path("work").rglob(".*.tmp"))
    first = steps()[-1]
    assert 2 <= first < 15
    err, _ = train_and_send(signal.SIGTERM, first + 1)
    assert err.splitlines()[-1].startswith("Stopped.")
    first = steps()[-1]
    _, half = train_and_send(signal.SIGKILL, first + 1)
    (folder / half).write_bytes(b"half")
    assert first < steps()[-1] < 15

    run = ofa(*command)
    assert run.code == 0, run.err
    assert read_json("work/ledger.json")["stages"]["full"]["step"] == 15
    assert not list(Path("work").rglob(".*.tmp"))


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(ofa, workdir):
    before = contents(workdir)
    process = subprocess.Popen([sys.executable, "-c", HOLD, workdir / ".lock"], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        for command in (WIDTH, FIT, BUILD):
            assert_refused(ofa(*command), "Another ofa-tf is at work in work", "wait for it", "another workdir")
        assert_untouched(workdir, before)
    finally:
        process.kill()
        process.wait()
    assert ofa(*WIDTH).code == 0


def test_two_processes_that_set_up_the_same_workdir(ofa, workdir, monkeypatch):
    """The slower one finds that the workdir has become another's."""
    from ofa_tf.project import opened as project

    load = project._load
    (workdir / "config.json").rename("config.json")

    def load_while_the_other_finishes(*arguments):
        data = load(*arguments)
        Path("config.json").rename(workdir / "config.json")
        return data

    monkeypatch.setattr(project, "_load", load_while_the_other_finishes)
    before = Path("config.json").read_bytes()
    run = ofa("train", "--workdir", workdir, "--data", read_json("config.json", SPACE_SCHEMA)["data"])
    assert_refused(run, "Another ofa-tf has just set up work", "run the command again")
    assert (workdir / "config.json").read_bytes() == before


def test_what_the_killed_left_is_swept_and_nothing_else(workdir):
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = [
        f".a.json.{gone.pid}.tmp",
        f".a.json.{os.getpid()}.tmp",
        ".a.json.1.tmp",
        ".mine.tmp",
        "a.1.tmp",
        ".note.x.tmp",
    ]
    for folder in (workdir, workdir / "accuracy", workdir / "exports", workdir / "checkpoints" / "full"):
        for name in names:
            (folder / name).write_text("x")
    for folder in (workdir, workdir / "exports"):
        (folder / f".first.{gone.pid}.tmp").unlink(missing_ok=True)
        (folder / f".first.{gone.pid}.tmp").mkdir()
    with Workdir(workdir).lock():
        pass
    for folder in (workdir, workdir / "accuracy", workdir / "exports", workdir / "checkpoints" / "full"):
        assert [(folder / name).exists() for name in names] == [False, False, True, True, True, True]
    assert not (workdir / "exports" / f".first.{gone.pid}.tmp").exists()
    assert (workdir / f".first.{gone.pid}.tmp").exists(), "a folder of the user's, for all we know"
    sweep(workdir / "none")


# --- disks ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def files_up_to(size: int):
    """No file may grow beyond so many bytes, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


FULL = {
    "config": (
        ["train", "--workdir", "new", "--data", "digits", "--stage", "full", "--epochs", "0.1"],
        500,
        [],
        "new/config.json",
        (),
    ),
    "cache": (FIT, 100_000, ["cache/*"], "work/cache/", ()),
    "checkpoint": (WIDTH, 100_000, ["width", "accuracy/*", "logs/width/*"], "step-00000002.npz", ("ledger.json",)),
    "journal": (FIT, 700, ["accuracy/*"], "", ("accuracy/pairs.jsonl",)),
    "predictor": (FIT, 2_000, ["accuracy/*"], "accuracy/predictor.npz", ("accuracy/pairs.jsonl",)),
    "table": (BUILD, 4_000, [HOST_TABLE], "work/lut/host__", ()),
    "export": (NEW, 20_000, [], "work/exports/new", ()),
    "replaced export": (AGAIN, 1_000, [], "work/exports/first", ()),
    "metadata": ([*NEW, "--author", "me"], 1_000, [], "work/exports/new", ()),
    "arch": ([*SEARCH, "--out", "arch.json"], 50, [], "arch.json", ()),
}


@pytest.mark.parametrize(("command", "size", "missing", "named", "grown"), FULL.values(), ids=list(FULL))
def test_a_full_disk_at_every_step(ofa, workdir, finished, monkeypatch, command, size, missing, named, grown):
    from ofa_tf.latency.table import LatencyTable

    forget(workdir, *missing)
    monkeypatch.setattr(
        "ofa_tf.project.lut.build_table", lambda *_, **__: LatencyTable.load(*finished.glob(HOST_TABLE))
    )
    monkeypatch.setattr("ofa_tf.project.export._device", lambda *_: None)
    before = contents(".")
    with files_up_to(size):
        run = ofa(*command)
    assert_refused(run, "file size limit is full", named, "make room and run the command again")
    scalars = {str(path.relative_to("work")) for path in Path("work/logs").rglob("events*")}
    assert_untouched(Path("."), before, tuple(f"work/{name}" for name in {*grown, *scalars}))
    run = ofa(*command)
    assert run.code == 0 or command == AGAIN, run.err


def test_a_journal_cut_short_by_a_full_disk_keeps_its_whole_lines(ofa, workdir):
    journal = workdir / "accuracy" / "pairs.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:7]) + lines[7][:50])
    assert ofa(*FIT).code == 0
    assert journal.read_text().splitlines(keepends=True)[:7] == lines[:7]
    assert len([json.loads(line) for line in journal.read_text().splitlines()]) == 12


def test_a_disk_that_cannot_be_written(ofa, workdir, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("ofa_tf.project.workdir.open", refuse, raising=False)
    before = contents(workdir)
    for command in (["train", "--workdir", "new"], WIDTH, FIT, BUILD):
        assert_refused(ofa(*command), "The disk is read-only", "/.lock", "use another folder")
    assert_untouched(workdir, before)
    assert ofa(*SEARCH).code == 0, "what needs no writing works"


# --- replacing an export ----------------------------------------------------------------------------------------------


@pytest.fixture
def replace_first(finished, workdir):
    """Writes the export `first` anew, with another file in it."""
    document = read_json(finished / "exports" / "first" / "manifest.json")
    del document["versions"]
    arch = Arch(**{key: tuple(v) if isinstance(v, list) else v for key, v in document["arch"].items()})
    folder, manifest = workdir / "exports" / "first", Manifest(**document)
    return lambda: write_export(folder, b"other", CLASSES, arch, manifest, force=True)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error", "here"), KeyboardInterrupt()])
def test_a_failure_while_an_export_is_replaced_leaves_the_old_one(workdir, replace_first, monkeypatch, error):
    before = contents(workdir)
    rename = os.rename

    def fail(source, target):
        if Path(target).name == "first":
            monkeypatch.setattr("os.rename", rename)
            raise error
        rename(source, target)

    monkeypatch.setattr("os.rename", fail)
    with pytest.raises(type(error)):
        replace_first()
    assert_untouched(workdir, before)
    replace_first()
    assert_untouched(workdir, before, ("exports/first/model.tflite",))


def test_an_export_whose_replacement_was_killed_comes_back(workdir, replace_first):
    before = contents(workdir)
    old = workdir / "exports" / ".first.old"
    (workdir / "exports" / "first").rename(old)
    replace_first()
    assert_untouched(workdir, before, ("exports/first/model.tflite",))
    shutil.copytree(workdir / "exports" / "first", old)
    replace_first()
    assert_untouched(workdir, before, ("exports/first/model.tflite",))


def test_what_is_in_the_way_of_an_export_is_refused_before_the_work(ofa, workdir, monkeypatch):
    monkeypatch.setattr("ofa_tf.export.verified.to_tflite", lambda *_: pytest.fail("converted for nothing"))
    mine = workdir / "exports" / ".first.old" / "letter.txt"
    mine.parent.mkdir()
    mine.write_text("x")
    run = ofa(*AGAIN)
    assert (run.code, run.out) == (2, "")
    assert ".first.old is in the way, and is none of our folders" in run.last
    assert mine.exists()


# --- weights trained anew ---------------------------------------------------------------------------------------------


def test_weights_trained_anew_take_their_accuracies_along(ofa, workdir, monkeypatch):
    """A predictor of other weights would mislead every search."""

    class Trainer:
        traces: ClassVar = {}

        def __init__(self, workdir, *_):
            self.workdir, self.ledger = workdir, workdir.ledger()

        def train(self, stage):
            checkpoint.save(self.workdir.checkpoints(stage), 2, {})
            self.ledger.record(stage, StageRecord("done", 2, 2))

    monkeypatch.setattr("ofa_tf.project.train.Trainer", Trainer)
    assert ofa(*WIDTH).code == 0
    assert (workdir / "accuracy" / "predictor.npz").exists()
    run = ofa(*WIDTH, "--restart")
    assert run.code == 0
    assert "the predictor of the previous weights were removed" in run.err
    assert not (workdir / "accuracy").exists()
