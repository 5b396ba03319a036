"""A workdir that somebody else has prepared: nothing hangs, nothing outside of it is read, emptied or removed."""

import os
import shutil

import pytest
from commands import SEARCH, assert_refused, contents

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
