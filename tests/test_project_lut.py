"""The `lut` commands on tables at hand, and the files that tables are measured with."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import HOST_TABLE, assert_refused, contents
from finished_workdir import CLASSES

import ofa_tf as api
from ofa_tf.blocks import Block
from ofa_tf.errors import ExportError, TableError
from ofa_tf.export import block_files, converters
from ofa_tf.export.block_files import BlockFiles
from ofa_tf.jsonio import read_json, write_json
from ofa_tf.latency.merge import merge_tables
from ofa_tf.latency.settings import Settings, fastest
from ofa_tf.latency.shares import time_shares
from ofa_tf.latency.table import LatencyTable
from ofa_tf.progress import Progress
from ofa_tf.project.workdir import Workdir
from ofa_tf.spaces import TINY

CONV = Block("conv", "conv", in_size=16, in_channels=3, out_channels=8, kernel=3, activation="relu6")


@pytest.fixture
def table_file(workdir) -> Path:
    """The host's table of the finished workdir."""
    (path,) = workdir.glob(HOST_TABLE)
    return path


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_converted_once(tmp_path, monkeypatch):
    files = BlockFiles(TINY, 10, "int8", tmp_path / "cache")
    first = files.convert([CONV, CONV])
    assert first[0] == first[1]
    monkeypatch.setattr("ofa_tf.export.convert.BlockConverter", None)
    renamed = dataclasses.replace(CONV, name="other")
    assert files.convert([renamed]) == first[:1], "the name of a block is not part of what it is"
    for changed, precision in ((dataclasses.replace(CONV, kernel=5), "int8"), (CONV, "fp32")):
        with pytest.raises(TypeError):
            BlockFiles(TINY, 10, precision, tmp_path / "cache").convert([changed])


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_a_damaged_kept_file_is_made_again(tmp_path, damage):
    files = BlockFiles(TINY, 10, "int8", tmp_path)
    (content,) = files.convert([CONV])
    (path,) = tmp_path.glob("*.tflite")
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    (again,) = files.convert([CONV])
    assert len(again) == len(content)
    assert path.read_bytes()[32:] == again


def test_processes_share_the_conversion_and_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(block_files, "FILES_PER_PROCESS", 1)
    monkeypatch.setattr(block_files, "n_cores", lambda: 2)
    wanted = [dataclasses.replace(CONV, out_channels=8 * n) for n in (1, 2, 3)]
    started = []

    class Counting(Progress):
        def task(self, title, total, unit="steps", done=0):
            started.append((title, total, done))
            return super().task(title, total, unit, done)

    sizes = [len(content) for content in BlockFiles(TINY, 10, "fp32", tmp_path).convert(wanted, Counting())]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    assert started == [("converting", 3, 0)]
    BlockFiles(TINY, 10, "fp32", tmp_path).convert([*wanted, dataclasses.replace(CONV, kernel=5)], Counting())
    assert started[-1] == ("converting", 4, 3)


