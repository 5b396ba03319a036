"""The main job for a microcontroller: searched within RAM and flash, exported with what a C++ program needs."""

import hashlib
import json
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from commands import HOST_TABLE
from finished_workdir import CLASSES, N_VAL, space_of, write_arch

import ofa_tf as api
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.arena import ALIGNMENT, arena_costs, arena_size
from ofa_tf.latency.table import LatencyTable
from ofa_tf.micro import interpreter
from ofa_tf.search.file_size import size_costs

SEARCH = ["search", "--workdir", "work"]
EXPORT = ["export", "--workdir", "work", "--no-gate"]


def test_a_search_keeps_to_ram_and_flash(ofa, workdir):
    space = space_of(workdir)
    least, most = (
        arena_size(api.walk(space, arch, len(CLASSES))).total_bytes for arch in (space.smallest(), space.largest())
    )
    ram_kb = (least + most) / 2 / 1e3
    run = ofa(*SEARCH, "--device", "mcu", "--ram-kb", ram_kb, "--flash-kb", 500, "--json")
    assert run.code == 0, run.err
    (choice,) = json.loads(run.out)["choices"]
    assert choice["target"] == "mcu"
    assert choice["predicted_ram_bytes"] <= ram_kb * 1e3
    arch = space.arch_from_document(choice["arch"])
    assert choice["predicted_ram_bytes"] == arena_size(api.walk(space, arch, len(CLASSES))).total_bytes


def test_a_board_needs_no_other_budget_and_ram_goes_with_latency(ofa, workdir):
    run = ofa(*SEARCH, "--device", "mcu:nucleo-l4r5zi")
    assert run.code == 0, run.err
    assert "589.824 kB of RAM" in run.out
    assert "predicted RAM" in run.out
    assert ofa(*SEARCH, "--latency", 1000, "--ram-kb", 100).code == 0
    project = api.open("work")
    choice = project.search(device="mcu:nucleo-l4r5zi")
    assert "kB of RAM)" in repr(choice)
    assert project.export(choice, name="board", gate=False).manifest.device["name"] == "mcu:nucleo-l4r5zi"


class Everything:
    """All subnets of a workdir's space: latency, RAM, file size and accuracy, as predicted."""

    def __init__(self, workdir):
        space = space_of(workdir)
        codes = np.array(list(product(*map(range, space.gene_sizes))), np.int32)
        codes = np.unique(space.canonical(codes), axis=0)
        self.rams = np.ceil(arena_costs(space, len(CLASSES))(codes) / ALIGNMENT) * ALIGNMENT
        self.sizes = size_costs(space, len(CLASSES), "int8")(codes)
        self.scores = np.clip(FittedPredictor.load(workdir / "accuracy", space).predictor(codes), 0, 1)
        self.latencies = LatencyTable.load(*workdir.glob(HOST_TABLE)).costs(space, len(CLASSES))(codes)


def test_latency_and_ram_together_give_the_best_of_all_subnets_within_both(workdir):
    project, of = api.open("work"), Everything(workdir)
    for share in (0.1, 0.5):
        latency_ms, ram_bytes = np.quantile(of.latencies, share), np.quantile(of.rams, share)
        choice = project.search(float(latency_ms), ram_kb=float(ram_bytes) / 1e3)
        assert choice.predicted_ms <= latency_ms
        assert choice.predicted_ram_bytes <= ram_bytes
        best = of.scores[(of.latencies <= latency_ms) & (of.rams <= ram_bytes)].max()
        assert choice.predicted_accuracy == pytest.approx(best, abs=1e-6)


def test_the_front_of_a_microcontroller_is_over_ram(ofa, workdir):
    run = ofa(*SEARCH, "--pareto", "--device", "mcu", "--points", 6, "--out", "f.json", "--plot", "f.svg", "--json")
    assert run.code == 0, run.err
    front, of = json.loads(run.out)["choices"], Everything(workdir)
    assert json.loads(Path("f.json").read_text())["choices"] == front
    assert "predicted peak RAM, kB" in Path("f.svg").read_text()
    rams = [choice["predicted_ram_bytes"] for choice in front]
    assert rams[0] == of.rams.min()
    assert len(rams) > 2
    for before, choice in pairwise([None, *front]):
        best = of.scores[of.rams <= choice["predicted_ram_bytes"]].max()
        assert choice["predicted_accuracy"] == pytest.approx(best, abs=1e-6)
        assert (choice["target"], choice["latencies"], choice["extra_ms"]) == ("mcu", [], None)
        if before:
            assert choice["extra_ram_bytes"] == choice["predicted_ram_bytes"] - before["predicted_ram_bytes"] > 0
            gained = 100 * (choice["predicted_accuracy"] - before["predicted_accuracy"])
            assert choice["gained_points"] == pytest.approx(gained)
    out = ofa(*SEARCH, "--pareto", "--device", "mcu", "--points", 6).out
    for said in ("Front of mcu, all predicted", f"{rams[-1] / 1e3:.1f} kB", "Price: the extra RAM", "RAM: the arena"):
        assert said in out
    assert "latency" not in out


