"""`ofa-tf search`: budgets of any mix, several devices, fronts, candidates evaluated and measured, honest answers."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import HOST_TABLE
from finished_workdir import space_of

import ofa_tf as api
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.costs import arch_costs
from ofa_tf.jsonio import SPACE_SCHEMA, read_json, write_json
from ofa_tf.latency.device import Timing
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project.choice import Budgets
from ofa_tf.project.finder import find_with
from ofa_tf.project.opened import open_existing
from ofa_tf.project.search import find_all
from ofa_tf.search.file_size import size_costs

N_CLASSES = 3
SEARCH = ["search", "--workdir", "work"]


def choices_of(run):
    assert run.code == 0, run.err
    return json.loads(run.out)["choices"]


def refusal(run):
    assert (run.code, run.out) == (2, "")
    assert run.last.startswith("Error: ")
    return run.last


@pytest.fixture
def phone(workdir) -> LatencyTable:
    """A second table in the workdir: blocks of large kernels cost ten times as much as on the host; never validated."""
    host = LatencyTable.load(*workdir.glob(HOST_TABLE))
    ms = host.statistic
    entries = {key: {**entry, ms: entry[ms] * (10 if " k=5 " in key else 1)} for key, entry in host.entries.items()}
    table = replace(
        host, device={"name": "phone $x^{2"}, source="modelled", entries=entries, calibration=None, validation=None
    )
    table.save(workdir / "lut" / "phone__test__int8.json")
    return table


@pytest.fixture
def half_table(workdir) -> LatencyTable:
    """The host's table without the blocks that 32 px alone needs."""
    (path,) = workdir.glob(HOST_TABLE)
    table, space = LatencyTable.load(path), space_of(workdir)
    small = replace(space, resolutions=(24,))
    seen = set()
    arch_costs(small, lambda block: seen.add(block.key) or 0.0, N_CLASSES)
    table = replace(table, entries={key: entry for key, entry in table.entries.items() if key in seen})
    table.save(path)
    return table


# --- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "name", "unit"),
    [("--macs", "n_macs", 1e6), ("--params", "n_params", 1e3), ("--size-kb", "predicted_bytes", 1e3)],
)
def test_a_search_keeps_to_every_budget_with_a_latency_and_without(ofa, workdir, option, name, unit):
    (free,) = choices_of(ofa(*SEARCH, "--latency", 1000, "--json"))
    limit = free[name] * 0.9 / unit
    for more in ([], ["--latency", 1000]):
        (choice,) = choices_of(ofa(*SEARCH, *more, option, limit, "--json"))
        assert choice[name] <= limit * unit
        assert choice["predicted_accuracy"] <= free["predicted_accuracy"]
        assert ("predicted_ms" in choice) == bool(more)


def test_a_budget_without_a_latency_needs_no_table(ofa, workdir):
    (workdir / "lut").rename("elsewhere")
    out = ofa(*SEARCH, "--params", 1000).out
    assert "1000 k parameters" in out
    assert "latency" not in out


def test_all_devices_are_held_to_their_budgets_at_the_same_time(ofa, workdir, phone):
    space, host = space_of(workdir), LatencyTable.load(*workdir.glob(HOST_TABLE))
    tables = {"host": host, phone.device["name"]: phone}
    arch = space.arch(24, [2, 1], [3, 3, 3, 3], [4, 3, 4, 3])
    code = space.encode([arch])
    limits = {device: float(table.costs(space, N_CLASSES)(code)[0]) * 1.0001 for device, table in tables.items()}
    pairs = [item for device, limit in limits.items() for item in ("--device", device, "--latency", limit)]
    (choice,) = choices_of(ofa(*SEARCH, *pairs, "--json"))
    found = space.encode([space.arch_from_document(choice["arch"])])
    for latency, (device, limit) in zip(choice["latencies"], limits.items(), strict=True):
        assert latency["device"] == tables[device].label
        assert latency["budget_ms"] == limit
        assert latency["predicted_ms"] == pytest.approx(float(tables[device].costs(space, N_CLASSES)(found)[0]))
        assert latency["predicted_ms"] <= limit
    assert [latency["predicted_ms_error"] for latency in choice["latencies"]] == [host.validation["mape"], None]
    run = ofa(*SEARCH, *pairs)
    assert "predicted latency on phone $x^{2 (int8, modelled)" in run.out
    assert "the error of the table of phone $x^{2 (int8, modelled) on whole subnets is not known" in run.out


