"""A made-up kind of device: one class and one row, and every command takes it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from commands import assert_refused
from finished_workdir import CLASSES, space_of

from ofa_tf.costs import arch_costs
from ofa_tf.errors import DeviceError
from ofa_tf.jsonio import read_json
from ofa_tf.latency.backend import Backend, Finished, MemoryLimit
from ofa_tf.latency.backends import BACKENDS
from ofa_tf.latency.device import Timing, Workload
from ofa_tf.latency.measure import CONVERTED_SIZE
from ofa_tf.latency.settings import DEFAULT, Settings
from ofa_tf.latency.table import LatencyTable
from ofa_tf.progress import SILENT, Progress
from ofa_tf.tflite.inspect import inspect_file

GMACS_PER_S = 1.0


@dataclass(frozen=True)
class Abacus:
    """A device that takes as long as a file has multiply-accumulates."""

    threads: int = 1
    resizes: ClassVar[bool] = True

    def facts(self) -> Mapping[str, Any]:
        return {"name": "abacus", "beads": 100}

    def runtime(self) -> Mapping[str, Any]:
        return {"name": "fingers", "version": "10", "threads": self.threads, "delegate": "none"}

    def measure(self, workloads: Sequence[Workload], seed: int = 0, progress: Progress = SILENT) -> list[Timing]:
        del seed, progress
        return [Timing(np.full(5, self._run_ms(workload))) for workload in workloads]

    def _run_ms(self, workload: Workload) -> float:
        scale = 1.0 if workload.in_size is None else (workload.in_size / CONVERTED_SIZE) ** 2
        return inspect_file(workload.content).n_macs * scale / (GMACS_PER_S * 1e6) / self.threads


class AbacusBackend(Backend):
    """All that has to be said of it."""

    usage = "abacus"

    def open(self, name: str, settings: Settings = DEFAULT, host=None) -> Abacus:
        return Abacus(settings.threads or 1)


@pytest.fixture
def abacus(monkeypatch) -> list[str]:
    """Its row; the options that choose it."""
    monkeypatch.setitem(BACKENDS, "abacus", AbacusBackend)
    return ["--device", "abacus"]


def test_every_command_takes_it(ofa, workdir, abacus):
    at = ["--workdir", workdir, *abacus]
    run = ofa("lut", "build", *at)
    assert run.code == 0, run.err
    assert "abacus (int8, measured)" in run.out
    (path,) = workdir.glob("lut/abacus__fingers-10-1t-none__int8.json")
    assert LatencyTable.load(path).device["beads"] == 100

    (choice,) = json.loads(ofa("search", *at, "--latency", 1000, "--json").out)["choices"]
    assert choice["device"] == "abacus (int8, measured)"
    assert choice["predicted_ms"] == pytest.approx(choice["n_macs"] / (GMACS_PER_S * 1e6), rel=0.05)

    run = ofa("export", *at, "--latency", 1000, "--no-gate")
    assert run.code == 0, run.err
    folder = workdir / "exports" / "abacus-1000ms-int8"
    manifest = read_json(folder / "manifest.json")
    assert manifest["device"] == {"name": "abacus", "beads": 100}
    assert manifest["runtime"]["name"] == "fingers"
    assert manifest["measured_ms"] == pytest.approx(manifest["n_macs"] / (GMACS_PER_S * 1e6), rel=1e-3)
    assert manifest["edgetpu"] is None

    found = json.loads(ofa("benchmark", folder / "model.tflite", *abacus, "--threads", 2, "--json").out)
    assert found["device"]["name"] == "abacus"
    assert found["p50_ms"] == pytest.approx(manifest["measured_ms"] / 2)
    assert found["load_ms"] is None


def test_its_table_is_measured_when_it_is_needed_and_can_be_validated(ofa, workdir, abacus):
    at = ["--workdir", workdir, *abacus]
    assert_refused(ofa("lut", "validate", *at), "no int8 table of abacus", "run `ofa-tf lut build --device abacus`")
    run = ofa("search", *at, "--latency", 1000)
    assert run.code == 0, run.err
    assert "There is no int8 table of abacus yet: measuring one." in run.err
    assert ofa("lut", "validate", *at, "--subnets", 3).code == 0
    run = ofa("lut", "build", *at, "--runtime", "auto", "--resolution", 24)
    assert "8t-none" in run.out, "the fastest settings"
    assert ofa("report", "--workdir", workdir).code == 0
    assert "abacus (int8, measured)" in (workdir / "report.html").read_text()


def test_it_is_gone_with_its_row(ofa, workdir):
    run = ofa("lut", "build", "--workdir", workdir, "--device", "abacus")
    assert_refused(run, "'abacus' cannot be measured from here; `host` and `adb:SERIAL` can")
    run = ofa("benchmark", workdir / "exports" / "first" / "model.tflite", "--device", "abacus")
    assert_refused(run, "'abacus' cannot be measured from here")


# --- one with rules of its own ----------------------------------------------------------------------------------------


class StrictBackend(AbacusBackend):
    """One with little memory, always at hand, that writes a receipt for every file and does not run fp32."""

    always_at_hand = True
    limit_bytes = 0

    def require_legal(self, space, precision):
        if precision != "int8":
            raise DeviceError(f"An abacus counts in whole beads: --precision must be int8, not {precision}.")

    def memory_limits(self, table, space, n_classes):
        if not self.recognises(table.device["name"]):
            return ()
        costs = arch_costs(space, lambda block: block.n_params, n_classes)
        return (MemoryLimit("beads", costs, self.limit_bytes),)

    def finish(self, content, allow_cpu=False, name=""):
        return Finished({"receipt.txt": f"{len(content)} bytes".encode()}, {}, (f"Counted, {allow_cpu}.",))


@pytest.fixture
def strict(monkeypatch, workdir) -> list[str]:
    """Its row, with as much memory as half of the subnets need."""
    space = space_of(workdir)
    params = arch_costs(space, lambda block: block.n_params, len(CLASSES))
    sizes = params(space.encode([space.smallest(), space.largest()]))
    monkeypatch.setattr(StrictBackend, "limit_bytes", int(sizes.mean()))
    monkeypatch.setitem(BACKENDS, "abacus", StrictBackend)
    return ["--device", "abacus", "--workdir", str(workdir)]


def test_what_it_does_not_run_is_refused(ofa, strict):
    for command in (["lut", "build"], ["search", "--latency", 1], ["export", "--latency", 1]):
        assert_refused(ofa(*command, *strict, "--precision", "fp32"), "--precision must be int8, not fp32")


def test_a_search_keeps_to_its_memory_and_verifies_on_it(ofa, strict, workdir):
    (free,) = json.loads(ofa("search", "--workdir", workdir, "--latency", 1000, "--json").out)["choices"]
    run = ofa("search", *strict, "--latency", 1000, "--verify", 2, "--json")
    assert run.code == 0, run.err
    (choice,) = json.loads(run.out)["choices"]
    assert choice["n_params"] <= StrictBackend.limit_bytes < free["n_params"]
    macs_ms = choice["n_macs"] / (GMACS_PER_S * 1e6)
    assert choice["verified"][0]["measured_ms"] == pytest.approx(macs_ms, rel=1e-3)
    assert_refused(ofa("search", *strict, "--latency", 1e-9), "budget for latency")


def test_what_it_makes_of_a_file_lies_beside_it(ofa, strict, workdir):
    arch = Path("arch.json")
    arch.write_text(json.dumps({"schema": 1, **space_of(workdir).smallest().to_document()}))
    run = ofa("export", *strict, "--arch", arch, "--name", "counted", "--no-gate", "--allow-cpu")
    assert run.code == 0, run.err
    assert "Counted, True." in run.err
    folder = workdir / "exports" / "counted"
    assert (folder / "receipt.txt").read_text() == f"{(folder / 'model.tflite').stat().st_size} bytes"
    manifest = read_json(folder / "manifest.json")
    assert manifest["measured_ms"] > 0, "at hand, so that no table is needed"
    assert manifest["predicted_ms"] is None
