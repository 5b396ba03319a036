"""The model of Edge TPU latency, its tables, and the Edge TPU of a workdir."""

import ctypes
import dataclasses
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from model_files import tint_file

from ofa_tf.blocks import Block, count_macs, walk
from ofa_tf.edgetpu.device import LIBRARY, EdgeTpuDevice, load_delegates
from ofa_tf.edgetpu.latency_model import (
    MODEL,
    PARAMETER_MEMORY_BYTES,
    VALIDATION,
    features,
    modelled_table,
    op_param_bytes,
    param_bytes,
    require_legal,
)
from ofa_tf.errors import DeviceError, InfeasibleError
from ofa_tf.export.verified import FileOptions
from ofa_tf.latency.device import Workload
from ofa_tf.latency.store import SHIPPED, add_table, renamed, table_name
from ofa_tf.latency.table import LatencyTable
from ofa_tf.ops import Op
from ofa_tf.progress import Progress
from ofa_tf.project.choice import Choice
from ofa_tf.project.export import ExportOptions, Target, export
from ofa_tf.project.finder import find_fronts, find_with, memory_budgets
from ofa_tf.project.lut import get_table, measure_table
from ofa_tf.project.opened import OpenedWorkdir, open_existing
from ofa_tf.project.predictor import load_predictor
from ofa_tf.project.report import read_contents
from ofa_tf.search.budget import starts
from ofa_tf.spaces import EDGE, MOBILENET_V3, PROXYLESS, TINY

