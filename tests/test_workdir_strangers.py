"""A workdir that somebody else has prepared: nothing hangs, nothing outside of it is read, emptied or removed."""

import os
import shutil

import pytest
from commands import SEARCH, assert_refused, contents

from ofa_tf.atomic import replacing_folder
from ofa_tf.errors import WorkdirError
from ofa_tf.export import folder as folder_module

FILES = ["config.json", "ledger.json", "lut/*.json", "accuracy/predictor.json", "accuracy/pairs.jsonl",
         "checkpoints/width/*.npz", "exports/first/manifest.json", "logs/full/*", ".lock"]  # fmt: skip
COMMANDS = [SEARCH, ["report", "-w", "work"], ["train", "-w", "work", "--stage", "width", "--restart"],
            ["lut", "list", "-w", "work"], ["predictor", "show", "-w", "work"]]  # fmt: skip


@pytest.mark.parametrize("pattern", FILES)
def test_pipes_and_links_out_are_refused_in_one_sentence(ofa, workdir, tmp_path, pattern):
    path = next(workdir.glob(pattern), workdir / ".lock")
    path.unlink(missing_ok=True)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for place, said in ((os.mkfifo, "is neither a file nor a folder"), (lambda p: p.symlink_to(victim), "link out of")):
        place(path)
        before = contents(workdir / "checkpoints")
        for command in COMMANDS:
            assert_refused(ofa(*command), str(path.name), said)
        assert victim.read_text() == "precious"
        assert contents(workdir / "checkpoints") == before
        path.unlink()


def test_a_folder_that_is_a_link_stops_a_restart_before_anything_is_removed(ofa, workdir, tmp_path):
    shutil.move(workdir / "accuracy", tmp_path / "elsewhere")
    (workdir / "accuracy").symlink_to(tmp_path / "elsewhere")
    before = contents(workdir / "checkpoints")
    assert_refused(ofa("train", "-w", workdir, "--stage", "width", "--restart"), "accuracy is a link out of work")
    assert contents(workdir / "checkpoints") == before
    assert (tmp_path / "elsewhere" / "pairs.jsonl").exists()


def test_the_lock_is_the_owners_and_is_not_emptied(ofa, workdir):
    (workdir / ".lock").unlink(missing_ok=True)
    table = next(workdir.glob("lut/*.json"))
    assert ofa("lut", "import", table, "--as", "again", "-w", workdir).code == 0
    assert (workdir / ".lock").stat().st_mode & 0o777 == 0o600
    (workdir / ".lock").write_text("mine")
    assert ofa("lut", "import", table, "--as", "more", "-w", workdir).code == 0
    assert (workdir / ".lock").read_text() == "mine"
    (workdir / ".lock").unlink()
    (workdir / ".lock").symlink_to("config.json")  # stays inside, and would be emptied
    before = (workdir / "config.json").read_bytes()
    assert ofa("lut", "import", table, "--as", "less", "-w", workdir).code == 2
    assert (workdir / "config.json").read_bytes() == before


# --- two at one place -------------------------------------------------------------------------------------------------


def test_of_two_processes_that_make_a_folder_the_first_wins(tmp_path):
    folder = tmp_path / "made"

    def make_late():
        with replacing_folder(folder, replace=False) as temporary:
            (temporary / "mine").write_text("late")
            folder.mkdir()
            (folder / "theirs").write_text("first")

    with pytest.raises(WorkdirError, match="made was made meanwhile by another process"):
        make_late()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (folder / "theirs").read_text() == "first"
    with replacing_folder(folder, replace=True) as temporary:
        (temporary / "mine").write_text("forced")
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_an_export_that_appears_meanwhile_is_not_replaced(ofa, workdir, monkeypatch):
    check = folder_module.check_folder

    def appear(folder, force):
        check(folder, force)
        if not folder.exists():
            shutil.copytree(workdir / "exports" / "first", folder)

    arch = ["--arch", workdir / "exports" / "first" / "arch.json", "--no-gate", "--precision", "fp32"]
    monkeypatch.setattr(folder_module, "check_folder", appear)
    assert_refused(ofa("export", "-w", workdir, *arch, "--name", "late"), "late was made meanwhile")
    assert contents(workdir / "exports" / "late") == contents(workdir / "exports" / "first")