def test_a_device_without_a_budget_is_shown_and_not_limited(ofa, workdir, phone):
    (choice,) = choices_of(ofa(*SEARCH, "--device", phone.device["name"], "--device", "host", "--macs", 1000, "--json"))
    assert [latency["budget_ms"] for latency in choice["latencies"]] == [None, None]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing option '--latency': give a positive number of milliseconds, or --macs"),
        (["--verify", "2"], "Missing option '--latency'"),
        (["--device", "a", "--device", "b", "--latency", "1"], "2 devices and --latency 1 budgets"),
        (["--device", "a", "--device", "a", "--latency", "1", "--latency", "2"], "names a device twice"),
        (["--size-kb", "90", "--flash-kb", "100"], "two names of one budget"),
        (["--pareto", "--macs", "1", "--ram-kb", "9", "--verify", "2"], "leave --macs, --verify out"),
        (["--latency", "1", "--plot", "a.png"], "--plot draws fronts"),
        (["--pareto", "--plot", "a.gif"], "'a.gif' must be a file named *.png or *.svg"),
        (["--pareto", "--plot", "none/a.png"], "--plot none/a.png must be a file in a folder that exists"),
        (["--pareto", "--out", "none/a.json"], "--out none/a.json must be a file in a folder that exists"),
        (["--latency", "1", "--out", "none/a.json"], "--out none/a.json must be a file in a folder that exists"),
        (["--pareto", "--points", "1"], "'--points'"),
        (["--latency", "1", "--verify", "0"], "'--verify'"),
        *(
            ([names[0], value], f"{' / '.join(map(repr, names))}: '{value}' is not a positive number")
            for names in (["--latency"], ["--macs"], ["--params"], ["--ram-kb"], ["--size-kb", "--flash-kb"])
            for value in ("0", "-1", "inf", "nan", "much")
        ),
    ],
    ids=" ".join,
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(ofa, workdir, arguments, said):
    assert said in refusal(ofa(*SEARCH, *arguments))


# --- what no subnet can meet ------------------------------------------------------------------------------------------


def test_an_infeasible_budget_is_answered_with_data_too(ofa, workdir):
    run = ofa(*SEARCH, "--latency", "1e-5", "--size-kb", 1e6, "--json")
    assert run.code == 2
    answer = json.loads(run.out)["infeasible"]
    assert answer["binds"] == ["latency"]
    assert [budget["name"] for budget in answer["budgets"]] == ["latency", "file size"]
    space, costs = space_of(workdir), LatencyTable.load(*workdir.glob(HOST_TABLE)).costs(space_of(workdir), N_CLASSES)
    fastest = costs.cheapest()
    assert answer["budgets"][0]["arch"] == space.decode_one(fastest).to_document()
    assert answer["budgets"][0]["least"] == pytest.approx(costs(fastest[None])[0])
    assert answer["nearest"]["arch"] == space.decode_one(fastest).to_document()
    for said in ("meets the budget for latency:", "the least file size is", "bytes", "the nearest subnet has latency"):
        assert said in run.last
    assert not (workdir / "arch.json").exists()


