"""The Ethos-U of a workdir: its tables, searches and exports, by the real Vela and by stand-ins."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from commands import assert_refused
from ethosu_files import WRITE, put_vela, relu_file, require_vela
from finished_workdir import space_of, write_arch

from ofa_tf.errors import DeviceError, ExportError
from ofa_tf.ethosu.device import EthosUDevice
from ofa_tf.ethosu.targets import parse_target
from ofa_tf.ethosu.vela import NPU_OPERATOR, Vela
from ofa_tf.jsonio import read_json
from ofa_tf.latency.device import Workload
from ofa_tf.latency.store import SHIPPED
from ofa_tf.latency.table import LatencyTable
from ofa_tf.spaces import TINY
from ofa_tf.tflite.operators import read_operators

DEVICE = "ethos-u55-128"
ORIGIN = "modelled by vela {version}, Ethos_U55_High_End_Embedded, Shared_Sram"


@pytest.fixture(scope="module")
def vela() -> Vela:
    return require_vela()


@pytest.fixture
def without_vela(monkeypatch):
    """No Vela on PATH, nor beside this Python; test_ethosu_vela.py has what then is found."""
    monkeypatch.setattr("ofa_tf.ethosu.backend.find_vela", lambda: None)
    monkeypatch.setattr("ofa_tf.project.doctor.find_vela", lambda: None)


# --- by Vela ----------------------------------------------------------------------------------------------------------


def test_a_table_is_made_validated_searched_and_exported_for(vela, workdir, ofa):
    """All blocks of the space at one resolution, and a few whole subnets."""
    at = ["--workdir", workdir, "--device", DEVICE]
    origin = ORIGIN.format(version=vela.version)
    run = ofa("lut", "build", *at, "--resolution", 24)
    assert run.code == 0, run.err
    assert f"{DEVICE} (int8, {origin})" in run.out
    assert "whole subnets, each left out of the fit" in run.out
    (path,) = workdir.glob(f"lut/{DEVICE}__vela-*__int8.json")
    table = LatencyTable.load(path)
    assert (table.source, table.origin) == ("modelled", origin)
    assert {entry["runs"] for entry in table.entries.values()} == {1}
    assert table.resolutions(space_of(workdir), 3) == [24]

    run = ofa("lut", "validate", *at, "--subnets", 3)
    assert run.code == 0, run.err
    assert "Error on 3 whole subnets, compiled only for this" in run.out
    assert LatencyTable.load(path).validation["mape"] < 0.1

    run = ofa("search", *at, "--latency", 1000)
    assert run.code == 0, run.err
    assert f"{DEVICE} (int8, {origin})" in run.out
    assert "on published networks" not in run.out
    assert origin in ofa("lut", "list", "--workdir", workdir).out

    run = ofa("export", *at, "--latency", 1000, "--no-gate")
    assert run.code == 0, run.err
    assert "of SRAM and" in run.err
    folder = workdir / "exports" / f"{DEVICE}-1000ms-int8"
    assert [op.name for op in read_operators((folder / "model_vela.tflite").read_bytes())] == [NPU_OPERATOR]
    manifest = read_json(folder / "manifest.json")
    assert manifest["measured_ms"] is None, "nothing was measured"
    assert (manifest["table_source"], manifest["device"]["modelled_by"]) == ("modelled", table.device["modelled_by"])
    figures = manifest["ethosu"]["vela"]
    assert figures["source"] == origin
    assert (figures["on_cpu"], manifest["ethosu"]["lint"]["fallbacks"]) == ({}, [])
    assert figures["latency_ms"] == pytest.approx(manifest["predicted_ms"], rel=0.2)
    assert 0 < figures["sram_bytes"] < 1e6
    assert 0 < figures["flash_bytes"] < 2 * manifest["size_bytes"]
    assert ofa("report", "--workdir", workdir).code == 0
    assert origin in (workdir / "report.html").read_text()

    run = ofa("benchmark", folder / "model.tflite", "--device", DEVICE, "--json")
    assert run.code == 0, run.err
    assert "Nothing is measured: the latency is modelled by vela" in run.err
    assert json.loads(run.out)["p50_ms"] == pytest.approx(figures["latency_ms"])


def test_what_vela_leaves_on_the_cpu_has_no_latency(vela):
    device = EthosUDevice(parse_target(DEVICE), vela)
    with pytest.raises(DeviceError, match="leaves FLOOR of a file on the CPU"):
        device.measure([Workload(relu_file(name="FLOOR"))])


# --- by stand-ins -----------------------------------------------------------------------------------------------------


def test_the_estimate_is_the_only_run(tmp_path):
    npu_only = WRITE.replace('cp "$1"', "cp {folder}/compiled")
    program, relu = put_vela(tmp_path, then=npu_only), relu_file()
    (tmp_path / "compiled").write_bytes(_compiled())
    device = EthosUDevice(parse_target(DEVICE), Vela(program))
    first, second = device.measure([Workload(relu), Workload(relu, 16)])
    assert first.runs_ms.tolist() == second.runs_ms.tolist() == [0.25]
    assert device.runtime() == {"name": "vela", "version": "5.2.0", "threads": 1, "delegate": "ethos-u"}
    assert device.facts()["modelled_by"] == "vela 5.2.0, Ethos_U55_High_End_Embedded, Shared_Sram"


def _compiled() -> bytes:
    """A file of the custom operator that Vela makes."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(relu_file(), 0)
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[0].customCode = b"ethos-u"
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_vela_that_fails_leaves_nothing_behind(workdir, ofa, tmp_path, monkeypatch):
    put_vela(tmp_path / "bin", then="echo 'out of memory'; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    run = ofa("lut", "build", "--workdir", workdir, "--device", DEVICE, "--resolution", 24)
    assert_refused(run, "vela failed with status 1: it says 'out of memory'")
    arch = write_arch(Path("arch.json"), space_of(workdir).smallest())
    run = ofa("export", "--workdir", workdir, "--device", DEVICE, "--arch", arch, "--no-gate", "--name", "one")
    assert_refused(run, "vela failed with status 1")
    assert not (workdir / "exports" / "one").exists()
    assert not list(workdir.glob("lut/ethos*"))


def test_without_vela_it_is_said_where_to_get_it(workdir, ofa, without_vela):
    at = ["--workdir", workdir, "--device", DEVICE]
    advice = "is not on PATH: `pip install 'ofa-tf[ethosu]'`"
    for command in (["lut", "build"], ["search", "--latency", 1]):
        assert_refused(ofa(*command, *at), f"Latencies of an {DEVICE} are modelled by Vela", advice)
    assert "needed for an Ethos-U: pip install 'ofa-tf[ethosu]'" in ofa("doctor").out
    arch = write_arch(Path("arch.json"), space_of(workdir).smallest())
    run = ofa("export", *at, "--arch", arch, "--no-gate", "--name", "uncompiled")
    assert run.code == 0, run.err
    assert "export again to have the file compiled" in run.err
    folder = workdir / "exports" / "uncompiled"
    assert not (folder / "model_vela.tflite").exists()
    assert read_json(folder / "manifest.json")["ethosu"]["vela"] is None


@pytest.mark.parametrize(
    ("command", "device", "words"),
    [
        (["lut", "build"], "ethos-u55-120", ["no Ethos-U 'ethos-u55-120'", "ethos-u55-128"]),
        (["search", "--latency", 1], "ethos-u95-128", ["no Ethos-U 'ethos-u95-128'"]),
        (["lut", "build"], f"{DEVICE}:Dedicated", ["neither a system nor a memory mode"]),
        (["lut", "build", "--precision", "fp32"], DEVICE, ["only full-integer files", "must be int8, not fp32"]),
        (["lut", "build", "--threads", 2], DEVICE, ["An Ethos-U has no settings"]),
        (["lut", "validate"], f"{DEVICE}:Sram_Only", ["There is no int8 table of", "lut build"]),
    ],
)
def test_what_cannot_be_is_one_sentence(workdir, ofa, command, device, words):
    assert_refused(ofa(*command, "--workdir", workdir, "--device", device), *words)


# --- the tables that come with the package ----------------------------------------------------------------------------


def test_the_first_search_of_tiny_needs_no_compiler(without_vela):
    from ofa_tf.latency.store import find_table

    table = find_table(Path("nowhere"), DEVICE, "int8", lambda found: -len(found.resolutions(TINY, 10)))
    assert table is not None
    assert table.origin == ORIGIN.format(version="5.2.0")
    for n_classes in (2, 3, 10, 32, 100, 1000):
        assert table.resolutions(TINY, n_classes) == list(TINY.resolutions)
    assert table.validation is not None
    assert table.validation["subnets"] == 40
    costs = table.costs(TINY, 10)(TINY.encode([TINY.smallest(), TINY.largest()]))
    assert 0 < costs[0] < costs[1] < 10


def test_a_shipped_table_says_what_vela_says(vela, clean):
    """Of the smallest subnet of `tiny`, whose file has other weights, and so others of compressed size."""
    (path,) = SHIPPED.glob(f"{DEVICE}__vela-*-tiny.json")
    table = LatencyTable.load(path)
    predicted_ms = table.costs(TINY, 12)(TINY.encode([TINY.smallest()]))[0]
    assert vela.compile(clean, parse_target(DEVICE)).report.latency_ms == pytest.approx(predicted_ms, rel=0.15)
    assert np.isfinite(predicted_ms)


def test_a_search_with_it_in_a_workdir_of_tiny(workdir, without_vela):
    """It is taken as if it were the workdir's own; one that does not cover the space has to be made."""
    import dataclasses

    from ofa_tf.project.lut import get_table
    from ofa_tf.project.opened import open_existing

    project = open_existing(workdir)
    tiny = dataclasses.replace(project, config=dataclasses.replace(project.config, space=TINY))
    assert get_table(tiny, DEVICE, "int8").resolutions(TINY, 3) == list(TINY.resolutions)
    wider = dataclasses.replace(TINY, name="wider", head_channels=TINY.head_channels + 8)
    other = dataclasses.replace(project, config=dataclasses.replace(project.config, space=wider))
    with pytest.raises((DeviceError, ExportError), match="modelled by Vela"):
        get_table(other, DEVICE, "int8")