NAME = "edgetpu__latency-model-1-1t-edgetpu__int8.json"


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def benchmark():
    """The script that fits the model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
        import edgetpu_model

        yield edgetpu_model


@pytest.fixture
def rows(fixtures_dir) -> list[dict]:
    """The published latencies."""
    return json.loads((fixtures_dir / "edgetpu" / "published_latency.json").read_text())["models"]


@pytest.mark.fixtures
def test_the_parameters_are_those_that_the_benchmark_fits(benchmark, rows):
    published = {row["name"]: row["latency_ms"] for row in rows}
    model, left_out, _ = benchmark.fit_model(published)
    assert model == MODEL
    mobile = {name: value for name, value in left_out.items() if name.startswith(benchmark.MOBILE)}
    assert benchmark.errors(published, mobile) == pytest.approx(VALIDATION, abs=5e-5)


@pytest.mark.fixtures
def test_the_published_networks_are_described_as_they_are(benchmark, rows):
    assert {row["name"] for row in rows} == set(benchmark.NETWORKS)
    assert max(benchmark.description_errors(rows).values()) < 0.04


@pytest.mark.fixtures
def test_a_network_that_is_left_out_does_not_count(benchmark, rows):
    published = {row["name"]: row["latency_ms"] for row in rows}
    changed = {**published, "mobilenet_v2_1.0_224": 100.0}
    before, after = (benchmark.fit_model(latencies)[1] for latencies in (published, changed))
    assert before["mobilenet_v2_1.0_224"] == after["mobilenet_v2_1.0_224"]
    assert before["mobilenet_v1_1.0_224"] != after["mobilenet_v1_1.0_224"]


@pytest.mark.parametrize("space", [EDGE, PROXYLESS, TINY], ids=lambda space: space.name)
def test_the_layers_of_a_block_do_its_work(space):
    for arch in space.decode(space.sample(np.random.default_rng(0), 5)):
        blocks = walk(space, arch, 10)
        ops = [op for block in blocks for op in block.ops]
        assert sum(op.n_macs for op in ops) == count_macs(blocks)
        weights = sum(block.n_params for block in blocks) - sum(
            2 * block.out_channels * (block.kind in ("conv", "mbconv"))
            + 2 * block.mid_channels * (1 + block.expanded) * (block.kind == "mbconv")
            + block.bias * block.out_channels
            for block in blocks
        )
        assert sum(op.n_weights for op in ops) == weights


def test_a_layer_by_hand():
    assert features([Op("", "conv", 8, 4, 3, 16, kernel=(3, 3))]) == (
        1,
        16 * 9 * 3 * 16 / 1e9,
        0,
        (8 * 8 * 3 + 16 * 16) / 1e6,
        0,
    )
    assert features([Op("", "depthwise", 8, 8, 16, 16, kernel=(5, 5))])[1:3] == (0, 64 * 25 * 16 / 1e9)
    assert op_param_bytes(Op("", "add", 8, 8, 16, 16)) == 0
    assert op_param_bytes(Op("", "dense", 1, 1, 1280, 10)) == 12_800 + 40


def test_parameters_beyond_the_memory_are_streamed():
    def network(n_bytes: int) -> list[Op]:
        return [Op("", "dense", 1, 1, n_bytes - 4, 1)]

    fits, over = network(PARAMETER_MEMORY_BYTES), network(PARAMETER_MEMORY_BYTES + 3_000_000)
    assert features(fits)[-1] == 0
    assert features(over)[-1] == 3
    more = MODEL.latency_ms(over) - MODEL.latency_ms(fits)
    assert more == pytest.approx(3 * MODEL.ms_per_streamed_mb + MODEL.compute_ms(over) - MODEL.compute_ms(fits))


@pytest.mark.parametrize("change", [{"kernel": 5}, {"mid_channels": 192}, {"in_size": 32}, {"skip": True}])
def test_more_work_takes_longer(change):
    block = Block("b", "mbconv", in_size=28, in_channels=24, out_channels=24, mid_channels=96, kernel=3)
    more = dataclasses.replace(block, **change)
    assert MODEL.compute_ms(more.ops) > MODEL.compute_ms(block.ops) > 0


# --- its tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [EDGE, PROXYLESS], ids=lambda space: space.name)
def test_a_table_adds_up_to_the_model_where_parameters_fit(space):
    """With 1,000 classes they fit in both spaces, so that the sum is the model."""
    largest = walk(space, space.largest(), 1000)
    assert sum(map(param_bytes, largest)) < PARAMETER_MEMORY_BYTES
    codes = space.sample(np.random.default_rng(1), 20)
    whole = [
        MODEL.latency_ms(op for block in walk(space, arch, 1000) for op in block.ops) for arch in space.decode(codes)
    ]
    np.testing.assert_allclose(modelled_table(space, 1000).costs(space, 1000)(codes), whole, rtol=1e-3)


def test_a_table_says_that_it_is_modelled_and_how_far_off():
    table = modelled_table(TINY, 3)
    assert table.label == "edgetpu (int8, modelled)"
    assert table.validation == VALIDATION
    assert table.calibration is not None
    assert table.calibration.constant_ms == MODEL.overhead_ms
    assert table.device["parameter_memory_bytes"] == PARAMETER_MEMORY_BYTES
    assert table.resolutions(TINY, 3) == list(TINY.resolutions)


def test_the_shipped_table_is_what_the_model_says():
    shipped = LatencyTable.load(SHIPPED / NAME)
    expected = [modelled_table(space, 1000) for space in (EDGE, PROXYLESS)]
    assert shipped == dataclasses.replace(expected[0], entries={**expected[0].entries, **expected[1].entries})
    assert table_name({"name": "edgetpu"}, shipped.runtime, "int8") == NAME
    assert (SHIPPED / NAME).stat().st_size < 1e6


SE = tuple(dataclasses.replace(stage, se=True) for stage in EDGE.stages)


@pytest.mark.parametrize(
    ("space", "match"),
    [
        (MOBILENET_V3, "`mobilenet_v3` is not for an Edge TPU: .* hard_swish.* and squeeze-and-excite"),
        (dataclasses.replace(EDGE, head_activation="hard_swish"), "hard_swish"),
        (dataclasses.replace(EDGE, stages=SE), "it has squeeze-and-excite"),
    ],
)  # fmt: skip
def test_a_space_that_it_cannot_run_is_refused_with_advice(space, match):
    with pytest.raises(DeviceError, match=f"{match}.*`ofa-tf train --space edge`"):
        modelled_table(space, 10)


def test_other_precisions_are_refused():
    require_legal(TINY)
    with pytest.raises(DeviceError, match="--precision must be int8, not fp16"):
        require_legal(TINY, "fp16")


# --- a workdir's ------------------------------------------------------------------------------------------------------


class Notes(Progress):
    """Keeps what the user is told."""

    def __init__(self):
        self.notes: list[str] = []

    def note(self, text):
        self.notes.append(text)


def with_space(project: OpenedWorkdir, **changes) -> OpenedWorkdir:
    space = dataclasses.replace(project.config.space, **changes)
    return dataclasses.replace(project, config=dataclasses.replace(project.config, space=space))


def test_right_after_training_the_table_is_modelled_and_kept(workdir):
    notes = Notes()
    project = open_existing(workdir, notes)
    table = get_table(project, "edgetpu", "int8")
    assert table == LatencyTable.load(workdir / "lut" / NAME) == modelled_table(project.config.space, 3)
    (note,) = notes.notes
    assert note.startswith("Latencies of the Edge TPU are modelled, ± 8 % on published networks")
    assert get_table(project, "edgetpu", "int8") == table
    assert len(notes.notes) == 1


def test_a_measured_table_wins(workdir):
    project = open_existing(workdir)
    modelled = get_table(project, "edgetpu", "int8")
    measured = dataclasses.replace(modelled, source="measured", runtime={**modelled.runtime, "name": "zzz"})
    measured.save(workdir / "lut" / "edgetpu__zzz__int8.json")
    assert get_table(project, "edgetpu", "int8").source == "measured"
    dataclasses.replace(measured, entries={}).save(workdir / "lut" / "edgetpu__zzz__int8.json")
    assert get_table(project, "edgetpu", "int8").source == "modelled"


def test_a_search_for_it_needs_nothing_else(workdir, ofa):
    run = ofa("search", "-w", workdir, "--device", "edgetpu", "--latency", 5)
    assert run.code == 0
    assert "edgetpu (int8, modelled)" in run.out
    assert "ms ± 8 %" in run.out
    assert "± is the table's mean error on whole subnets (of a modelled table, on published networks)." in run.out
    run = ofa("lut", "build", "-w", workdir, "--device", "edgetpu")
    assert run.code == 0
    error = "Error on 9 published networks, each left out of the fit: 8.3 %"
    assert error in run.out
    assert ofa("report", "-w", workdir).code == 0
    assert error in (workdir / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["search", "--latency", 5, "--precision", "fp32"], "--precision must be int8, not fp32"),
        (["lut", "build", "--precision", "fp16"], "--precision must be int8, not fp16"),
        (["search", "--latency", 0.01], "No subnet of `small` meets the budget for latency"),
    ],
)
def test_what_cannot_be_is_one_sentence(workdir, ofa, arguments, match):
    run = ofa(*arguments, "-w", workdir, "--device", "edgetpu")
    assert run.code == 2
    assert match in run.last


def test_a_supernet_that_is_not_for_it_is_refused_before_any_work(workdir):
    project = with_space(open_existing(workdir), stem_activation="hard_swish")
    for make in (get_table, measure_table):
        with pytest.raises(DeviceError, match=r"hard_swish.*--space edge"):
            make(project, "edgetpu", "int8")
    assert not (workdir / "lut" / NAME).exists()


def test_where_parameters_may_not_fit_they_are_limited(workdir):
    project = open_existing(workdir)
    table, space = get_table(project, "edgetpu", "int8"), project.config.space
    assert memory_budgets(table, space, 3) == []
    assert memory_budgets(dataclasses.replace(table, device={"name": "host"}), space, 3) == []
    largest = sum(map(param_bytes, walk(project.config.space, project.config.space.largest(), 3)))
    for limit in (largest - 1, 1000):
        tight = dataclasses.replace(table, device={**table.device, "parameter_memory_bytes": limit})
        (budget,) = memory_budgets(tight, space, 3)
        (same,) = memory_budgets(renamed(tight, "coral-pi"), space, 3)
        assert same.limit == budget.limit, "whatever its name"
        assert (budget.limit, budget.unit) == (limit / 1e6, "MB")
        assert budget.costs(project.config.space.encode([project.config.space.largest()]))[0] * 1e6 > limit
    with pytest.raises(InfeasibleError, match="parameters in on-chip memory"):
        starts(project.config.space, [budget])


def test_a_search_keeps_to_subnets_whose_parameters_fit(workdir):
    notes = Notes()
    project = open_existing(workdir, notes)
    table = get_table(project, "edgetpu", "int8")
    fitted = load_predictor(project)
    assert fitted is not None
    free = find_with(project, table, fitted.predictor, 1000)

    def n_bytes(choice: Choice) -> int:
        return sum(map(param_bytes, walk(project.config.space, choice.arch, 3)))

    front = find_fronts(project, ["edgetpu"], points=5)
    limit = min(n_bytes(free), max(map(n_bytes, front))) - 1
    tight = dataclasses.replace(table, device={**table.device, "parameter_memory_bytes": limit})
    assert n_bytes(find_with(project, tight, fitted.predictor, 1000)) <= limit
    tight.save(workdir / "lut" / NAME)
    notes.notes.clear()
    within = find_fronts(project, ["edgetpu"], points=5)
    assert within == [choice for choice in front if n_bytes(choice) <= limit]
    assert notes.notes[-1].startswith(
        f"{len(front) - len(within)} of {len(front)} subnets on the front have more parameters"
    )
    dataclasses.replace(table, device={**table.device, "parameter_memory_bytes": 1}).save(workdir / "lut" / NAME)
    with pytest.raises(InfeasibleError, match=f"All {len(front)} subnets on the front"):
        find_fronts(project, ["edgetpu"], points=5)


def test_a_report_shows_what_fits(workdir):
    project = open_existing(workdir)
    table, space = get_table(project, "edgetpu", "int8"), project.config.space
    (free,) = [device.front for device in read_contents(workdir).devices if device.table.device["name"] == "edgetpu"]
    n_bytes = [sum(map(param_bytes, walk(space, arch, 3))) for arch in space.decode(free.codes)]
    assert len(n_bytes) > 1
    for limit in (max(n_bytes) - 1, 1):
        dataclasses.replace(table, device={**table.device, "parameter_memory_bytes": limit}).save(
            workdir / "lut" / NAME
        )
        contents = read_contents(workdir)
        (front,) = [device.front for device in contents.devices if device.table.device["name"] == "edgetpu"]
        within = [number for number, size in enumerate(n_bytes) if size <= limit]
        assert (front is None) if not within else (front.codes.tolist() == free.codes[within].tolist())


def test_an_export_goes_by_the_table_that_the_search_goes_by(workdir):
    """The measured one, though the model may say less."""
    project = open_existing(workdir)
    modelled = get_table(project, "edgetpu", "int8")
    slower = {key: {**entry, "mean_ms": entry["mean_ms"] * 9} for key, entry in modelled.entries.items()}
    runtime = {"name": "ai-edge-litert", "version": "1", "threads": 1, "delegate": "edgetpu"}
    measured = dataclasses.replace(modelled, source="measured", entries=slower, runtime=runtime)
    add_table(workdir / "lut", measured)
    assert get_table(project, "edgetpu", "int8").source == "measured"
    exported = export(
        project, project.config.space.smallest(), Target("edgetpu"), ExportOptions(FileOptions(gate=False))
    )
    manifest = exported.manifest
    assert (manifest.table_source, manifest.runtime) == ("measured", runtime)


def test_an_export_for_it_is_linted_and_compiled(workdir, ofa, plugged_in):
    run = ofa("export", "-w", workdir, "--device", "edgetpu", "--latency", 5, "--no-gate", "--json")
    assert run.code == 0
    folder = workdir / "exports" / "edgetpu-5ms-int8"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["edgetpu"]["lint"]["n_partitions"] == 1
    assert manifest["edgetpu"]["lint"]["fallbacks"] == []
    assert manifest["edgetpu"]["compiler"]["subgraphs"] == 1
    assert manifest["table_source"] == "modelled"
    assert manifest["predicted_ms_error"] == VALIDATION["mape"]
    assert (folder / "model_edgetpu.tflite").read_bytes() == (folder / "model.tflite").read_bytes()


def test_a_supernet_that_is_not_for_it_is_exported_only_if_the_cpu_is_allowed(workdir, monkeypatch, tmp_path):
    """The weights do not know their activation, so the same supernet stands in for one with hard-swish."""
    monkeypatch.setenv("PATH", str(tmp_path))
    notes = Notes()
    project = with_space(open_existing(workdir, notes), stem_activation="hard_swish")
    arch = project.config.space.smallest()
    with pytest.raises(DeviceError, match=r"hard_swish.*--space edge"):
        export(project, arch, Target("edgetpu"))
    assert not (workdir / "exports" / "edgetpu-int8").exists()
    exported = export(project, arch, Target("edgetpu"), ExportOptions(FileOptions(gate=False), allow_cpu=True))
    assert exported.manifest.edgetpu is not None
    assert exported.manifest.edgetpu["lint"]["fallbacks"][0]["operator"] == "HARD_SWISH"
    assert exported.manifest.edgetpu["compiler"] is None
    assert not (exported.folder / "model_edgetpu.tflite").exists()
    assert notes.notes[-2].startswith("Operator 2 of")
    assert notes.notes[-1].startswith("edgetpu_compiler is not on PATH")


# --- one that is plugged in -------------------------------------------------------------------------------------------


@pytest.fixture
def plugged_in(tmp_path, monkeypatch) -> list[list[str]]:
    """A stand-in for the delegate, whose files the CPU runs, and for the compiler; the delegates given to files."""
    from ai_edge_litert import interpreter

    program = tmp_path / "edgetpu_compiler"
    program.write_text(
        '#!/bin/sh\necho "Number of Edge TPU subgraphs: 1"\ncp "$4" "$3/model_edgetpu.tflite"\necho >> "$0.log"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    given: list[list[str]] = []
    real = interpreter.Interpreter

    def make(experimental_delegates: Sequence[str] = (), **settings):
        if experimental_delegates:
            given.append(list(experimental_delegates))
        return real(**settings)

    monkeypatch.setattr(interpreter, "Interpreter", make)
    monkeypatch.setattr("ctypes.CDLL", _load_all_but_the_delegate)
    monkeypatch.setattr(interpreter, "load_delegate", lambda library: f"delegate of {library}")
    return given


def _load_all_but_the_delegate(library, *mode, load=ctypes.CDLL):
    return library if library.startswith("libedgetpu") or "no-such" in library else load(library, *mode)


def test_one_that_is_plugged_in_is_measured(workdir, plugged_in, tmp_path):
    stages = (dataclasses.replace(TINY.stages[0], depths=(1,)),)
    project = with_space(open_existing(workdir), stages=stages, kernels=(3,), expands=(3,), resolutions=(16, 24))
    path, table = measure_table(project, "edgetpu", "int8", [24])
    assert path == workdir / "lut" / table_name({"name": "edgetpu"}, table.runtime, "int8")
    assert table.source == "measured"
    assert table.runtime["delegate"] == "edgetpu"
    assert table.resolutions(project.config.space, 3) == [24]
    assert table.calibration is not None
    assert all(entry["runs"] == 100 and entry["p10_ms"] > 0 for entry in table.entries.values())
    n_files = len(table.entries) + table.calibration.subnets
    assert plugged_in == [[f"delegate of {LIBRARY}"]] * n_files
    assert len((tmp_path / "edgetpu_compiler.log").read_text()) == n_files
    assert get_table(project, "edgetpu", "int8") == LatencyTable.load(path)


@pytest.fixture(scope="module")
def int8_file(tmp_path_factory) -> Path:
    """A small file of integers alone."""
    path = tmp_path_factory.mktemp("int8") / "tint.tflite"
    path.write_bytes(tint_file(dtype="int8"))
    return path


def test_a_file_is_timed_on_one_that_is_plugged_in(plugged_in, int8_file, ofa):
    found = json.loads(ofa("benchmark", int8_file, "--device", "edgetpu", "--json").out)
    assert plugged_in == [[f"delegate of {LIBRARY}"]]
    assert (found["device"]["name"], found["runtime"]["delegate"], found["n_runs"]) == ("edgetpu", "edgetpu", 100)
    assert 0 < found["p10_ms"] <= found["p50_ms"]
    assert found["load_ms"] is None


def test_what_is_missing_for_timing_a_file_is_said(plugged_in, int8_file, monkeypatch, tmp_path, ofa):
    run = ofa("benchmark", int8_file, "--device", "edgetpu", "--threads", 2)
    assert run.code == 2
    assert "An Edge TPU has no settings" in run.last
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    run = ofa("benchmark", int8_file, "--device", "edgetpu")
    assert run.code == 2
    assert "edgetpu_compiler is not on PATH" in run.last
    monkeypatch.setattr("ofa_tf.edgetpu.backend.load_delegates", list)
    run = ofa("benchmark", int8_file, "--device", "edgetpu")
    assert run.code == 2
    assert f"plug one in and install its runtime, {LIBRARY}" in run.last
    assert plugged_in == []


def test_without_its_compiler_it_is_modelled(workdir, plugged_in, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert measure_table(open_existing(workdir), "edgetpu")[1].source == "modelled"
    assert plugged_in == []


def test_a_missing_library_or_device_is_no_delegate(monkeypatch):
    from ai_edge_litert import interpreter

    def refuse(library):
        raise ValueError(f"Failed to load delegate from {library}")

    monkeypatch.setattr(interpreter, "load_delegate", refuse)
    monkeypatch.setattr("ofa_tf.edgetpu.device.LIBRARY", "libno-such-library.so.1")
    assert load_delegates() == []
    monkeypatch.setattr("ctypes.CDLL", _load_all_but_the_delegate)
    assert load_delegates() == []


def test_a_file_that_it_refuses_is_one_sentence():
    with pytest.raises(DeviceError, match="The Edge TPU refuses the file"):
        EdgeTpuDevice(lambda content: content, []).measure([Workload(b"nonsense")])