def test_devices_that_exclude_each_other_say_which_binds(ofa, workdir, phone):
    (path,) = workdir.glob(HOST_TABLE)
    space, host = space_of(workdir), LatencyTable.load(path)
    ms = host.statistic
    measured = sorted(host.entries.items(), key=lambda item: item[1][ms])
    ranked = {key: {**entry, ms: 1 + rank / len(measured)} for rank, (key, entry) in enumerate(measured)}
    host = replace(host, entries=ranked)
    host.save(path)
    costs = host.costs(space, N_CLASSES)
    # On the second phone everything that is cheap here is dear.
    entries = {key: {**entry, ms: 4 - entry[ms] if key.startswith("mbconv") else 0.0} for key, entry in ranked.items()}
    odd = replace(host, device={"name": "odd"}, entries=entries, calibration=None, validation=None)
    odd.save(workdir / "lut" / "odd__test__int8.json")
    pairs = []
    for device, table in (("host", costs), ("odd", odd.costs(space, N_CLASSES))):
        pairs += ["--device", device, "--latency", float(table(table.cheapest()[None])[0]) * 1.0001]
    said = refusal(ofa(*SEARCH, *pairs))
    assert "exclude each other" in said
    assert "least latency on host" in said
    assert "least latency on odd" in said
    assert "the budget for latency on " in said
    assert "binds" in said


# --- resolutions that are not known -----------------------------------------------------------------------------------


def test_resolutions_that_a_table_lacks_are_left_out_and_named(ofa, workdir, half_table):
    run = ofa(*SEARCH, "--latency", 1000, "--json")
    (choice,) = choices_of(run)
    assert choice["arch"]["resolution"] == 24
    assert choice["resolutions"] == [24]
    assert "Only 24 px are searched: the tables or the predictor do not cover 32 px." in run.err
    front = choices_of(ofa(*SEARCH, "--pareto", "--points", 4, "--json"))
    assert {choice["arch"]["resolution"] for choice in front} == {24}


@pytest.mark.parametrize("more", [["--latency", 1000], ["--pareto"]], ids=["budget", "front"])
def test_a_predictor_and_a_table_that_share_no_resolution_are_refused(ofa, workdir, half_table, more):
    fitted = FittedPredictor.load(workdir / "accuracy", space_of(workdir))
    replace(fitted, predictor=replace(fitted.predictor, resolutions=(32, 40))).save(workdir / "accuracy")
    assert "No resolution of the space `small` is covered" in refusal(ofa(*SEARCH, *more))


# --- accuracy, size ---------------------------------------------------------------------------------------------------


def test_accuracies_come_with_their_uncertainty(ofa, workdir):
    space = space_of(workdir)
    fitted = FittedPredictor.load(workdir / "accuracy", space)
    (choice,) = choices_of(ofa(*SEARCH, "--latency", 1000, "--json"))
    members = fitted.predictor.predict_members(space.encode([space.arch_from_document(choice["arch"])]))[:, 0]
    assert choice["accuracy_spread"] == pytest.approx(np.std(members, ddof=1))
    assert choice["predictor_rmse_points"] == fitted.errors["rmse_points"]
    run = ofa(*SEARCH, "--latency", 1000)
    assert f"% ± {choice['accuracy_spread'] * 100:.1f}" in run.out
    assert f"{choice['predictor_rmse_points']:.2f} points (RMSE)" in run.out
    table = LatencyTable.load(*workdir.glob(HOST_TABLE))
    alone = replace(fitted.predictor, members=fitted.predictor.members[:1])
    assert find_with(open_existing(workdir), table, alone, 1000.0).accuracy_spread is None


def test_predicted_file_sizes_are_near_the_real_ones(finished):
    space = space_of(finished)
    for folder in (finished / "exports").iterdir():
        arch = space.arch_from_document(read_json(folder / "arch.json", SPACE_SCHEMA))
        real = (folder / "model.tflite").stat().st_size
        assert size_costs(space, N_CLASSES, "int8")(space.encode([arch]))[0] == pytest.approx(real, rel=0.05)


# --- candidates -------------------------------------------------------------------------------------------------------