def test_a_front_over_ram_ends_at_its_budget(workdir):
    of, project = Everything(workdir), api.open("work")
    ram_kb, flash_kb = np.quantile(of.rams, 0.6) / 1e3, np.quantile(of.sizes, 0.4) / 1e3
    front = project.pareto("mcu", points=5, ram_kb=ram_kb, flash_kb=flash_kb)
    within = (of.rams <= ram_kb * 1e3) & (of.sizes <= flash_kb * 1e3)
    assert front[-1].predicted_accuracy == pytest.approx(of.scores[within].max(), abs=1e-6)
    assert all(choice.predicted_ram_bytes <= ram_kb * 1e3 for choice in front)
    assert all(choice.predicted_bytes <= flash_kb * 1e3 for choice in front)
    board = project.pareto("mcu:nucleo-l4r5zi", points=2)
    assert board[0].budget_ram_bytes == 589824
    assert list(board.to_pandas().predicted_ram_bytes) == [choice.predicted_ram_bytes for choice in board]


def test_a_front_over_latency_keeps_to_memories(ofa, workdir):
    of = Everything(workdir)
    ram_kb, flash_kb = np.quantile(of.rams, 0.3) / 1e3, np.quantile(of.sizes, 0.5) / 1e3
    memories = "--ram-kb", float(ram_kb), "--flash-kb", float(flash_kb)
    run = ofa(*SEARCH, "--pareto", *memories, "--points", 8, "--json")
    assert run.code == 0, run.err
    within = (of.rams <= ram_kb * 1e3) & (of.sizes <= flash_kb * 1e3)
    front = json.loads(run.out)["choices"]
    for choice in front:
        best = of.scores[within & (of.latencies <= choice["predicted_ms"] * (1 + 1e-9))].max()
        assert choice["predicted_accuracy"] == pytest.approx(best, abs=1e-6)
        assert choice["predicted_ram_bytes"] <= ram_kb * 1e3
        assert choice["predicted_bytes"] <= flash_kb * 1e3
    assert front[-1]["predicted_accuracy"] == pytest.approx(of.scores[within].max(), abs=1e-6)
    out = ofa(*SEARCH, "--pareto", *memories, "--points", 8).out
    assert f"within {ram_kb:g} kB of RAM and {flash_kb:g} kB of flash, all predicted" in out
    assert f"{front[0]['predicted_ram_bytes'] / 1e3:.1f} kB" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "mcu", "--device", "host"], "--device mcu has no latency table: name no other device with it"),
        (["--device", "mcu:pikko"], "There is no board 'pikko': did you mean 'pico'"),
        (["--device", "mcu", "--precision", "fp32"], "--precision fp32 is not for a microcontroller"),
        (["--ram-kb", 9, "--precision", "fp32"], "--ram-kb is for int8 files"),
        (["--ram-kb", 0.5], "less than the smallest input image"),
        (["--ram-kb", 3], "No subnet of `small` meets the budget for peak RAM"),
        (["--device", "mcu", "--ram-kb", 3, "--flash-kb", 500], "No subnet of `small` meets the budget for peak RAM"),
    ],
)
def test_a_front_that_cannot_be_is_one_sentence(ofa, workdir, arguments, said):
    run = ofa(*SEARCH, "--pareto", *arguments)
    assert (run.code, run.out) == (2, "")
    assert said in run.last


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "mcu", "--ram-kb", 64], "needs both --ram-kb and --flash-kb"),
        (["--device", "mcu:pikko"], "There is no board 'pikko': did you mean 'pico'"),
        (["--ram-kb", 0.5], "less than the smallest input image"),
        (["--ram-kb", 3, "--flash-kb", 500], "No subnet of `small` meets the budget for peak RAM"),
        (["--device", "mcu:pico", "--latency", 3], "--latency is not for mcu:pico"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(ofa, workdir, arguments, said):
    run = ofa(*SEARCH, *arguments)
    assert (run.code, run.out) == (2, "")
    assert said in run.last


@pytest.mark.skipif(not interpreter.available(), reason="tflite-micro is not installed")
def test_an_export_is_measured_and_holds_a_program_s_files(ofa, workdir):
    run = ofa(*EXPORT, "--device", "mcu:nucleo-l4r5zi", "--name", "board")
    assert run.code == 0, run.err
    folder = workdir / "exports" / "board"
    manifest = json.loads((folder / "manifest.json").read_text())
    facts = manifest["microcontroller"]
    assert facts["images"] == N_VAL * len(CLASSES)
    assert facts["same_class"] == 1.0
    assert facts["largest_step"] <= 1
    assert facts["predicted_arena_bytes"] == pytest.approx(facts["arena_bytes"], rel=0.02)
    assert "measured (predicted" in run.out
    content = (folder / "model.tflite").read_bytes()
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest()
    assert {path.name for path in folder.iterdir()} >= {"model.h", "model.cc", "labels.h", "README.md"}
    assert f"kArenaSize = {facts['arena_bytes']};" in (folder / "model.h").read_text()
    assert "in TensorFlow Lite Micro, predicted" in ofa("show", folder / "model.tflite").out


def test_without_the_interpreter_the_arena_is_predicted_and_says_so(ofa, workdir, monkeypatch):
    monkeypatch.setattr("ofa_tf.micro.backend.available", lambda: False)
    arch = write_arch("arch.json", space_of(workdir).smallest())
    run = ofa(*EXPORT, "--device", "mcu", "--arch", arch, "--json")
    assert run.code == 0, run.err
    (found,) = json.loads(run.out)["exports"]
    assert found["microcontroller"]["arena_bytes"] is None
    assert "is predicted, not measured: pip install tflite-micro" in run.err
