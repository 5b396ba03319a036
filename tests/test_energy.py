"""What work costs: time, energy, CO2e, on record and on the page."""

import json
import sys
import time
from types import ModuleType

import pytest

from ofa_tf.energy import GRID, POWER, WORLD_GRID_G, Assumptions, Cost, Meter, _tracker
from ofa_tf.errors import ArgumentError, FormatError
from ofa_tf.training.ledger import Ledger, StageRecord


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """Neither codecarbon nor variables, unless a test sets them."""
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    monkeypatch.setattr("ofa_tf.energy.find_spec", lambda name: None)
    monkeypatch.delenv(POWER, raising=False)
    monkeypatch.delenv(GRID, raising=False)
    _tracker.cache_clear()
    yield
    _tracker.cache_clear()


def test_time_is_measured_lap_by_lap():
    meter = Meter()
    time.sleep(0.2)
    first, second = meter.lap(), meter.lap()
    assert first.seconds >= 0.2 > second.seconds
    assert first.processor_seconds < 0.2
    assert (first.kwh, first.co2e_kg) == (None, None)
    busy = time.process_time()
    while time.process_time() - busy < 0.2:
        pass
    assert meter.lap().processor_seconds >= 0.19


def test_energy_is_power_times_time(monkeypatch):
    monkeypatch.setenv(POWER, "36000")
    monkeypatch.setenv(GRID, "100")
    meter = Meter()
    time.sleep(0.1)
    cost = meter.lap()
    assert cost.kwh == pytest.approx(cost.seconds / 100)
    assert cost.co2e_kg == pytest.approx(cost.kwh / 10)


def test_codecarbon_is_asked_where_it_is_installed(monkeypatch):
    """A stand-in with the functions of its documentation, since it takes seconds to start."""
    emitted = iter([0.0, 0.5, 2.0])
    made = []

    class OfflineEmissionsTracker:
        def __init__(self, **options):
            made.append(options)

        def start(self):
            pass

        def flush(self):
            return next(emitted)

    package = ModuleType("codecarbon")
    package.OfflineEmissionsTracker = OfflineEmissionsTracker
    monkeypatch.setitem(sys.modules, "codecarbon", package)
    monkeypatch.setenv(GRID, "250")
    meter = Meter()
    assert [meter.lap().kwh for _ in range(2)] == pytest.approx([2, 6])
    (options,) = made
    assert (options["output_methods"], options["force_carbon_intensity_g_co2e_kwh"]) == ([], 250)


@pytest.mark.parametrize("variable", [POWER, GRID])
@pytest.mark.parametrize("text", ["-1", "0", "much", "nan", "inf", "1e9"])
def test_a_power_or_grid_that_cannot_be_is_refused(monkeypatch, variable, text):
    monkeypatch.setenv(variable, text)
    with pytest.raises(
        ArgumentError, match=rf"^{variable} \(='{text}'\) must be a number above 0 and at most 1e\+06\.$"
    ):
        Assumptions.from_environment()


def test_assumptions_say_what_they_are(monkeypatch):
    assert not Assumptions.from_environment().known
    assert "not known; install ofa-tf[energy]" in str(Assumptions.from_environment())
    assert f"grid {WORLD_GRID_G:g} g CO2e per kWh" in str(Assumptions.from_environment())
    monkeypatch.setenv(POWER, "45")
    assert str(Assumptions.from_environment()).startswith(f"power 45 W, as {POWER} says; grid 473 g")


def test_costs_add_up():
    both = Cost(1, 2, 3, 4) + Cost(10, 20, 30, 40)
    assert both == Cost(11, 22, 33, 44)
    assert Cost(1, 2) + both == Cost(12, 24)
    assert Cost(1, 2).to_document() == {"seconds": 1, "processor_seconds": 2}


@pytest.mark.parametrize(
    "cost", [{"seconds": -1}, {"kwh": "a"}, {"co2e_kg": True}, {"seconds": 10**400}, {"joules": 1}]
)
def test_a_broken_cost_is_refused(tmp_path, cost):
    path = tmp_path / "ledger.json"
    whole = {"seconds": 1.0, "processor_seconds": 1.0}
    stage = {"state": "done", "step": 1, "steps": 1}
    for document in (
        {"stages": {"full": {**stage, "cost": {**whole, **cost}}}},
        {"stages": {}, "costs": {"predictor": {**whole, **cost}}},
    ):
        path.write_text(json.dumps({"schema": 1, **document}))
        with pytest.raises(FormatError):
            Ledger(path)


def test_the_ledger_keeps_costs(tmp_path):
    ledger = Ledger(tmp_path / "ledger.json")
    ledger.record("full", StageRecord("done", 1, 1, cost=Cost(1, 2, 3, 4)))
    for _ in range(2):
        ledger.spend("predictor", Cost(5, 6))
    again = Ledger(ledger.path)
    assert again.stages["full"].cost == Cost(1, 2, 3, 4)
    assert again.costs == {"predictor": Cost(10, 12)}


# --- of a workdir -----------------------------------------------------------------------------------------------------


def test_all_work_in_a_workdir_is_on_record(finished):
    ledger = Ledger(finished / "ledger.json")
    assert all(record.cost.seconds > 0 for record in ledger.stages.values())
    assert sorted(work.split()[0] for work in ledger.costs) == ["export", "latency", "predictor"]
    assert all(cost.seconds > 0 and cost.processor_seconds > 0 for cost in ledger.costs.values())


def test_a_bad_power_is_refused_before_anything_is_changed(workdir, ofa, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
    monkeypatch.setenv(POWER, "-3")
    for arguments in (
        ("train", "--stage", "all", "--restart"),
        ("predictor", "fit"),
        ("export", "--latency", 1000, "--name", "other"),
    ):
        run = ofa(*arguments, "-w", workdir)
        assert (run.code, run.err.count("\n")) == (2, 1), run.err
        assert f"{POWER} (='-3') must be a number above 0" in run.err
    changed = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file() and path.name != ".lock"}
    assert changed == {path: stamp for path, stamp in before.items() if path.name != ".lock"}


def test_training_again_costs_again(workdir, ofa, monkeypatch):
    monkeypatch.setenv(POWER, "100")
    before = Ledger(workdir / "ledger.json").stages["width"].cost
    run = ofa("train", "--stage", "width", "--restart", "-w", workdir)
    assert run.code == 0, run.err
    assert "The ledger counts energy: power 100 W" in run.err
    ledger = Ledger(workdir / "ledger.json")
    record = ledger.stages["width"]
    assert ledger.costs["stage width, trained before"] == before
    assert record.cost.kwh == pytest.approx(100 * record.cost.seconds / 3.6e6)


def test_the_report_has_a_section_on_cost(workdir, ofa):
    assert ofa("report", "-w", workdir).code == 0
    page = (workdir / "report.html").read_text().partition('<section id="cost">')[2].partition("</section>")[0]
    for work in ("training, stage full", "training, stage width", "predictor", "export first", "in all"):
        assert f'<th scope="row">{work}</th>' in page
    assert "Training 1 network like those exported instead" in page
    assert '<span class="label">estimated</span>' in page
    assert f"set {POWER} to what the machine draws" in page
    ledger = json.loads((workdir / "ledger.json").read_text())
    for record in ledger["stages"].values():
        del record["cost"]
    del ledger["costs"]
    (workdir / "ledger.json").write_text(json.dumps(ledger))
    assert ofa("report", "-w", workdir).code == 0
    assert "No costs are on record yet." in (workdir / "report.html").read_text()