def test_candidates_are_evaluated_and_measured_before_one_is_chosen(ofa, workdir):
    run = ofa(*SEARCH, "--latency", 1000, "--verify", 3, "--json")
    (choice,) = choices_of(run)
    candidates = choice["verified"]
    assert len({json.dumps(candidate["arch"]) for candidate in candidates}) == 3
    assert choice["arch"] == candidates[0]["arch"] == read_json(workdir / "arch.json", SPACE_SCHEMA)
    project = open_existing(workdir)
    for candidate in candidates:
        assert candidate["images"] == len(project.data.tune)
        assert candidate["accuracy"] * candidate["images"] == pytest.approx(round(candidate["accuracy"] * 12))
        assert 0 < candidate["measured_ms"] < 1000
    accuracies = [candidate["accuracy"] for candidate in candidates]
    assert accuracies == sorted(accuracies, reverse=True)


def test_candidates_are_chosen_by_what_they_do_and_never_by_the_validation_images(workdir, monkeypatch):
    project = open_existing(workdir)
    told, seen = [], []
    project = replace(project, progress=Notes(told))
    measured = {}

    class Evaluator:
        supernet = None

        def accuracy(self, arch, images):
            seen.append(images)
            return 1.0 - 0.1 * len(seen)  # the first candidate is the most accurate

    class Host:
        def measure(self, workloads, seed=0, progress=None):
            return measured["timings"]

    monkeypatch.setattr("ofa_tf.project.verification.make_evaluator", lambda _: Evaluator())
    monkeypatch.setattr("ofa_tf.project.verification._file", lambda *_: b"")
    table = LatencyTable.load(*workdir.glob(HOST_TABLE))
    monkeypatch.setattr("ofa_tf.project.finder.get_table", lambda *_: table)
    monkeypatch.setattr("ofa_tf.project.verification.device_of", lambda *_: Host())
    for ms, position, said in (([5, 6, 7], 0, 0), ([11, 6, 7], 1, 0), ([13, 12, 11], 2, 1)):
        # The 10th percentile and the median alone are this number.
        measured["timings"] = [Timing(run_ms * np.array([0.5] + [1.0] * 6 + [3.0] * 4)) for run_ms in ms]
        seen[:], told[:] = [], []
        (answer,), _ = find_all(project, [Budgets({"host": 10.0})], verify=3)
        assert answer.verified[0].measured_ms == ms[position]
        assert answer.choice is answer.verified[0].choice
        assert len(told) == said
        assert all(images is project.data.tune for images in seen)
    assert "None of the 3 candidates is within 10 ms as measured: the nearest is 1 ms over it" in told[0]
    measured["timings"], told[:] = [Timing(np.array([5.0] * 3 + [8.0] * 7))] * 3, []
    find_all(project, [Budgets({"host": 10.0})], verify=3)
    (note,) = told
    assert "The device was busy" in note
    assert "half of the runs took 8 ms or more" in note


class Notes:
    def __init__(self, told):
        self.told = told

    def note(self, text):
        self.told.append(text)

    def task(self, *_, **__):
        from ofa_tf.progress import SILENT

        return SILENT.task("", 1)


# --- files ------------------------------------------------------------------------------------------------------------


def test_search_writes_the_last_arch_into_the_workdir_and_says_where(ofa, workdir):
    run = ofa(*SEARCH, "--latency", 1000, "--latency", 999)
    assert f"The arch of the last search is in {workdir / 'arch.json'}." in run.out
    (first, last) = choices_of(ofa(*SEARCH, "--latency", 1000, "--latency", 999, "--json"))
    assert read_json(workdir / "arch.json", SPACE_SCHEMA) == last["arch"]
    (choice,) = choices_of(ofa(*SEARCH, "--latency", 1000, "--out", "other.json", "--json"))
    assert read_json("other.json", SPACE_SCHEMA) == choice["arch"] == first["arch"]
    assert "none/arch.json" in refusal(ofa(*SEARCH, "--latency", 1000, "--out", "none/arch.json"))


@pytest.mark.parametrize("content", ["notes of mine", '{"schema": 1, "space": "edge"}'])
def test_a_file_of_the_user_in_its_place_is_left_alone(ofa, workdir, content):
    path = Path(workdir / "arch.json")
    path.write_text(content)
    assert "is not an arch of `small` and stays as it is: name another file with --out" in refusal(
        ofa(*SEARCH, "--latency", 1000)
    )
    assert path.read_text() == content


