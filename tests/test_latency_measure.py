"""Timing files on this machine, and the tables that come of it."""

import contextlib
import dataclasses
import os
import signal
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from ofa_tf.blocks import Block, walk
from ofa_tf.errors import DeviceError
from ofa_tf.export.block_files import BlockFiles
from ofa_tf.export.convert import BlockConverter
from ofa_tf.latency.device import Timing, Workload
from ofa_tf.latency.host import HostDevice, available_cores
from ofa_tf.latency.measure import build_table, entry, fit_calibration, leave_one_out, validate_table
from ofa_tf.latency.passes import measure_in_passes
from ofa_tf.latency.store import find_table, list_tables, table_name
from ofa_tf.latency.table import LatencyTable, distinct_blocks
from ofa_tf.progress import Progress
from ofa_tf.space import Arch
from ofa_tf.spaces import TINY

QUICK = HostDevice(seconds=0.1, least_rounds=5)
CONV = Block("conv", "conv", in_size=32, in_channels=3, out_channels=16, kernel=3, activation="relu6")
WIDE = dataclasses.replace(CONV, out_channels=256)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A narrow and a wide convolution in float, and the narrow one in int8."""
    converters = {precision: BlockConverter(TINY, 10, precision) for precision in ("fp32", "int8")}
    return {
        "narrow": converters["fp32"].block(CONV),
        "wide": converters["fp32"].block(WIDE),
        "int8": converters["int8"].block(CONV),
    }


# --- the host ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delegate", ["none", "xnnpack"])
def test_more_work_takes_longer(files, delegate):
    host = dataclasses.replace(QUICK, delegate=delegate)
    names = ["narrow", "wide", "narrow", "wide"]
    workloads = [Workload(files[name], size) for name, size in zip(names, (32, 32, 128, 128), strict=True)]
    narrow, wide, narrow_large, wide_large = (timing.percentile_ms(10) for timing in host.measure(workloads))
    assert wide > 2 * narrow
    assert narrow_large > 4 * narrow
    assert wide_large > 4 * wide


def test_a_resized_file_runs_at_its_new_size(files):
    """The same file, resized, is as slow as one that was made for that size."""
    made = BlockConverter(TINY, 10, "fp32").block(dataclasses.replace(WIDE, in_size=96))
    resized, native = QUICK.measure([Workload(files["wide"], 96), Workload(made)])
    assert 1 / 3 < resized.percentile_ms(10) / native.percentile_ms(10) < 3
    left = QUICK.measure([Workload(made, 32), Workload(files["wide"])])
    assert 1 / 3 < left[0].percentile_ms(10) / left[1].percentile_ms(10) < 3


def test_integer_files_run_too(files):
    (timing,) = QUICK.measure([Workload(files["int8"])])
    assert timing.percentile_ms(10) > 0


def test_every_file_gets_the_same_number_of_runs_and_the_progress_counts(files):
    seen = []

    class Recorder(Progress):
        def task(self, title, total, unit="steps", done=0):
            seen.append([title, total, unit, done])
            return super().task(title, total, unit, done)

    host = HostDevice(seconds=0, least_rounds=3, runs=2)
    timings = host.measure([Workload(files["narrow"]), Workload(files["wide"])], progress=Recorder())
    assert [timing.runs_ms.shape for timing in timings] == [(6,), (6,)]
    assert all((timing.runs_ms > 0).all() for timing in timings)
    assert seen == [["measuring", 100, "%", 0]]
    longer = dataclasses.replace(host, seconds=0.2).measure([Workload(files["narrow"])])
    assert len(longer[0].runs_ms) > 6


@pytest.mark.parametrize("content", [b"", b"garbage", b"TFL3" * 100, None])
def test_garbage_is_refused(files, content):
    content = files["narrow"][:500] if content is None else content
    with pytest.raises(DeviceError, match="refuses the file"):
        QUICK.measure([Workload(content)])


def test_an_unknown_delegate_is_refused():
    with pytest.raises(DeviceError, match=r"`delegate` \(='gpu'\) must be one of \['none', 'xnnpack'\]"):
        HostDevice(delegate="gpu")


def test_facts_and_runtime_say_what_ran():
    assert HostDevice().facts()["name"] == "host"
    assert set(HostDevice().facts()) == {"name", "model", "soc", "os"}
    expected = {"name": "ai-edge-litert", "version": version("ai-edge-litert"), "threads": 2, "delegate": "xnnpack"}
    assert HostDevice(threads=2, delegate="xnnpack").runtime() == expected


def test_statistics_of_a_timing():
    timing = Timing(np.arange(101.0)[::-1])
    assert entry(timing) == {"median_ms": 50, "p10_ms": 10, "p90_ms": 90, "runs": 101}


def test_runs_that_disagree_are_told_from_those_that_do_not():
    disturbed = Timing(np.array([1.0] * 3 + [1.5] * 7))
    assert disturbed.caution is not None
    assert "half of the runs took 1.5 ms or more, the fastest tenth 1 ms or less" in disturbed.caution
    assert Timing(np.array([1.0] * 3 + [1.2] * 6 + [50.0])).caution is None, "a few slow runs mean nothing"
    assert Timing(np.zeros(4)).caution is None, "a device may tell times that are rounded to nothing"


def test_the_process_that_measures_can_die_and_says_where(files):
    """A file that the interpreter dies of does not take this process with it."""
    with pytest.raises(DeviceError, match=r"The measuring process was ended by SIGKILL at file 1 of 1\."):
        _measure_and(lambda child: os.kill(child, signal.SIGKILL), files)


def test_a_process_that_dies_before_it_is_told_what_to_do_says_so(monkeypatch):
    monkeypatch.setattr("ofa_tf.latency.host.sys.executable", "/bin/false")
    with pytest.raises(DeviceError, match=r"The measuring process ended with status 1\."):
        QUICK.measure([Workload(b"x")] * 4000)  # more than a pipe holds


def test_an_interrupted_measurement_leaves_no_process(files):
    children = []

    def interrupt(child):
        children.append(child)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _measure_and(interrupt, files)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def _measure_and(do, files):
    """Measures for a long time; `do` gets the number of the child once it has said something."""

    class Meddling(Progress):
        @contextlib.contextmanager
        def task(self, title, total, unit="steps", done=0):
            def advance(n):
                if n:
                    do(int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1]))

            yield advance

    dataclasses.replace(QUICK, seconds=60).measure([Workload(files["narrow"])], progress=Meddling())


def test_cores_are_those_that_the_child_may_use(files):
    core = available_cores()[-1]
    host = dataclasses.replace(QUICK, cores=(core,))
    assert host.measure([Workload(files["narrow"])])[0].percentile_ms(10) > 0
    assert host.facts()["cores"] == [core]
    with pytest.raises(DeviceError, match=r"`cores`: core 4096 is not one of \["):
        HostDevice(cores=(4096,))


def test_more_files_than_are_loaded_at_once(files):
    """Groups take turns; every file keeps its own times."""
    work = [Workload(files["narrow"]), Workload(files["wide"], 96)] * 70
    timings = HostDevice(seconds=0.01, least_rounds=2, runs=1).measure(work)
    narrow, wide = ([t.percentile_ms(10) for t in timings[start::2]] for start in (0, 1))
    assert len(narrow) == len(wide) == 70
    assert np.median(wide) > 3 * np.median(narrow)


# --- building a table -------------------------------------------------------------------------------------------------


class FakeDevice:
    """A converter that hands out numbers, and the device that runs them by a law of its own.

    A whole network takes `scale` times the sum of its blocks, so much more per elastic block, and a constant.
    """

    resizes = True

    def __init__(self, space, scale, per_block_ms, constant_ms):
        self.space, self.law, self.made = space, (scale, per_block_ms, constant_ms), []

    def convert(self, wanted, progress=None):
        del progress
        first = len(self.made)
        self.made.extend(wanted)
        return [str(first + index).encode() for index in range(len(wanted))]

    def facts(self):
        return {"name": "fake"}

    def runtime(self):
        return {"name": "none", "version": "1", "threads": 1, "delegate": "none"}

    def measure(self, workloads, seed=0, progress=None):
        del seed, progress
        return [Timing(np.full(4, self.run(self.made[int(work.content)], work.in_size))) for work in workloads]

    def run(self, what, in_size):
        if isinstance(what, Block):
            return block_ms(dataclasses.replace(what, in_size=1 if what.kind == "linear" else in_size))
        scale, per_block, constant = self.law
        return scale * sum(map(block_ms, walk(self.space, what, 10))) + per_block * sum(what.depths) + constant


def block_ms(block: Block) -> float:
    return 1e-3 + block.n_macs * 1e-6


@pytest.mark.parametrize("resolutions", [None, (24,), (28, 32)])
def test_a_table_holds_exactly_the_blocks_of_the_space(resolutions):
    device = FakeDevice(TINY, 0.9, 0.01, 0.05)
    table = build_table(TINY, 10, "int8", device, device, resolutions, seed=1)
    resolutions = resolutions or TINY.resolutions
    blocks = distinct_blocks(TINY, resolutions, 10)
    assert set(table.entries) == set(blocks)
    for key, block in blocks.items():
        assert table.entries[key]["p10_ms"] == pytest.approx(block_ms(block)), key
    assert (table.precision, table.source, table.statistic) == ("int8", "measured", "p10_ms")
    assert (table.device, table.runtime) == (device.facts(), device.runtime())
    assert table.resolutions(TINY, 10) == list(resolutions)
    made = {what for what in device.made if isinstance(what, Block)}
    assert len(made) == len(distinct_blocks(TINY, resolutions[:1], 10)), "one file for all sizes"
    assert {arch.resolution for arch in device.made if isinstance(arch, Arch)} <= set(resolutions)


def test_a_table_is_calibrated_on_whole_subnets():
    device = FakeDevice(TINY, 0.9, 0.01, 0.05)
    table = build_table(TINY, 10, "int8", device, device, seed=1)
    c = table.calibration
    assert (c.scale, c.per_block_ms, c.constant_ms, c.subnets) == pytest.approx((0.9, 0.01, 0.05, 24), rel=1e-6)
    assert table.validation["mape"] < 1e-6
    assert table.validation["subnets"] == 24
    plain = build_table(TINY, 10, "int8", device, device, calibration_subnets=0)
    assert plain.calibration is None
    assert plain.validation is None


def test_a_table_is_validated_on_subnets_that_it_has_not_seen():
    device = FakeDevice(TINY, 0.9, 0.01, 0.05)
    table = build_table(TINY, 10, "int8", device, device, (24, 32), seed=1)
    calibrating = {what for what in device.made if isinstance(what, Arch)}
    slower = FakeDevice(TINY, 0.9 * 1.25, 0.01 * 1.25, 0.05 * 1.25)
    found = validate_table(table, TINY, 10, slower, slower, 30, seed=1)
    assert dataclasses.replace(found, validation=None) == dataclasses.replace(table, validation=None)
    assert len(calibrating) == 24
    assert len(set(slower.made)) > 25
    assert not calibrating & set(slower.made)
    assert {arch.resolution for arch in slower.made} == {24, 32}
    errors = dict(found.validation)
    assert TINY.arch_from_document(errors.pop("worst_arch")) in slower.made
    assert errors == pytest.approx(
        {"subnets": 30, "mape": 0.2, "within_10pct": 0, "spearman": 1, "bias": -0.2, "worst_error": -0.2}
    )
    one = slower.made[7]
    slower.run = lambda what, _: FakeDevice.run(device, what, None) * (1.5 if what == one else 1)
    errors = validate_table(table, TINY, 10, slower, slower, 30, seed=1).validation
    assert TINY.arch_from_document(errors["worst_arch"]) == one
    assert errors["worst_error"] == pytest.approx(-1 / 3)
    assert errors["mape"] == pytest.approx(1 / 90)


def test_real_blocks_of_this_host():
    space = dataclasses.replace(TINY, stages=TINY.stages[:1], kernels=(3,), expands=(3,), resolutions=(24, 32))
    converter = BlockFiles(space, 3, "int8")
    table = build_table(space, 3, "int8", QUICK, converter, calibration_subnets=3)
    assert set(table.entries) == set(distinct_blocks(space, space.resolutions, 3))
    assert all(0 < entry["p10_ms"] <= entry["median_ms"] <= entry["p90_ms"] for entry in table.entries.values())
    small, large = table.costs(space, 3)(space.encode([space.smallest(), space.largest()]))
    assert 0 < small < large


def test_held_out_subnets_are_measured_along(monkeypatch):
    device = FakeDevice(TINY, 0.9, 0.01, 0.05)
    table = build_table(TINY, 10, "int8", device, device, (32,), 8, 12, seed=1)
    assert (table.validation["subnets"], table.calibration.subnets) == (12, 8)
    assert table.validation["mape"] < 1e-6
    archs = [what for what in device.made if isinstance(what, Arch)]
    assert len(archs) == len(set(archs)) == 20
    slow = archs[-1]
    plain = device.run
    monkeypatch.setattr(device, "run", lambda what, size: plain(what, size) * (2 if what == slow else 1))
    errors = build_table(TINY, 10, "int8", device, device, (32,), 8, 12, seed=1).validation
    assert TINY.arch_from_document(errors["worst_arch"]) == slow
    assert errors["worst_error"] == pytest.approx(-0.5)


def test_the_statistic_that_predicts_best_is_kept(monkeypatch):
    """Runs whose 10th percentile is noise and whose median is the truth, and the other way round."""
    device = FakeDevice(TINY, 0.9, 0.01, 0.05)
    rng = np.random.default_rng(0)
    for kept, other, at in (("median_ms", slice(0, 40), 60), ("p10_ms", slice(40, 100), 20)):

        def measure(workloads, seed=0, progress=None, other=other, at=at):
            del seed, progress
            timings = []
            for work in workloads:
                truth = device.run(device.made[int(work.content)], work.in_size)
                runs = np.full(100, truth)
                runs[other] *= rng.uniform(0.5, 0.9) if at > 50 else rng.uniform(1.1, 2)
                timings.append(Timing(runs))
            return timings

        monkeypatch.setattr(device, "measure", measure)
        assert build_table(TINY, 10, "int8", device, device, (32,)).statistic == kept


def test_the_10th_percentile_is_kept_unless_the_median_is_clearly_better(monkeypatch):
    """Two tables of one device should add up the same where it makes little difference."""
    errors = {"p10_ms": 0.0100, "median_ms": 0.0081}

    def calibrated(table, *_):
        return dataclasses.replace(
            table, validation={"subnets": 8, "mape": errors[table.statistic], "within_10pct": 1.0, "spearman": 1.0}
        )

    monkeypatch.setattr("ofa_tf.latency.measure.calibrate", calibrated)
    device = FakeDevice(TINY, 0.9, 0.01, 0.05)
    assert build_table(TINY, 10, "int8", device, device, (32,), 8).statistic == "p10_ms"
    errors["median_ms"] = 0.0079
    assert build_table(TINY, 10, "int8", device, device, (32,), 8).statistic == "median_ms"


def test_another_resolution_is_added_to_what_is_known():
    device = FakeDevice(TINY, 0.9, 0.01, 0.05)
    first = build_table(TINY, 10, "int8", device, device, (24,))
    second = build_table(TINY, 10, "int8", device, device, (32,), known=first)
    assert second.resolutions(TINY, 10) == [24, 32]
    assert first.entries.items() <= second.entries.items()
    assert {what.resolution for what in device.made[-24:]} == {24, 32}, "calibrated on both"


class Dying:
    """A device that is lost in a pass."""

    def __init__(self, device, at):
        self.device, self.left = device, at

    def __getattr__(self, name):
        return getattr(self.device, name)

    def measure(self, workloads, seed=0, progress=None):
        self.left -= 1
        if self.left < 0:
            raise DeviceError("The phone is gone.")
        return [Timing(t.runs_ms + seed / 1000) for t in self.device.measure(workloads)]


def test_a_device_that_is_lost_goes_on_with_the_next_pass(tmp_path):
    device = FakeDevice(TINY, 0.9, 0.01, 0.05)
    work = [Workload(name, 32) for name in device.convert([CONV, WIDE])]
    journal = tmp_path / "folder" / "table.journal"
    whole = measure_in_passes(Dying(device, 9), work, 4)
    with pytest.raises(DeviceError, match="gone"):
        measure_in_passes(Dying(device, 2), work, 4, journal)
    assert len(journal.read_text().splitlines()) == 2
    again = Dying(device, 2)
    resumed = measure_in_passes(again, work, 4, journal)
    assert again.left == 0
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one.runs_ms, other.runs_ms)


@pytest.mark.parametrize("damage", ["cut", "other files", "nan", "binary", "not runs"])
def test_a_journal_that_is_damaged_or_of_something_else_is_not_believed(tmp_path, damage):
    device = FakeDevice(TINY, 0.9, 0.01, 0.05)
    work = [Workload(name, 32) for name in device.convert([CONV, WIDE])]
    journal = tmp_path / "table.journal"
    measure_in_passes(device, work, 3, journal)
    lines = journal.read_text().splitlines(keepends=True)
    believed = 2
    if damage == "cut":
        journal.write_text("".join(lines)[:-20])
    elif damage == "nan":
        journal.write_text("".join(lines[:2]) + lines[2].replace("[[", "[[NaN, "))
    elif damage == "not runs":
        journal.write_text("".join(lines[:2]) + lines[2].replace("[[", '[["x", '))
    elif damage == "binary":
        journal.write_bytes(b"\xff\x00" + journal.read_bytes())
        believed = 0
    else:
        work = work[:1]
        believed = 0
    again = Dying(device, 9)
    measure_in_passes(again, work, 3, journal)
    assert 9 - again.left == 3 - believed
    assert len(journal.read_text().splitlines()) == 3


# --- calibration ------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
SUMS, BLOCKS = RNG.uniform(1, 20, 24), RNG.integers(3, 20, 24)


@pytest.mark.parametrize("law", [(0.8, 0.05, 1.5), (1.2, 0, 0), (1, 0, 3), (0.5, 0.2, 0)])
def test_a_calibration_recovers_its_parameters(law):
    scale, per_block, constant = law
    found = fit_calibration(SUMS, BLOCKS, scale * SUMS + per_block * BLOCKS + constant)
    np.testing.assert_allclose([found.scale, found.per_block_ms, found.constant_ms], law, rtol=1e-8, atol=1e-9)
    assert found.subnets == 24


def test_a_calibration_has_no_negative_part_and_weighs_relative_errors():
    found = fit_calibration(SUMS, BLOCKS, np.maximum(SUMS - 0.5, 0.1))
    assert min(found.scale, found.per_block_ms, found.constant_ms) >= 0
    # Two subnets and one scale: the relative error decides, so the small one counts as much as the large one.
    found = fit_calibration(np.array([1.0, 100.0]), np.zeros(2), np.array([2.0, 100.0]))
    predicted = found.scale * np.array([1.0, 100.0]) + found.constant_ms
    np.testing.assert_allclose(predicted, [2.0, 100.0], rtol=1e-6)


def test_leaving_one_out_judges_each_subnet_unseen():
    exact = 0.8 * SUMS + 0.05 * BLOCKS + 1.5
    errors = leave_one_out(SUMS, BLOCKS, exact)
    assert errors["mape"] < 1e-8
    assert (errors["within_10pct"], errors["subnets"]) == (1.0, 24)
    assert errors["spearman"] == pytest.approx(1)
    noisy = exact * RNG.uniform(0.8, 1.25, 24)
    predicted = np.empty(24)
    for index in range(24):
        rest = np.arange(24) != index
        c = fit_calibration(SUMS[rest], BLOCKS[rest], noisy[rest])
        predicted[index] = c.scale * SUMS[index] + c.per_block_ms * BLOCKS[index] + c.constant_ms
    errors = np.abs(predicted / noisy - 1)
    found = leave_one_out(SUMS, BLOCKS, noisy)
    assert found["mape"] == pytest.approx(errors.mean())
    assert 0 < found["within_10pct"] == (errors <= 0.1).mean() < 1


# --- where tables lie -------------------------------------------------------------------------------------------------


def save_table(folder, name, path=None, precision="int8", runtime=None, ms=0.1):
    runtime = runtime or {"name": "litert", "version": "1", "threads": 1, "delegate": "none"}
    entries = {"pool in=4x4x8 out=1x1x8": {"p10_ms": ms, "runs": 4}}
    table = LatencyTable({"name": name}, runtime, precision, "measured", entries, "p10_ms")
    folder.mkdir(exist_ok=True)
    table.save(folder / (path or table_name({"name": name}, runtime, precision)))
    return table


def test_the_name_of_a_table_tells_device_runtime_and_precision():
    runtime = {"name": "ai-edge-litert", "version": "2.3.0", "threads": 1, "delegate": "none"}
    assert table_name({"name": "host"}, runtime, "int8") == "host__ai-edge-litert-2.3.0-1t-none__int8.json"
    names = {
        table_name({"name": device}, {**runtime, **change}, precision)
        for device in ("host", "pixel 4")
        for change in ({}, {"version": "2.4.0"}, {"threads": 4}, {"delegate": "xnnpack"})
        for precision in ("int8", "fp32")
    }
    assert len(names) == 16
    kept_to_cores = {"name": "host", "cores": [0, 2]}
    assert table_name(kept_to_cores, runtime, "int8") == "host__ai-edge-litert-2.3.0-1t-none-cores-0-2__int8.json"
    phone = {"name": "adb:R58", "cores": [7]}
    assert table_name(phone, runtime, "int8") == "adb-R58__ai-edge-litert-2.3.0-1t-none__int8.json"
    assert table_name({"name": "../a/b [x]"}, runtime, "int8").startswith("..-a-b-x-__ai-edge")


def total(table):
    return sum(entry["p10_ms"] for entry in table.entries.values())


def test_the_host_finds_only_a_table_of_the_installed_runtime_and_the_fastest_of_its_settings(tmp_path):
    runtime = HostDevice().runtime()
    assert find_table(tmp_path, "host", "int8", total) is None
    save_table(tmp_path, "host", runtime={**runtime, "version": "0.0"}, ms=0.01)
    save_table(tmp_path, "host", precision="fp32", runtime=runtime, ms=0.01)
    assert find_table(tmp_path, "host", "int8", total) is None
    slow = save_table(tmp_path, "host", runtime={**runtime, "threads": 2}, ms=0.3)
    assert find_table(tmp_path, "host", "int8", total) == slow
    fast = save_table(tmp_path, "host", runtime={**runtime, "delegate": "xnnpack"}, ms=0.2)
    assert find_table(tmp_path, "host", "int8", total) == fast


def test_a_phone_without_a_table_is_to_be_measured(tmp_path):
    assert find_table(tmp_path, "adb:R58", "int8", total) is None
    mine = save_table(tmp_path, "adb:R58")
    assert find_table(tmp_path, "adb:R58", "int8", total) == mine


def test_another_device_is_found_by_its_name_and_precision(tmp_path):
    save_table(tmp_path, "pixel", "b.json", precision="fp32")
    mine = save_table(tmp_path, "pixel", "c.json")
    assert find_table(tmp_path, "pixel", "int8", total) == mine
    assert (tmp_path / "c.json", mine) in list_tables(tmp_path)
    with pytest.raises(DeviceError, match=r"no table of a device 'pixel' in fp16; there is one of host"):
        find_table(tmp_path, "pixel", "fp16", total)
    with pytest.raises(DeviceError, match=r"'nexus' in int8; there is one of edgetpu, ethos-u55-128, host, pixel"):
        find_table(tmp_path, "nexus", "int8", total)