def test_processes_do_not_run_the_script_again(tmp_path):
    """The script needs no `if __name__ == "__main__":`, and the processes import nothing beside it."""
    (tmp_path / "script.py").write_text(UNGUARDED)
    (tmp_path / "keras.py").write_text("raise ImportError")
    command = [sys.executable, "-P", "script.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "started\n3 files\n"), run.stderr


UNGUARDED = """
import dataclasses
from ofa_tf.blocks import Block
from ofa_tf.export import block_files, converters
from ofa_tf.spaces import TINY

print("started")
block_files.n_cores, block_files.FILES_PER_PROCESS = lambda: 2, 1
conv = Block("conv", "conv", in_size=16, in_channels=3, out_channels=8, kernel=3, activation="relu6")
wanted = [dataclasses.replace(conv, out_channels=8 * n) for n in (1, 2, 3)]
print(len(set(block_files.BlockFiles(TINY, 10, "fp32").convert(wanted))), "files")
"""


OUT_OF_MEMORY = "A converter process died, probably out of memory: free some and run the command again."


@pytest.mark.parametrize(
    ("child", "sentence"),
    [
        ("os.kill(os.getpid(), 9)", OUT_OF_MEMORY),
        ("pickle.load(sys.stdin.buffer); os._exit(1)", OUT_OF_MEMORY),
        ("os.write(1, pickle.dumps(bytes(999))[:500]); os.kill(os.getpid(), 9)", OUT_OF_MEMORY),
        ("sys.exit('Rain.\\nIt rains.')", "A converter process ended with status 1: It rains."),
    ],
)
def test_a_process_that_dies_is_told(monkeypatch, child, sentence):
    monkeypatch.setattr(converters, "COMMAND", [sys.executable, "-c", f"import os, pickle, sys; {child}"])
    with pytest.raises(ExportError) as caught:
        list(converters.convert_all([CONV] * 5, 2, TINY, 10, "fp32"))
    assert str(caught.value) == sentence


def test_an_error_in_a_process_is_raised_here(monkeypatch):
    child = "import os, pickle; os.write(1, pickle.dumps(b'first') + pickle.dumps(MemoryError())); input()"
    monkeypatch.setattr(converters, "COMMAND", [sys.executable, "-c", child])
    made = converters.convert_all([CONV] * 50, 1, TINY, 10, "fp32")
    assert next(made) == b"first"
    with pytest.raises(MemoryError):
        next(made)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_the_fastest_settings_are_kept():
    from ofa_tf.latency.device import Timing

    speeds = {(1, "none"): 3.0, (1, "xnnpack"): 2.0, (2, "none"): 1.5, (2, "xnnpack"): 2.5}
    notes = []

    class Fake:
        def __init__(self, settings):
            self.speed = speeds[settings.threads, settings.delegate]

        def measure(self, workloads):
            import numpy as np

            return [Timing(np.full(3, self.speed)) for _ in workloads]

    class Noting(Progress):
        def note(self, text):
            notes.append(text)

    assert fastest(Fake, Settings(), [b"a", b"b"], (1, 2), Noting()) == Settings(2, "none")
    assert fastest(Fake, Settings(delegate="xnnpack"), [b"a"], (1, 2)) == Settings(1, "xnnpack")
    assert fastest(Fake, Settings(threads=1), [b"a"], (1, 2)) == Settings(1, "xnnpack")
    assert notes[0].startswith("Mean latency of 2 subnets with 1 thread, delegate none: 3 ms")


def test_auto_measures_a_table_of_the_fastest(ofa, workdir, table_file, monkeypatch):
    monkeypatch.setattr("ofa_tf.latency.host.n_cores", lambda: 1)
    kept = table_file.read_bytes()
    run = ofa("lut", "build", "--workdir", workdir, "--runtime", "auto", "--resolution", 24, "--validate", 3)
    assert run.code == 0, run.err
    assert "Mean latency of 5 subnets with 1 thread, delegate none:" in run.err
    assert "Error on 3 whole subnets, measured only for this" in run.out
    chosen = Path(run.out.split(": ")[0])
    assert "1t-xnnpack" in chosen.name or "1t-none" in chosen.name
    if chosen != table_file:
        assert table_file.read_bytes() == kept
    assert not list(workdir.glob("lut/*.journal"))


def test_a_resolution_is_added_to_the_table(ofa, workdir, table_file):
    config = Workdir(workdir).config()
    before = LatencyTable.load(table_file)
    run = ofa("lut", "build", "--workdir", workdir, "--resolution", 24)
    assert run.code == 0, run.err
    after = LatencyTable.load(table_file)
    assert set(after.entries) == set(before.entries)
    assert after.resolutions(config.space, len(CLASSES)) == [24, 32]


# --- showing, importing, merging --------------------------------------------------------------------------------------


def test_where_the_time_goes_adds_up(workdir, table_file):
    config, table = Workdir(workdir).config(), LatencyTable.load(table_file)
    shares = time_shares(table, config.space, len(CLASSES))
    costs = table.costs(config.space, len(CLASSES))
    for name, arch in (("smallest", config.space.smallest(32)), ("largest", config.space.largest(32))):
        assert sum(shares[name].values()) == pytest.approx(costs(config.space.encode([arch]))[0])
    assert list(shares["typical"]) == ["stem", "first", "stage 1", "stage 2", "head", "rest"]
    for part in shares["typical"]:
        assert shares["smallest"][part] <= shares["typical"][part] + 1e-12


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_show_draws_where_the_time_goes(ofa, workdir, table_file, suffix, magic):
    run = ofa("lut", "show", table_file, "--workdir", workdir, "--plot", f"shares.{suffix}")
    assert run.code == 0, run.err
    assert "Where the time goes" in run.out
    assert Path(f"shares.{suffix}").read_bytes().startswith(magic)
    answer = json.loads(ofa("lut", "show", table_file, "--workdir", workdir, "--json").out)
    assert answer["shares_ms"]["largest"]["stem"] > 0


def test_show_takes_the_name_of_a_device(ofa, workdir, table_file):
    by_file = ofa("lut", "show", table_file, "--workdir", workdir)
    for name in ("host", table_file.name, table_file.stem):
        run = ofa("lut", "show", name, "--workdir", workdir)
        assert (run.code, run.out) == (0, by_file.out), run.err
    slow = dataclasses.replace(LatencyTable.load(table_file), precision="fp32")
    slow.save(table_file.with_name("slow.json"))
    assert ofa("lut", "show", "host", "--workdir", workdir).out == by_file.out
    run = ofa("lut", "show", "host", "--precision", "fp32", "--workdir", workdir)
    assert "slow.json: host (fp32, measured)" in run.out
    table_file.unlink()
    assert ofa("lut", "show", "host", "--workdir", workdir).out == run.out, "the only one that it has"
    shown = api.open(workdir, progress=None).lut.show("host")
    assert (shown.path.name, shown.table.precision) == ("slow.json", "fp32")


def test_show_takes_the_fastest_table_as_a_search_does(ofa, workdir, table_file):
    table = LatencyTable.load(table_file)
    entries = {key: {**entry, table.statistic: entry[table.statistic] / 2} for key, entry in table.entries.items()}
    runtime = {**table.runtime, "threads": 2}
    dataclasses.replace(table, entries=entries, runtime=runtime).save(table_file.with_name("fast.json"))
    assert "fast.json: host" in ofa("lut", "show", "host", "--workdir", workdir).out


def test_show_of_shipped_tables_needs_no_workdir(ofa, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "edgetpu (int8, modelled)" in ofa("lut", "show", "edgetpu").out
    assert_refused(ofa("lut", "show", "host"), "no table of this machine yet", "`ofa-tf lut build`")
    assert_refused(ofa("lut", "show", "edgetpu", "--precision", "fp32"), "no fp32 table", "--precision fp32`")
    assert not list(tmp_path.iterdir())


def test_show_says_what_there_is(ofa, workdir, table_file):
    show = ["lut", "show", "--workdir", workdir]
    assert_refused(ofa(*show, "pi4"), "'pi4' is neither a device", "edgetpu, ethos-u55-128, host")
    assert_refused(ofa(*show, "none.json"), "'none.json' does not exist", "edgetpu, ethos-u55-128, host")
    shutil.copy(table_file, "pi4")
    assert ofa(*show, "pi4").out.startswith("pi4: host"), "a file of any name"
    shutil.copy(table_file, "host")
    assert ofa(*show, "host").out.startswith(str(table_file)), "a device goes before a file"
    assert ofa(*show, "./host").out.startswith("host: host"), "but for its path"


def test_show_of_a_table_that_fits_no_space(ofa, workdir, table_file):
    document = read_json(table_file)
    document["entries"] = dict(list(document["entries"].items())[:2])
    write_json("part.json", document)
    run = ofa("lut", "show", "part.json", "--workdir", workdir)
    assert run.code == 0
    assert "Where the time goes" not in run.out
    assert_refused(ofa("lut", "show", "part.json", "--workdir", workdir, "--plot", "a.png"), "covers no space in full")
    show = ["lut", "show", table_file, "--workdir", workdir]
    assert_refused(ofa(*show, "--plot", "a.jpg"), "'a.jpg' must be a file named *.png or *.svg")


def move_to_another_machine(table_file: Path) -> None:
    """Lets a host's table be of another machine, as if its workdir had been copied from there."""
    document = read_json(table_file)
    document["device"] |= {"model": "aarch64", "soc": "Raspberry Pi 5 Model B"}
    write_json(table_file, document)


def test_a_table_is_taken_over_from_another_machine(ofa, workdir, table_file):
    theirs = shutil.copy(table_file, "theirs.json")
    move_to_another_machine(Path(theirs))
    before = contents(workdir)
    run = ofa("lut", "import", theirs, "--as", "pi5", "--workdir", workdir)
    assert run.code == 0, run.err
    assert set(contents(workdir)) - set(before) == {f"lut/{Path(run.out.split(': ')[0]).name}"}
    found = json.loads(ofa("search", "--workdir", workdir, "--device", "pi5", "--latency", 1000, "--json").out)
    assert [latency["device"] for latency in found["choices"][0]["latencies"]] == ["pi5 (int8, measured)"]
    assert_refused(ofa("lut", "import", theirs, "--as", "pi5", "--workdir", workdir), "replace it with --force")
    assert ofa("lut", "import", theirs, "--as", "pi5", "--workdir", workdir, "--force").code == 0
    run = ofa("lut", "import", theirs, "--workdir", workdir)
    assert "host-raspberry-pi-5-model-b (int8, measured)" in run.out


@pytest.mark.parametrize("name", ["host", "adb", "adb:R58", "edgetpu", " ", ""])
def test_a_table_cannot_take_the_name_of_a_device_at_hand(ofa, workdir, table_file, name):
    before = contents(workdir)
    assert_refused(ofa("lut", "import", table_file, "--as", name, "--workdir", workdir), f"cannot be called {name!r}")
    assert contents(workdir) == before


def test_the_host_of_another_machine_is_another_device(ofa, workdir, table_file):
    move_to_another_machine(table_file)
    name = "host-raspberry-pi-5-model-b"
    run = ofa("lut", "list", "--workdir", workdir)
    assert f"{name} " in run.out
    assert "There is no table of this machine yet" in run.out
    assert name in ofa("lut", "show", table_file, "--workdir", workdir).out
    assert_refused(ofa("lut", "validate", "--workdir", workdir), "There is no int8 table of this machine")
    assert_refused(ofa("lut", "validate", "--workdir", workdir, "--device", name), "cannot be measured from here")
    assert ofa("search", "--workdir", workdir, "--device", name, "--latency", 1000).code == 0


def test_other_cores_are_another_table(ofa, workdir, table_file):
    """As older versions wrote them: a table of other cores under the name of one of any."""
    document = read_json(table_file)
    document["device"]["cores"] = [999]
    write_json(table_file, document)
    run = ofa("lut", "build", "--workdir", workdir, "--resolution", 24)
    assert run.code == 0, run.err
    assert "was measured on other cores: it is kept as" in run.err
    (kept,) = workdir.glob("lut/host__*-cores-999__int8.json")
    assert read_json(kept)["entries"] == document["entries"]
    assert LatencyTable.load(table_file).resolutions(Workdir(workdir).config().space, len(CLASSES)) == [24]


def test_measuring_here_keeps_the_table_of_another_machine(ofa, workdir, table_file):
    move_to_another_machine(table_file)
    theirs = LatencyTable.load(table_file)
    run = ofa("lut", "build", "--workdir", workdir, "--resolution", 24)
    assert run.code == 0, run.err
    assert "was measured on another machine" in run.err
    ours = LatencyTable.load(table_file)
    assert ours.device["soc"] != theirs.device["soc"]
    assert ours.resolutions(Workdir(workdir).config().space, len(CLASSES)) == [24], "nothing of theirs is in it"
    (kept,) = workdir.glob("lut/host-raspberry-pi-5-model-b__*.json")
    assert LatencyTable.load(kept).entries == theirs.entries


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["entries"].clear(), "lacks the block"),
        (lambda d: next(iter(d["entries"].values())).update(p10_ms=float("nan")), "is not valid JSON"),
        (lambda d: next(iter(d["entries"].values())).update(p10_ms=-1), "must be a number from 0"),
        (lambda d: next(iter(d["entries"].values())).update(volts=3), "volts"),
        (lambda d: next(iter(d["entries"].values())).pop("p10_ms"), "p10_ms"),
        (lambda d: d.update(schema=2), "schema"),
        (lambda d: d.update(colour="red"), "colour"),
    ],
    ids=["empty", "nan", "negative", "surplus", "missing", "schema", "key"],
)
def test_a_table_that_is_none_is_not_taken_over(ofa, workdir, table_file, change, said):
    document = json.loads(table_file.read_text())
    document["statistic"] = "p10_ms"
    document["device"]["name"] = "pi5"
    change(document)
    Path("theirs.json").write_text(json.dumps(document))
    before = contents(workdir)
    assert_refused(ofa("lut", "import", "theirs.json", "--workdir", workdir), said)
    assert contents(workdir) == before


def test_tables_of_two_resolutions_are_merged(ofa, workdir, table_file):
    table = LatencyTable.load(table_file)
    half = len(table.entries) // 2
    items = list(table.entries.items())
    for name, part in (("a.json", items[: half + 3]), ("b.json", items[half:])):
        dataclasses.replace(table, entries=dict(part)).save(name)
    run = ofa("lut", "merge", "a.json", "b.json", "--out", "both.json")
    assert run.code == 0, run.err
    assert LatencyTable.load("both.json") == dataclasses.replace(table, validation=None)
    assert_refused(ofa("lut", "merge", "a.json", "none.json", "--out", "c.json"), "none.json")


@pytest.mark.parametrize("name", ["device", "runtime", "precision", "source", "calibration"])
def test_tables_of_different_things_are_not_merged(table_file, name):
    table = LatencyTable.load(table_file)
    other = {
        "device": {"name": "other"},
        "runtime": {**table.runtime, "threads": 9},
        "precision": "fp32",
        "source": "imported",
        "calibration": None,
    }[name]
    with pytest.raises(TableError, match=f"differ in `{name}` and cannot be merged"):
        merge_tables([table, dataclasses.replace(table, **{name: other})])
