"""What the page of a workdir says of RAM: that of every export, and the fronts of microcontrollers."""

import html
import json
import re
import shlex

import pytest
from finished_workdir import CLASSES, space_of

from ofa_tf.arena import arena_of
from ofa_tf.project.report import read_contents

BOARD = "mcu:nucleo-l4r5zi"


@pytest.fixture
def manifest(workdir):
    """Changes the manifest of the export; returns what it was."""
    path = workdir / "exports/first/manifest.json"

    def change(**changes):
        before = json.loads(path.read_text())
        path.write_text(json.dumps(before | changes))
        return before

    return change


@pytest.fixture
def report(workdir, ofa):
    """Writes the page; gives its text and the commands that it offers to copy."""

    def write():
        run = ofa("report", "-w", workdir)
        assert run.code == 0, run.err
        page = (workdir / "report.html").read_text().partition('id="data"')[0]
        commands = [shlex.split(html.unescape(command)) for command in re.findall(r'data-copy="([^"]*)"', page)]
        return html.unescape(re.sub(r"<[^>]*>", "", page)), commands

    return write


def test_the_ram_of_an_export_is_predicted_or_measured(workdir, report, manifest):
    space = space_of(workdir)
    arena = arena_of(space, space.arch_from_document(manifest()["arch"]), len(CLASSES))
    told = "Peak RAM is what"
    first = report()[0]
    assert f"{arena.total_bytes / 1e3:.1f} kB predicted" in first
    assert told in first
    for measured, said in ((None, "23.5 kB predicted"), (12345, "12.3 kB measured")):
        facts = {"predicted_arena_bytes": 23456, "arena_bytes": measured}
        manifest(device={"name": "mcu"}, microcontroller=facts)
        assert said in report()[0]
    manifest(precision="fp32", microcontroller=None)
    last = report()[0]
    assert "kB predicted" not in last
    assert told not in last


def test_a_microcontroller_has_a_front_over_ram(workdir, report, manifest):
    manifest(device={"name": BOARD})
    ((device, points),) = read_contents(workdir).memory_fronts.items()
    rams, accuracies = [point.ram_bytes for point in points], [point.accuracy for point in points]
    assert len(points) > 2
    assert (device, rams, accuracies) == (BOARD, sorted(rams), sorted(accuracies))
    text, copied = report()
    assert f"{BOARD}: its front over RAM as a table" in text
    assert f"{rams[0] / 1e3:.1f} kB" in text
    commands = [words for words in copied if words[:4] == ["ofa-tf", "export", "--device", BOARD]]
    for words, point in zip(commands, points, strict=True):
        assert point.ram_bytes <= 1e3 * float(words[words.index("--ram-kb") + 1]) <= point.ram_bytes + 200
        assert point.size_bytes <= 1e3 * float(words[words.index("--flash-kb") + 1]) <= point.size_bytes + 200


@pytest.mark.parametrize("board", ["mcu:gone", "mcu:bluepill", "host"])
def test_what_is_not_known_or_too_small_or_no_microcontroller_has_no_such_front(report, manifest, monkeypatch, board):
    monkeypatch.setattr("ofa_tf.micro.boards.RAM_OF_PROGRAM", 0.8)
    manifest(device={"name": board})
    assert "over RAM" not in report()[0]


@pytest.mark.parametrize(
    ("facts", "said"),
    [(7, "`microcontroller` must be an object"), ({"arena_bytes": -1}, "`arena_bytes` (=-1) must be a number")],
)
def test_damaged_figures_are_named(workdir, ofa, manifest, facts, said):
    manifest(microcontroller=facts)
    run = ofa("report", "-w", workdir)
    assert run.code == 2
    assert said in run.err
