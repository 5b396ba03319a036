"""The command line: what it lists, what it answers to bad input, and that it says nothing else."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import EXPORT, HOST_TABLE, OFA, SEARCH, assert_refused, contents
from ofa_tf.cli.common import print_table
from ofa_tf.cli.main import COMMANDS

from ofa_tf._version import VERSION
from ofa_tf.jsonio import read_json, read_object, write_json

# --- help -------------------------------------------------------------------------------------------------------------


def test_help_lists_every_command_with_what_it_does(ofa):
    run = ofa("--help")
    assert (run.code, run.err) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\w+", run.out, re.MULTILINE)
        assert ofa(name, "--help").code == 0


def test_without_arguments_it_helps(ofa):
    for arguments in ((), ("lut",), ("predictor",)):
        run = ofa(*arguments)
        assert run.code == 2
        assert "Commands:" in run.err + run.out


def test_version(ofa):
    assert ofa("--version").out.split()[-1] == VERSION


# --- wrong usage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fly"], ["'fly'", *COMMANDS]),
        (["lut", "fly"], ["'fly'", "build", "list", "show"]),
        (["train", "--wings"], ["'--wings'", "--stage", "--workdir"]),
        (["train", "fast"], ["(fast)", "--stage"]),
        (["train", "--stage", "fly"], ["'--stage'", "'fly'", "'full', 'kernel', 'depth', 'width', 'all'"]),
        (["train", "--seed", "-1"], ["'--seed'", "'-1'", "from 0 to"]),
        (["train", "--seed", "x"], ["'--seed'", "'x'", "a whole number from 0 to"]),
        (["train", "--seed", str(2**31)], ["'--seed'", str(2**31), "from 0 to"]),
        (["predictor", "fit", "--archs", "9"], ["'--archs'", "'9'", "from 10 to"]),
        (["lut", "build", "--resolution", "big"], ["'--resolution'", "'big'", "whole number"]),
        (["lut", "build", "--precision", "int4"], ["'--precision'", "'int4'", "'int8', 'fp16', 'fp32'"]),
        (["lut", "show"], ["FILE"]),
        (["lut", "show", "none.json"], ["none.json", "does not exist"]),
        (["lut", "show", "."], ["'.'", "is a directory"]),
        (["search"], ["'--latency'", "positive number of milliseconds"]),
        (["search", "--latency"], ["'--latency'", "requires an argument"]),
        (["search", "--latency", "1", "--out", "."], ["'--out'", "'.'", "is a directory"]),
        (["export"], ["--latency MS", "--arch FILE"]),
        (["export", "--latency", "1", "--arch", "a.json"], ["--latency MS", "--arch FILE"]),
        *(
            (["export", "--latency", value], ["'--latency'", repr(value), "positive number of milliseconds"])
            for value in ("0", "-1", "nan", "inf", "-inf", "fast", "", "1e-400", "1e999")
        ),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_usage_is_one_sentence(ofa, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    run = ofa(*arguments)
    assert_refused(run, *said)
    assert len(run.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


# --- names and workdirs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [
        ("space", "huge", ["edge", "mobilenet_v3", "proxyless", "tiny", "JSON file"]),
        ("space", "none.json", ["tiny", "JSON file"]),
        ("data", "cifar", ["digits", "train/<class>/*.jpg"]),
        ("recipe", "cake", ["demo", "imagenet", "JSON file"]),
        ("recipe", "none.json", ["demo", "JSON file"]),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(ofa, tmp_path, monkeypatch, option, value, known):
    monkeypatch.chdir(tmp_path)
    assert_refused(ofa("train", "--workdir", "new", f"--{option}", value), repr(value), *known)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["space", "recipe"])
@pytest.mark.parametrize(
    ("content", "said"), [("[]", "a JSON object"), ('{"schema": 1, "x": 2}', "'x'"), ("{", "JSON")]
)
def test_a_space_or_recipe_file_that_is_none_is_named(ofa, tmp_path, monkeypatch, option, content, said):
    monkeypatch.chdir(tmp_path)
    Path("mine.json").write_text(content)
    assert_refused(ofa("train", "--workdir", "new", f"--{option}", "mine.json"), "mine.json", said)
    assert not Path("new").exists()


@pytest.mark.parametrize("command", ["search", "export", "predictor fit", "predictor show", "lut build"])
def test_a_folder_that_is_no_workdir_is_refused(ofa, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    more = ["--latency", "1"] if command in ("search", "export") else []
    assert_refused(ofa(*command.split(), "--workdir", "new", *more), "new is not a workdir yet", "`ofa-tf train`")
    assert not Path("new").exists()


def test_a_workdir_that_is_a_file_or_inside_one_is_refused(ofa, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("precious")
    assert_refused(ofa("train", "--workdir", "file"), "The workdir file is not a folder")
    assert_refused(ofa("train", "--workdir", "file/sub"), "file/sub")
    assert contents(".") == {"file": b"precious"}


@pytest.mark.parametrize(
    ("option", "value", "here"), [("space", "edge", "small"), ("recipe", "demo", "few"), ("seed", "7", "0")]
)
def test_a_workdir_of_something_else_is_refused(ofa, workdir, option, value, here):
    before = contents(workdir)
    said = f"made with --{option} {here}, not {value}"
    assert_refused(ofa("train", "--workdir", workdir, f"--{option}", value), said, "another --workdir")
    assert contents(workdir) == before


def test_a_workdir_of_other_images_is_refused(ofa, workdir, image_folder):
    assert_refused(ofa("train", "--workdir", workdir, "--data", "digits"), f"--data {image_folder}", "not digits")
    assert_refused(ofa("train", "--workdir", workdir, "--data", workdir), f"--data {image_folder}", f"not {workdir}")
    assert ofa("train", "--workdir", workdir, "--data", image_folder).code == 0


def newer(path):
    write_json(path, {**read_object(path), "schema": 9})


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def binary(path):
    path.write_bytes(b"\xff\xfe\0{}")


def other_key(path):
    write_json(path, {**read_object(path), "surprise": 1})


def folder_instead(path):
    path.unlink()
    path.mkdir()


TRAIN = ["train", "--workdir", "work"]


@pytest.mark.parametrize("damage", [newer, cut, empty, binary, other_key, folder_instead])
@pytest.mark.parametrize(
    ("file", "command", "hint"),
    [
        ("config.json", SEARCH, ""),
        ("ledger.json", TRAIN, ""),
        (HOST_TABLE, SEARCH, "`ofa-tf lut build`"),
        ("accuracy/predictor.json", SEARCH, "`ofa-tf predictor fit`"),
    ],
)
def test_a_damaged_file_is_named_with_what_mends_it(ofa, workdir, file, command, hint, damage):
    (path,) = workdir.glob(file)
    damage(path)
    before = contents(workdir)
    said = ["newer ofa-tf", "update this one"] if damage is newer else [hint]
    assert_refused(ofa(*command), str(path), *said)
    assert contents(workdir) == before


@pytest.mark.parametrize("damage", [cut, empty, binary])
def test_a_damaged_predictor_or_checkpoint_is_named(ofa, workdir, damage):
    damage(workdir / "accuracy" / "predictor.npz")
    assert_refused(ofa(*SEARCH), "predictor.npz", "`ofa-tf predictor fit`")
    (checkpoint,) = (workdir / "checkpoints" / "width").iterdir()
    damage(checkpoint)
    assert_refused(ofa("predictor", "fit", "--workdir", workdir), str(checkpoint), "`ofa-tf train --stage width`")


@pytest.mark.parametrize("line", ["[1]", '{"accuracy": 2.0}', "{}", "null", '{"accuracy": "x"}', "\udcff"])
def test_a_hostile_journal_is_refused_by_line(ofa, workdir, line):
    journal = workdir / "accuracy" / "pairs.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_bytes("\n".join([lines[0], line, *lines[1:], ""]).encode(errors="surrogateescape"))
    assert_refused(ofa("predictor", "fit", "--workdir", workdir), "pairs.jsonl, line 2")


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ({}, "lacks the key"),
        ([], "a JSON object"),
        ({"pairs": 9, "rmse_points": 1, "spearman": 1}, "lacks the key 'int8_drop_points'"),
        ({"pairs": "x", "rmse_points": 1, "spearman": 1, "int8_pairs": 5, "int8_drop_points": 1}, "(='x')"),
    ],
)
def test_hostile_facts_of_a_predictor_are_refused(ofa, workdir, errors, said):
    write_json(workdir / "accuracy" / "predictor.json", {"errors": errors, "target": "int8"})
    assert_refused(ofa("predictor", "show", "--workdir", workdir), "predictor.json", said)


def test_a_ledger_with_hostile_metrics(ofa, workdir):
    ledger = read_json(workdir / "ledger.json")
    ledger["stages"]["full"]["metrics"] = {}
    write_json(workdir / "ledger.json", ledger)
    assert ofa(*TRAIN).code == 0
    ledger["stages"]["full"]["metrics"] = {"largest_accuracy": "high"}
    write_json(workdir / "ledger.json", ledger)
    assert_refused(ofa(*TRAIN), "`largest_accuracy` (='high')")


def test_missing_parts_are_named_with_the_command_that_makes_them(ofa, workdir):
    shutil.rmtree(workdir / "accuracy")
    assert_refused(ofa("predictor", "show", "--workdir", workdir), "`ofa-tf predictor fit`")
    (workdir / "ledger.json").unlink()
    assert_refused(ofa(*EXPORT), "`full`", "is not trained", "`ofa-tf train --stage width`")
    shutil.rmtree(workdir / "lut")
    for command in (EXPORT, ["search", "--workdir", workdir, "--latency", 1]):
        assert_refused(ofa(*command), "`full`", "is not trained")
    assert not (workdir / "lut").exists(), "no table is measured for nothing"


# --- image folders ----------------------------------------------------------------------------------------------------


def flatten(folder):
    for path in list(folder.glob("train/*/*")):
        path.rename(folder / "train" / f"{path.parent.name}-{path.name}")


def break_images(share):
    def damage(folder):
        paths = sorted(folder.glob("train/*/*"))
        for path in paths[: round(share * len(paths))]:
            cut(path)

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: shutil.rmtree(folder / "train"), ["has no folder `train`", "train/<class>/*.jpg"]),
        (flatten, ["holds no images", "a folder of images for each class"]),
        (lambda folder: [shutil.rmtree(folder / "train" / name) for name in ("cat", "dog")], ["only the class 'fox'"]),
        (lambda folder: shutil.rmtree(folder / "train" / "cat"), ["the class 'cat', which `train` does not have"]),
        (break_images(0.05), ["6 of 120 images (5.0%) cannot be read", "cat/00.png"]),
        (lambda folder: (folder / "train/cat").rename(folder / "train" / "a\nb"), [r"'a\nb'", "rename"]),
    ],
    ids=["no train", "no classes", "one class", "class of val alone", "broken", "line break"],
)
def test_an_image_folder_that_is_none_is_refused(ofa, tmp_path, monkeypatch, image_folder, damage, said):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(image_folder, "images")
    damage(Path("images"))
    run = ofa("train", "--workdir", "new", "--data", "images")
    assert_refused(run, *said)
    assert not Path("new/config.json").exists()


def test_one_corrupt_image_in_a_hundred_is_named_counted_and_skipped(ofa, tmp_path, monkeypatch, image_folder):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(image_folder, "images")
    break_images(0.01)(Path("images"))
    monkeypatch.setattr("ofa_tf.cli.train.percent", lambda _: "-")
    monkeypatch.setattr(
        "ofa_tf.project.train.train", lambda project, *_: pytest.fail("trained") if not project.data else DONE
    )
    run = ofa("train", "--workdir", "new", "--data", "images")
    assert run.code == 0
    assert "cat/00.png cannot be read as an image" in run.err
    assert "1 of 120 images cannot be read and were skipped" in run.err


class DONE:
    stages, traces = {}, {}


# --- budgets, devices, archs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["search", "export"])
def test_a_budget_that_nothing_meets_is_answered_with_the_fastest(ofa, workdir, command):
    from ofa_tf.latency.table import LatencyTable
    from ofa_tf.project.workdir import Workdir

    space = Workdir(workdir).config().space
    costs = LatencyTable.load(*workdir.glob(HOST_TABLE)).costs(space, 3)
    fastest = costs.cheapest()
    expected = [f"{costs(fastest[None])[0]:.4g} ms", str(space.decode_one(fastest)), "1e-05 ms"]
    before = contents(workdir)
    assert_refused(ofa(command, "--workdir", workdir, "--latency", "0.00001"), *expected)
    assert contents(workdir) == before


@pytest.mark.parametrize("more", [["search", "--latency", "1"], ["export", "--latency", "1"], ["lut", "build"]])
def test_an_unknown_device_is_refused_with_the_known_ones(ofa, workdir, more):
    assert_refused(ofa(*more, "--workdir", workdir, "--device", "toaster"), "'toaster'", "host")


def test_an_unknown_device_is_refused_for_an_arch_file_too(ofa, workdir):
    arch = workdir / "exports" / "first" / "arch.json"
    assert_refused(ofa("export", "--workdir", workdir, "--arch", arch, "--device", "toaster"), "'toaster'", "host")


def test_a_resolution_that_the_space_lacks_is_refused(ofa, workdir):
    assert_refused(ofa("lut", "build", "--workdir", workdir, "--resolution", "25"), "`resolution` (=25)", "[24, 32]")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, ["There is no file arch.json"]),
        ([], ["arch.json must hold a JSON object"]),
        ({"space": "edge"}, ["arch.json is of the space 'edge'", "'small'"]),
        ({"resolution": 25}, ["`resolution` (=25)", "[24, 32]"]),
        ({"kernels": [7, 7, 7, 7]}, ["`kernels` (=[7, 7, 7, 7])", "(3, 5)"]),
        ({"depths": "deep"}, ["`depths` (='deep')"]),
        ({"extra": 1}, ["arch.json", "'extra'"]),
        ({"schema": 3}, ["arch.json has schema 3", "newer"]),
    ],
    ids=["missing", "no object", "space", "resolution", "kernels", "depths", "key", "schema"],
)
def test_an_arch_file_that_is_none_is_refused(ofa, workdir, change, said):
    document = json.loads((workdir / "exports" / "first" / "arch.json").read_text())
    if change is not None:
        Path("arch.json").write_text(json.dumps({**document, **change} if isinstance(change, dict) else change))
    assert_refused(ofa("export", "--workdir", workdir, "--arch", "arch.json"), *said)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a/", "/tmp/x", ".hidden"])
def test_an_export_stays_in_its_folder(ofa, workdir, name):
    before = contents(".")
    assert_refused(ofa(*EXPORT, "--name", name), f"--name {name!r} must be a plain folder name")
    assert contents(".") == before


def test_an_export_replaces_nothing_unasked(ofa, workdir):
    (workdir / "exports" / "mine").mkdir()
    (workdir / "exports" / "mine" / "notes.txt").write_text("precious")
    (workdir / "exports" / "file").write_text("precious")
    before = contents(workdir)
    assert_refused(ofa(*EXPORT, "--name", "first"), "exists", "--name", "--force")
    assert_refused(ofa(*EXPORT, "--name", "mine", "--force"), "is not an export of ofa-tf", "--name")
    assert_refused(ofa(*EXPORT, "--name", "file", "--force"), "is a file", "--name")
    assert contents(workdir) == before


# --- what standard output gets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["doctor"], "checks"),
        (TRAIN, "stages"),
        (["predictor", "show", "--workdir", "work"], "rmse_points"),
        (["lut", "list", "--workdir", "work"], "tables"),
        ([*SEARCH, "--latency", "999"], "choices"),
        ([*EXPORT, "--name", "[bold]new"], "exports"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_json_is_one_object_and_nothing_else(ofa, workdir, arguments, key):
    run = ofa(*arguments, "--json")
    assert (run.code, len(run.out.splitlines())) == (0, 1)
    assert key in json.loads(run.out)


def test_tables_show_names_as_they_are(ofa, workdir):
    odd = Path("é [bold] x")
    workdir.rename(odd)
    (path,) = odd.glob(HOST_TABLE)
    table = read_json(path)
    table["device"]["name"] = "[/red] :smile:"
    write_json(path, table)
    out = ofa("lut", "list", "--workdir", odd).out
    assert str(path) in out
    assert "[/red] :smile:" in out
    assert str(path) in ofa("lut", "show", path).out


def test_a_list_without_a_table_of_this_machine_says_what_makes_one(ofa, tmp_path):
    assert "`ofa-tf lut build`" in ofa("lut", "list", "--workdir", tmp_path).out
    shipped = json.loads(ofa("lut", "list", "--workdir", tmp_path, "--json").out)["tables"]
    assert {table["device"]["name"] for table in shipped} == {"edgetpu", "ethos-u55-128"}
    assert {table["source"] for table in shipped} == {"modelled"}


@pytest.mark.parametrize("width", [200, 60, 20])
def test_a_table_is_read_row_by_row_where_the_terminal_is_narrow(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    columns, path = ["budget", "accuracy", "size", "MACs", "file"], "work/exports/host-1ms-int8/[x]/model.tflite"
    print_table(columns, [("1 ms", "98 %", "80 kB", "1.3 M", path), ("2 ms", "99 %", "90 kB", "1.5 M", path)], "Title")
    lines = capsys.readouterr().out.splitlines()
    assert "Title" in lines[0]
    assert sum(path in line for line in lines) == 2
    assert ("    file: " + path in lines) == (width < 200)


def shell(command: str, **environment) -> subprocess.CompletedProcess:
    words = {"OFA": " ".join(f"'{word}'" for word in OFA)}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command.replace('OFA', words['OFA'])}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_streams_that_are_closed_full_or_poor_in_letters(workdir):
    head = shell("OFA doctor | head -1")
    assert (head.returncode, len(head.stdout.splitlines()), head.stderr) in ((0, 1, ""), (2, 1, ""))
    assert shell("OFA doctor | true").stderr == ""
    assert (shell("OFA doctor >&-").returncode, shell("OFA doctor >&-").stderr) == (0, "")
    assert shell("OFA doctor 2>&-").returncode == 0
    assert shell("OFA fly 2>&-").returncode == 2
    full = shell("OFA doctor > /dev/full")
    assert (full.returncode, len(full.stderr.splitlines())) == (2, 1)
    assert full.stderr.startswith("Error: The disk is full: make room")
    workdir.rename("é")
    poor = shell("OFA lut list --workdir é", PYTHONIOENCODING="ascii")
    assert (poor.returncode, poor.stderr) == (0, "")
    assert "?/lut/host__" in poor.stdout


def test_a_real_process_says_nothing_but_its_answer(workdir):
    run = subprocess.run([*OFA, *SEARCH, "--json"], capture_output=True, text=True, check=True)
    assert list(json.loads(run.stdout)) == ["choices", "file"]
    assert run.stderr == "" or re.fullmatch("The predictor cannot rank subnets.*\n", run.stderr)


@pytest.mark.parametrize("arguments", [["search", "--pareto", "--plot", "front.png"], ["train", "--dry-run"]])
def test_a_notebook_of_another_environment_does_not_choose_how_to_draw(workdir, arguments):
    """Its kernel sets a matplotlib backend from a package, matplotlib-inline, that this environment lacks."""
    code = "import importlib.metadata; importlib.metadata.entry_points = lambda **_: (); "
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = [*OFA[:2], code + OFA[2], *arguments, "--workdir", "work"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "is read-only"),
        (errno.EACCES, "no permission"),
        (errno.EIO, "error"),
    ],
)
@pytest.mark.parametrize("path", ["config.json", "x" * 4000])
def test_an_error_of_the_system_is_one_sentence(ofa, monkeypatch, number, said, path):
    def fail():
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("ofa_tf.project.doctor.examine", fail)
    assert_refused(ofa("doctor"), said, f"({path})", "run the command again", "nothing was left half-written")
