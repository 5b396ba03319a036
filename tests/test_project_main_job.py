"""The main job, end to end: what each step leaves behind, and that it is true."""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import HOST_TABLE, assert_refused
from finished_workdir import CLASSES, N_TRAIN, N_VAL, space_of, write_arch
from model_files import interpreter_of
from PIL import Image

from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.atomic import remove_folders, sweep
from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.errors import ExportError, FormatError
from ofa_tf.export.verified import FileOptions
from ofa_tf.jsonio import SPACE_SCHEMA, read_json
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project.evaluator import make_evaluator
from ofa_tf.project.export import ExportOptions, export
from ofa_tf.project.opened import open_existing
from ofa_tf.tflite.run import ModelFile
from ofa_tf.training import checkpoint
from ofa_tf.training.ledger import StageRecord
from ofa_tf.training.recipe import STAGES

OPERATORS = {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED"}


def count_macs_of_file(content: bytes) -> int:
    """Multiply-accumulates, from the shapes of the tensors of each operator."""
    interpreter = interpreter_of(content)
    shapes = {tensor["index"]: tensor["shape"] for tensor in interpreter.get_tensor_details()}
    total = 0
    for operator in interpreter._get_ops_details():
        if operator["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            weights, output = shapes[operator["inputs"][1]], shapes[operator["outputs"][0]]
            # Convolutions hold (out, height, width, in), depthwise ones (1, height, width, channels).
            per_output = weights[1:3].prod() if operator["op_name"] == "DEPTHWISE_CONV_2D" else weights[1:].prod()
            total += int(output.prod() * per_output)
    return total


def accuracy_of_file(folder: Path, images: Path) -> float:
    """Share of images that the file puts into the class of their folder; by the manifest's word alone."""
    content, manifest = (folder / "model.tflite").read_bytes(), read_json(folder / "manifest.json")
    labels = (folder / "labels.txt").read_text().splitlines()
    mean, std, given = *manifest["preprocessing"].values(), manifest["input_quantization"]
    interpreter = interpreter_of(content)
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    right = []
    for path in sorted(images.glob("*/*")):
        values = (np.asarray(Image.open(path), np.float64) - mean) / std
        if given is not None:
            values = np.clip(np.round(values / given["scale"] + given["zero_point"]), -128, 127)
        interpreter.set_tensor(source["index"], values[None].astype(source["dtype"]))
        interpreter.invoke()
        right.append(labels[int(interpreter.get_tensor(target["index"])[0].argmax())] == path.parent.name)
    return float(np.mean(right))


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_training(monkeypatch):
    """Stages are recorded instead of trained."""
    trained = []

    class Trainer:
        def __init__(self, workdir, *_):
            self.workdir, self.ledger, self.traces = workdir, workdir.ledger(), {"accumulate": 1}

        def train(self, stage):
            trained.append(stage)
            checkpoint.save(self.workdir.checkpoints(stage), 1, {})
            self.ledger.record(stage, StageRecord("done", 1, 1, {"smallest_accuracy": 0.5, "largest_accuracy": 0.6}))

    monkeypatch.setattr("ofa_tf.project.train.Trainer", Trainer)
    return trained


def test_missing_stages_are_trained_first_and_said(ofa, tmp_path, no_training):
    run = ofa("train", "--workdir", tmp_path / "work", "--stage", "depth", "--json")
    assert run.code == 0
    assert "Stage `depth` needs full, kernel first: training them now." in run.err
    assert no_training == ["full", "kernel", "depth"]
    assert list(json.loads(run.out)["stages"]) == ["full", "kernel", "depth"]
    run = ofa("train", "--workdir", tmp_path / "work", "--json")
    assert "needs" not in run.err
    assert no_training == list(STAGES)
    assert json.loads(run.out)["traces"] == 1
    run = ofa("train", "--workdir", tmp_path / "work", "--stage", "kernel", "--json")
    assert (run.err, json.loads(run.out)["traces"]) == ("", 0)
    assert no_training == list(STAGES)


@pytest.mark.parametrize(("stage", "trained"), [("kernel", ["kernel"]), ("all", list(STAGES))])
def test_restart_trains_what_it_is_told_to(ofa, workdir, no_training, stage, trained):
    assert ofa("train", "--workdir", workdir, "--stage", stage, "--restart").code == 0
    assert no_training == trained
    fresh = {path.parent.name for path in (workdir / "checkpoints").glob("*/step-00000001.npz")}
    assert fresh == set(trained)
    assert len(list((workdir / "checkpoints").glob("*/*.npz"))) == len(STAGES)


@pytest.mark.parametrize("moved", range(2 * len(STAGES) + 2))
def test_a_restart_that_is_killed_leaves_no_weights_to_go_on_from(workdir, no_training, ofa, monkeypatch, moved):
    """It may end between any two folders: what is done then still has its end, and nothing else goes on."""

    def die(paths):
        for path in list(paths)[:moved]:
            if path.exists():
                os.rename(path, f"{path}.gone")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ofa_tf.project.train.remove_folders", die)
        run = ofa("train", "--workdir", workdir, "--stage", "all", "--restart")
    assert run.code == 130
    assert "the same command (without --restart if it has begun to train) resumes where it left off" in run.last
    assert no_training == []
    ledger = read_json(workdir / "ledger.json")["stages"]
    assert [record["state"] for record in ledger.values()] == ["done"] * len(STAGES)
    run = ofa("train", "--workdir", workdir, "--stage", "all")
    assert run.code == 0, run.err
    end_is_there = moved <= 2 * len(STAGES) - 2  # the folder before the last is that of the last checkpoint
    assert no_training == ([] if end_is_there else list(STAGES))
    assert ofa("train", "--workdir", workdir, "--stage", "all", "--restart").code == 0
    assert no_training[-len(STAGES) :] == list(STAGES)


def test_accuracies_belong_to_the_last_stage(workdir, no_training, ofa):
    before = {path: path.read_bytes() for path in (workdir / "accuracy").iterdir()}
    run = ofa("train", "--workdir", workdir, "--stage", "kernel", "--restart")
    assert (run.code, no_training) == (0, ["kernel"])
    assert "are removed" not in run.err
    assert {path: path.read_bytes() for path in (workdir / "accuracy").iterdir()} == before


def test_a_folder_is_removed_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    remove_folders([folder])
    folder.mkdir()
    (folder / "file").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # a process killed before it
        remove_folders([folder])
    assert not folder.exists()
    (left,) = tmp_path.iterdir()
    sweep(tmp_path, folders=True)
    assert not left.exists()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to("elsewhere")
    remove_folders([folder])
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_of_several_folders_none_is_removed_where_one_cannot_be(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in "abc"]
    for folder in (folders[0], folders[2]):
        folder.mkdir()
    rename = os.rename

    def refuse(source, target):
        if Path(source) == folders[2]:
            raise OSError(errno.EBUSY, "Device or resource busy", str(source))
        rename(source, target)

    monkeypatch.setattr("os.rename", refuse)
    with pytest.raises(OSError, match="busy"):
        remove_folders(folders)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def test_the_stages_are_recorded_with_what_they_reached(finished):
    stages = read_json(finished / "ledger.json")["stages"]
    assert [(name, record["state"], record["step"]) for name, record in stages.items()] == [
        ("full", "done", 15), ("kernel", "done", 3), ("depth", "done", 2), ("width", "done", 2)
    ]  # fmt: skip
    for name, record in stages.items():
        assert "largest_accuracy" in record["metrics"]
        trained = name != "full"  # the smaller ones are not, after the first stage
        assert all((f"{probe}_accuracy" in record["metrics"]) == trained for probe in ("smallest", "random4"))
        assert all(0 <= value <= 1 for value in record["metrics"].values())


# --- predictor, table, search -----------------------------------------------------------------------------------------


def test_predictor_and_table_are_there_and_fit_the_workdir(finished):
    lines = [json.loads(line) for line in (finished / "accuracy" / "pairs.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert read_json(finished / "accuracy" / "predictor.json")["errors"]["pairs"] == 12
    space = space_of(finished)
    table = LatencyTable.load(*finished.glob(HOST_TABLE))
    assert table.source == "measured"
    assert table.resolutions(space, len(CLASSES)) == list(space.resolutions)
    assert table.calibration is not None
    assert table.validation["subnets"] == 8


def test_a_table_is_validated_and_shows_it(ofa, workdir):
    (path,) = workdir.glob(HOST_TABLE)
    before = LatencyTable.load(path)
    run = ofa("lut", "validate", "--workdir", workdir, "--subnets", 3)
    assert run.code == 0, run.err
    assert "Error on 3 whole subnets, measured only for this: " in run.out
    assert ", bias " in run.out
    after = LatencyTable.load(path)
    assert (after.entries, after.calibration) == (before.entries, before.calibration)
    assert after.validation["subnets"] == 3
    space_of(workdir).arch_from_document(after.validation["worst_arch"])
    assert "measured only for this" in ofa("lut", "show", path).out
    path.unlink()
    assert_refused(ofa("lut", "validate", "--workdir", workdir), "no int8 table", "`ofa-tf lut build`")


def test_a_front_has_more_accuracy_for_more_milliseconds(ofa, workdir):
    run = ofa("search", "--workdir", workdir, "--pareto", "--json")
    assert run.code == 0, run.err
    front = json.loads(run.out)["choices"]
    assert len(front) > 3
    space, costs = (
        space_of(workdir),
        LatencyTable.load(*workdir.glob(HOST_TABLE)).costs(space_of(workdir), len(CLASSES)),
    )
    times = [choice["predicted_ms"] for choice in front]
    accuracies = [choice["predicted_accuracy"] for choice in front]
    assert times == sorted(set(times))
    assert accuracies == sorted(accuracies)
    codes = space.encode([space.arch_from_document(choice["arch"]) for choice in front])
    np.testing.assert_allclose(costs(codes), times, rtol=1e-6)
    for choice in (front[1], front[-1]):
        run = ofa("search", "--workdir", workdir, "--latency", choice["predicted_ms"] * 1.000001, "--json")
        (alone,) = json.loads(run.out)["choices"]
        assert choice["predicted_accuracy"] >= alone["predicted_accuracy"] - 5e-4
    assert "budget" not in ofa("search", "--workdir", workdir, "--pareto").out


def test_a_search_answers_with_what_the_table_says(ofa, workdir):
    space, table = space_of(workdir), LatencyTable.load(*workdir.glob(HOST_TABLE))
    costs = table.costs(space, len(CLASSES))
    fastest = float(costs(costs.cheapest()[None])[0])
    slowest = float(costs(space.encode([space.largest()]))[0])
    budgets = [fastest * 1.0001, (fastest + slowest) / 2, slowest * 2]
    run = ofa("search", "--workdir", workdir, *(f"--latency={budget}" for budget in budgets), "--json")
    choices = json.loads(run.out)["choices"]
    assert [choice["budget_ms"] for choice in choices] == budgets
    for choice in choices:
        arch = space.arch_from_document(choice["arch"])
        blocks = walk(space, arch, len(CLASSES))
        assert choice["predicted_ms"] == pytest.approx(float(costs(space.encode([arch]))[0]))
        assert choice["predicted_ms"] <= choice["budget_ms"]
        assert (choice["n_macs"], choice["n_params"]) == (count_macs(blocks), count_params(blocks))
        assert choice["predicted_ms_error"] == table.validation["mape"]
    accuracies = [choice["predicted_accuracy"] for choice in choices]
    assert accuracies == sorted(accuracies)


def test_a_search_makes_what_is_missing_and_says_so(ofa, workdir, finished, monkeypatch):
    shutil.rmtree(workdir / "lut")
    shutil.rmtree(workdir / "accuracy")
    table = LatencyTable.load(*finished.glob(HOST_TABLE))
    fitted = FittedPredictor.load(finished / "accuracy", space_of(workdir))
    monkeypatch.setattr("ofa_tf.project.lut.build_table", lambda *_, **__: table)
    monkeypatch.setattr("ofa_tf.project.finder.fit", lambda _: fitted)
    run = ofa("search", "--workdir", workdir, "--latency", 1000)
    assert run.code == 0
    assert "There is no int8 table of this machine yet: measuring one." in run.err
    assert "There is no accuracy predictor yet: fitting one." in run.err
    assert list(workdir.glob(HOST_TABLE))


# --- exports ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory) -> Path:
    """The exports of one arch at 32 px in every precision, and a second time in int8."""
    folder = tmp_path_factory.mktemp("exported") / "work"
    shutil.copytree(finished, folder)
    project = open_existing(folder)
    evaluator = make_evaluator(project)
    arch = project.config.space.arch(32, [2, 1], [5, 3, 3, 3], [4, 3, 4, 3])
    write_arch(folder / "arch.json", arch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ofa_tf.project.export.EXPORT_SECONDS", 0.1)
        export(project, arch, options=ExportOptions(FileOptions(gate=False), "alone"))
        for name, precision in (("int8", "int8"), ("fp16", "fp16"), ("fp32", "fp32"), ("twin", "int8")):
            evaluator.calibrate(project.config.space.smallest())  # its statistics must not get into the file
            options = ExportOptions(FileOptions(precision, gate=False), name)
            export(project, arch, options=options, evaluator=evaluator)
    return folder / "exports"


def test_an_integer_file_holds_integers_alone_and_known_operators(exported):
    interpreter = interpreter_of((exported / "int8" / "model.tflite").read_bytes())
    assert {tensor["dtype"] for tensor in interpreter.get_tensor_details()} == {np.int8, np.int32}
    assert {operator["op_name"] for operator in interpreter._get_ops_details()} == OPERATORS
    manifest = read_json(exported / "int8" / "manifest.json")
    assert set(manifest["ops"]) == OPERATORS
    assert set(manifest["tensor_types"]) == {"INT8", "INT32"}
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (source["dtype"], target["dtype"]) == (np.int8, np.int8)
    assert (source["shape"].tolist(), target["shape"].tolist()) == ([1, 32, 32, 3], [1, 3])


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_the_manifest_tells_the_truth(exported, image_folder, precision):
    folder = exported / precision
    assert sorted(path.name for path in folder.iterdir()) == [
        "arch.json",
        "labels.txt",
        "manifest.json",
        "model.tflite",
    ]
    content, manifest = (folder / "model.tflite").read_bytes(), read_json(folder / "manifest.json")
    space = space_of(exported.parent)
    arch = space.arch_from_document(read_json(folder / "arch.json", SPACE_SCHEMA))
    assert arch.to_document() == manifest["arch"] == read_json(exported.parent / "arch.json", SPACE_SCHEMA)
    assert (folder / "labels.txt").read_text() == "cat\ndog\nfox\n"
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest()
    assert manifest["size_bytes"] == len(content)
    assert manifest["precision"] == precision
    assert manifest["n_macs"] == count_macs_of_file(content)
    assert manifest["validation_images"] == len(CLASSES) * N_VAL
    assert manifest["file_accuracy"] == pytest.approx(accuracy_of_file(folder, image_folder / "val"))
    assert manifest["file_accuracy"] == pytest.approx(manifest["float_accuracy"], abs=0.21)
    assert manifest["agreement"] >= (0.7 if precision == "int8" else 0.95)
    assert 0 < manifest["measured_ms"] <= manifest["measured_median_ms"]
    assert manifest["device"]["name"] == "host"
    assert manifest["runtime"]["name"] == "ai-edge-litert"
    assert manifest["versions"].keys() >= {"ofa-tf", "tensorflow", "keras", "ai-edge-litert"}
    assert manifest["budget_ms"] is manifest["predicted_accuracy"] is None
    assert (manifest["predicted_ms"] is not None) == (precision == "int8")  # the workdir has no other table


def test_the_float_accuracy_is_that_of_the_float_file(exported):
    """Nothing is lost in fp32, so the file stands in for the network that it was made from."""
    accuracies = {read_json(exported / name / "manifest.json")["float_accuracy"] for name in ("int8", "fp16", "fp32")}
    assert accuracies == {read_json(exported / "fp32" / "manifest.json")["file_accuracy"]}


def test_float_files_take_floats_and_halve_with_the_precision(exported):
    sizes = {}
    for precision in ("fp32", "fp16", "int8"):
        manifest = read_json(exported / precision / "manifest.json")
        sizes[precision] = manifest["size_bytes"]
        if precision != "int8":
            interpreter = interpreter_of((exported / precision / "model.tflite").read_bytes())
            assert interpreter.get_input_details()[0]["dtype"] == np.float32
            assert manifest["input_quantization"] is None
            assert ("FLOAT16" in manifest["tensor_types"]) == (precision == "fp16")
    assert sizes["fp32"] > 1.5 * sizes["fp16"] > 1.5 * 0.9 * sizes["int8"]


def test_the_same_arch_gives_the_same_bytes_whatever_was_evaluated_before(exported):
    files = {(exported / name / "model.tflite").read_bytes() for name in ("alone", "int8", "twin")}
    assert len(files) == 1


def test_a_searched_export_says_what_was_asked_for(finished):
    manifest = read_json(finished / "exports" / "first" / "manifest.json")
    assert manifest["budget_ms"] == 1000
    assert manifest["table_source"] == "measured"
    space = space_of(finished)
    arch = space.arch_from_document(manifest["arch"])
    costs = LatencyTable.load(*finished.glob(HOST_TABLE)).costs(space, len(CLASSES))
    assert manifest["predicted_ms"] == pytest.approx(float(costs(space.encode([arch]))[0]))
    assert manifest["predictor_origin"] == "fitted"


def test_a_file_with_floats_left_is_no_integer_export(ofa, workdir, exported, monkeypatch):
    monkeypatch.setattr(
        "ofa_tf.export.verified.to_tflite", lambda *_, **__: (exported / "fp32" / "model.tflite").read_bytes()
    )
    arch = write_arch("arch.json", space_of(workdir).largest())
    run = ofa("export", "--workdir", workdir, "--arch", arch, "--name", "bad")
    assert run.code == 2
    assert "tensors of the file are still floating-point" in run.err
    assert sorted(path.name for path in (workdir / "exports").iterdir()) == ["first"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\0" * 100])
def test_a_file_that_is_none_is_refused(content):
    with pytest.raises(FormatError, match="not a TFLite model"):
        ModelFile(content)


# --- the demo ---------------------------------------------------------------------------------------------------------


def test_the_demo_ends_with_three_files_and_one_object(ofa, workdir, finished, monkeypatch):
    """On a workdir that is trained: the story goes on from there."""
    table = LatencyTable.load(*finished.glob(HOST_TABLE))
    monkeypatch.setattr("ofa_tf.project.lut.build_table", lambda *_, **__: table)
    monkeypatch.setattr("ofa_tf.project.demo.ARCHS", 12)
    run = ofa("demo", "--workdir", workdir, "--json")
    assert (run.code, len(run.out.splitlines())) == (0, 1), run.err
    answer = json.loads(run.out)
    assert answer.keys() == {"exports", "seconds", "traces"}
    assert answer["traces"] == 0
    assert answer["seconds"] > 0
    keys = {
        "budget_ms",
        "predicted_ms",
        "measured_ms",
        "n_macs",
        "size_bytes",
        "float_accuracy",
        "int8_accuracy",
        "file",
    }
    assert all(keys < file.keys() for file in answer["exports"])
    for file in answer["exports"]:
        assert 0 < file["predicted_ms"] <= file["budget_ms"]
        assert Path(file["file"]).stat().st_size == file["size_bytes"]
        manifest = read_json(Path(file["file"]).with_name("manifest.json"))
        assert (manifest["precision"], manifest["file_accuracy"]) == ("int8", file["int8_accuracy"])
    budgets = [export["budget_ms"] for export in answer["exports"]]
    assert budgets == sorted(set(budgets))
    with Image.open(workdir / "front.png") as image:
        assert image.format == "PNG"
    assert "</html>" in (workdir / "report.html").read_text()


def test_the_demo_begins_with_the_tiny_space_and_the_bundled_digits(ofa, image_folder, tmp_path, monkeypatch):
    def stop(project, stage):
        seen.append((project.config.space.name, project.config.data, project.config.recipe.name, stage))
        raise ExportError("far enough")

    seen = []
    monkeypatch.setattr("ofa_tf.project.demo.train", stop)
    monkeypatch.chdir(tmp_path)
    assert ofa("demo").code == 2
    assert seen == [("tiny", "street-digits", "demo", "all")]
    assert read_json("ofa-demo/config.json", SPACE_SCHEMA)["classes"] == list("0123456789")
    assert ofa("demo", "--workdir", "own", "--data", image_folder, "--seed", "7").code == 2
    assert seen[1:] == [("tiny", str(image_folder), "demo", "all")]
    assert read_json("own/config.json", SPACE_SCHEMA)["seed"] == 7
    assert ofa("demo", "--workdir", "own", "--data", image_folder).code == 2
    assert_refused(ofa("demo", "--workdir", "own", "--seed", "8"), "made with --seed 7, not 8")


def test_the_images_of_a_folder_are_split(finished):
    data = open_existing(finished).data
    assert data.classes == CLASSES
    total = len(CLASSES) * N_TRAIN
    assert (len(data.train), len(data.tune), len(data.val)) == (total - total // 10, total // 10, len(CLASSES) * N_VAL)
