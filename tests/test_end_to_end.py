"""The main job through the command line: one short training, then table, predictor, search, files."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from ofa_tf.cli.main import main
from PIL import Image

from ofa_tf.blocks import count_macs, walk
from ofa_tf.data.folder import decode
from ofa_tf.jsonio import read_json, write_json
from ofa_tf.latency.device import HostDevice
from ofa_tf.spaces import TINY

COLOURS = {"blue": (20, 40, 220), "green": (30, 200, 40), "red": (220, 30, 30)}
RECIPE = {
    "name": "short",
    "batch": 16,
    "phases": [
        {"stage": "full", "epochs": 4, "warmup_epochs": 0, "base_lr": 0.2},
        {"stage": "kernel", "epochs": 1, "warmup_epochs": 0, "base_lr": 0.1},
        {"stage": "depth", "epochs": 1, "warmup_epochs": 0, "base_lr": 0.1, "subnets": 2},
        {"stage": "width", "epochs": 2, "warmup_epochs": 0, "base_lr": 0.1, "subnets": 2},
    ],
    "augment": {"area": [0.6, 1.0], "aspect": [0.9, 1.1], "flip": True},
}


def run(*arguments) -> int:
    """Exit status of a command run in this process."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Noisy pictures of three colours: what a network must learn is there, and quick to learn."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", 60), ("val", 12)):
        for name, colour in COLOURS.items():
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(np.array(colour) + rng.normal(0, 40, (36, 40, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def project(images, tmp_path_factory):
    """A workdir with everything done once."""
    patch = pytest.MonkeyPatch()
    patch.setattr(HostDevice.__init__, "__defaults__", (1, "none", 0.2, 4, 2))
    folder = tmp_path_factory.mktemp("project")
    write_json(folder / "recipe.json", RECIPE)
    workdir = folder / "work"
    assert run("train", "--stage", "width", "-w", workdir, "--data", images, "--recipe", folder / "recipe.json") == 0
    assert run("lut", "build", "-w", workdir) == 0
    assert run("predictor", "fit", "-w", workdir, "--archs", 12) == 0
    yield workdir
    patch.undo()


def budget_of(project, capsys, share=0.5) -> float:
    """A budget between the fastest and the slowest subnet."""
    from ofa_tf.latency.store import list_tables

    table = next(table for path, table in list_tables(project / "lut") if project in path.parents)
    costs = table.costs(TINY, len(COLOURS))
    fastest, slowest = costs(costs.cheapest()[None])[0], costs(TINY.encode([TINY.largest()]))[0]
    capsys.readouterr()
    return float(fastest + share * (slowest - fastest))


def test_missing_stages_were_trained_and_recorded(project):
    stages = read_json(project / "ledger.json")["stages"]
    assert list(stages) == ["full", "kernel", "depth", "width"]
    assert all(record["state"] == "done" and record["step"] == record["steps"] > 0 for record in stages.values())
    assert stages["width"]["metrics"]["largest_accuracy"] > 0.6


def test_trained_stages_are_not_trained_again(project, capsys):
    assert run("train", "--stage", "width", "-w", project, "--json") == 0
    assert json.loads(capsys.readouterr().out)["traces"] == 0


def test_search_and_export_give_a_true_integer_file(project, images, capsys):
    from ai_edge_litert.interpreter import Interpreter

    budget = budget_of(project, capsys)
    assert run("search", "-w", project, "--latency", budget, "--json") == 0
    (choice,) = json.loads(capsys.readouterr().out)["choices"]
    assert 0 < choice["predicted_ms"] <= budget

    assert run("export", "-w", project, "--latency", budget, "--name", "first", "--json") == 0
    (facts,) = json.loads(capsys.readouterr().out)["exports"]
    folder = project / "exports" / "first"
    assert sorted(path.name for path in folder.iterdir()) == [
        "arch.json",
        "labels.txt",
        "manifest.json",
        "model.tflite",
    ]
    content, manifest = (folder / "model.tflite").read_bytes(), read_json(folder / "manifest.json")
    arch = TINY.arch_from_document(read_json(folder / "arch.json"))
    assert arch.to_document() == choice["arch"] == manifest["arch"]
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest()
    assert facts["size_bytes"] == manifest["size_bytes"] == len(content)
    assert facts["n_macs"] == count_macs(walk(TINY, arch, len(COLOURS)))
    assert (folder / "labels.txt").read_text().split() == sorted(COLOURS)

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    assert {details["dtype"] for details in interpreter.get_tensor_details()} <= {np.int8, np.int32}
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert list(given["shape"]) == [1, arch.resolution, arch.resolution, 3]
    scale, zero_point = given["quantization"]
    right = []
    for label, name in enumerate(sorted(COLOURS)):
        for path in sorted((images / "val" / name).iterdir()):
            pixels = decode(path, TINY.resolutions[-1])
            if arch.resolution != pixels.shape[0]:
                continue
            values = (pixels.astype(np.float32) - 128) / 128
            interpreter.set_tensor(
                given["index"], np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8)[None]
            )
            interpreter.invoke()
            right.append(interpreter.get_tensor(answer["index"])[0].argmax() == label)
    if right:
        assert facts["int8_accuracy"] == pytest.approx(np.mean(right))
    assert manifest["measured_ms"] > 0
    assert manifest["table_source"] == "measured"
    assert 0.5 < manifest["agreement"] <= 1


def test_largest_arch_from_a_file_at_full_resolution(project, tmp_path, capsys):
    write_json(tmp_path / "arch.json", TINY.largest().to_document())
    assert run("export", "-w", project, "--arch", tmp_path / "arch.json", "--name", "second", "--json") == 0
    (facts,) = json.loads(capsys.readouterr().out)["exports"]
    assert facts["budget_ms"] is None
    assert facts["n_macs"] == count_macs(walk(TINY, TINY.largest(), len(COLOURS)))
    first = (project / "exports" / "second" / "model.tflite").read_bytes()
    assert run("export", "-w", project, "--arch", tmp_path / "arch.json", "--name", "second") == 2
    assert "exists" in capsys.readouterr().err
    assert run("export", "-w", project, "--arch", tmp_path / "arch.json", "--name", "second", "--force") == 0
    assert (project / "exports" / "second" / "model.tflite").read_bytes() == first, "the same arch gives the same bytes"
    assert not [path for path in (project / "exports").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float_files(project, tmp_path, capsys, precision):
    write_json(tmp_path / "arch.json", TINY.smallest().to_document())
    arguments = ["-w", project, "--arch", tmp_path / "arch.json", "--precision", precision, "--name", precision]
    assert run("export", *arguments, "--json") == 0
    capsys.readouterr()
    manifest = read_json(project / "exports" / precision / "manifest.json")
    assert manifest["input_quantization"] is None
    assert manifest["agreement"] > 0.95
    assert manifest["file_accuracy"] == pytest.approx(manifest["float_accuracy"], abs=0.06)


def test_unreachable_budget_names_the_fastest(project, capsys):
    budget_of(project, capsys)
    assert run("search", "-w", project, "--latency", "0.000001") == 2
    said = capsys.readouterr().err
    assert "24 px" in said
    assert " ms" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--stage", "wide"], "'wide'"),
        (["train", "--space", "nosuch"], "nosuch"),
        (["train", "--data", "nosuch"], "nosuch"),
        (["train", "--recipe", "nosuch"], "nosuch"),
        (["search", "--latency", "fast"], "fast"),
        (["search", "--latency", "-1"], "-1"),
        (["search", "--latency", "nan"], "nan"),
        (["export"], "--latency"),
        (["export", "--latency", "1"], "train"),
        (["lut", "show", "nosuch.json"], "nosuch.json"),
        (["nosuch"], "nosuch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_the_user_got_wrong_is_named(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("option", [["--space", "edge"], ["--seed", "7"], ["--data", "digits"], ["--recipe", "demo"]])
def test_workdir_of_something_else_is_refused(project, capsys, option):
    before = (project / "config.json").read_bytes()
    assert run("train", "-w", project, *option) == 2
    assert option[0] in capsys.readouterr().err
    assert (project / "config.json").read_bytes() == before


def test_unknown_device_is_named(project, capsys):
    assert run("search", "-w", project, "--device", "toaster", "--latency", "1") == 2
    assert "toaster" in capsys.readouterr().err


def test_newer_workdir_is_refused(project, tmp_path, capsys):
    config = json.loads((project / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "schema": 2}))
    assert run("train", "-w", tmp_path) == 2
    assert "newer" in capsys.readouterr().err


def test_json_is_all_that_standard_output_gets(project):
    run = subprocess.run(
        [sys.executable, "-m", "ofa_tf.cli", "train", "-w", str(project), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(json.loads(run.stdout)) == {"stages", "traces"}
    assert "WARNING" not in run.stderr
    assert "oneDNN" not in run.stderr