def test_fronts_of_several_devices_are_printed_written_and_drawn(ofa, workdir, phone):
    devices = ["--device", "host", "--device", phone.device["name"]]
    run = ofa(*SEARCH, "--pareto", *devices, "--points", 6, "--out", "front.json", "--plot", "front.svg", "--json")
    front = choices_of(run)
    assert read_json("front.json")["choices"] == front
    labels = [latency["device"] for latency in front[0]["latencies"]]
    assert labels[1] == phone.label
    for label in labels:
        own = [choice for choice in front if choice["device"] == label]
        assert 1 < len(own) <= 6
        times = [choice["predicted_ms"] for choice in own]
        assert times == sorted(times)
        assert all({latency["device"] for latency in choice["latencies"]} == set(labels) for choice in own)
    assert ET.parse("front.svg").getroot().tag.endswith("svg")
    first = Path("front.svg").read_bytes()
    out = ofa(*SEARCH, "--pareto", *devices, "--points", 6, "--plot", "front.svg").out
    assert Path("front.svg").read_bytes() == first
    assert out.count("Front of ") == 2
    assert not (workdir / "arch.json").exists()


def test_a_front_shows_what_each_step_buys(ofa, workdir, phone):
    devices = ["--device", "host", "--device", phone.device["name"]]
    front = choices_of(ofa(*SEARCH, "--pareto", *devices, "--points", 6, "--json"))
    starts = [index for index, choice in enumerate(front) if choice["gained_points"] is None]
    assert len(starts) == 2
    assert [front[index]["device"] for index in starts] == list(dict.fromkeys(choice["device"] for choice in front))
    for index, choice in enumerate(front):
        if index not in starts:
            before = front[index - 1]
            gained = 100 * (choice["predicted_accuracy"] - before["predicted_accuracy"])
            assert choice["gained_points"] == pytest.approx(gained)
            assert choice["extra_ms"] == pytest.approx(choice["predicted_ms"] - before["predicted_ms"])
            assert choice["extra_ms"] > 0
    rows = api.open(workdir, progress=None).pareto("host", points=6).to_pandas()
    assert list(rows.gained_points[1:]) == pytest.approx([choice["gained_points"] for choice in front[1 : starts[1]]])
    assert np.isnan(rows.gained_points[0])


@pytest.mark.parametrize("width", [80, 300])
def test_a_front_is_a_table_at_any_width(ofa, workdir, monkeypatch, width):
    monkeypatch.setattr("ofa_tf.cli.common.WIDE", width)
    front = choices_of(ofa(*SEARCH, "--pareto", "--points", 6, "--json"))
    out = ofa(*SEARCH, "--pareto", "--points", 6).out
    tables, notes = out.split("Gain: ")
    assert all(len(line) <= width for line in tables.splitlines())
    assert ("Its subnets" in tables) == (width == 80)
    arch = space_of(workdir).arch_from_document(front[0]["arch"])
    for shown in (str(arch), f"{front[0]['predicted_bytes'] / 1e3:.0f} kB", f"{front[1]['gained_points']:+.2g}"):
        assert shown in tables
    assert f"+{front[1]['extra_ms']:.3g} ms" in tables
    best = max(choice["gained_points"] for choice in front[1:])
    (longest,) = {line.count("█") for line in tables.splitlines() if f" {best:+.2g} " in line}
    assert longest == max(line.count("█") for line in tables.splitlines()) == 8
    assert notes.startswith("points of accuracy over the row before")


def test_a_damaged_second_table_is_named(ofa, workdir, phone):
    path = workdir / "lut" / "phone__test__int8.json"
    write_json(path, {**read_json(path), "source": "guessed"})
    assert str(path) in refusal(ofa(*SEARCH, "--device", phone.device["name"], "--latency", 1))
