"""Evaluating and timing files that come from anywhere."""

import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from finished_workdir import CLASSES, N_VAL
from image_files import identities, make_folder
from model_files import edited, tint_file
from ofa_tf.cli.benchmark import bars
from small_project import Hook

from ofa_tf.data.source import load_data, load_validation
from ofa_tf.errors import DataError, ExportError
from ofa_tf.latency.device import Timing
from ofa_tf.latency.host import HostDevice
from ofa_tf.project.evaluate import _config_of, match_labels, rank_of
from ofa_tf.project.opened import open_project
from ofa_tf.statistics import wilson
from ofa_tf.tflite.inspect import inspect_file
from ofa_tf.tflite.metadata import Metadata, read_metadata
from ofa_tf.tflite.metadata_writer import add_metadata
from ofa_tf.tflite.run import check_classifier
from ofa_tf.tflite.sandbox import ChildInterpreter
from ofa_tf.zoo import catalog, imagenet

N_IMAGES = len(CLASSES) * N_VAL


@pytest.fixture(scope="module")
def tint(tmp_path_factory) -> Callable[..., Path]:
    """Makes the path of a tint file, each only once; `labels` lie beside it."""
    folder = tmp_path_factory.mktemp("tints")

    def make(order=(0, 1, 2), dtype="float32", labels=(), **options) -> Path:
        name = f"{order}-{dtype}-{options}".replace(" ", "")
        path = folder / f"{name}.tflite"
        if not path.exists():
            path.write_bytes(tint_file(order, dtype, **options))
        if labels:
            Path(f"{path}.txt").write_text("".join(f"{label}\n" for label in labels))
        return path

    return make


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_an_exported_file_has_the_accuracy_of_its_manifest(finished, ofa):
    folder = finished / "exports" / "first"
    manifest = json.loads((folder / "manifest.json").read_text())
    found = json.loads(ofa("evaluate", folder / "model.tflite", "--workdir", finished, "--json").out)
    assert found["top1"] == manifest["file_accuracy"]
    assert found["sha256"] == manifest["sha256"]
    assert found["n_images"] == manifest["validation_images"] == N_IMAGES
    assert found["preprocessing"] == manifest["preprocessing"]
    assert found["top1_low"] < found["top1"] < found["top1_high"]


def test_an_export_without_metadata_is_known_by_its_manifest(finished, tmp_path, ofa, image_folder):
    folder = tmp_path / "first"
    shutil.copytree(finished / "exports" / "first", folder)
    plain = edited((folder / "model.tflite").read_bytes(), strip)
    assert read_metadata(plain) is None
    (folder / "model.tflite").write_bytes(plain)
    manifest = json.loads((folder / "manifest.json").read_text())
    told = {**manifest, "preprocessing": {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}}
    for sha256, source in (("0" * 64, "input type"), (hashlib.sha256(plain).hexdigest(), "manifest")):
        (folder / "manifest.json").write_text(json.dumps({**told, "sha256": sha256}))
        found = json.loads(ofa("evaluate", folder / "model.tflite", "--data", image_folder, "--json").out)
        assert found["preprocessing_from"] == source
    assert found["preprocessing"] == told["preprocessing"]


def strip(model) -> None:
    model.metadata = [entry for entry in model.metadata if entry.name != b"TFLITE_METADATA"]


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8"])
def test_every_input_type_gives_the_right_answers(tint, dtype, image_folder, ofa):
    normalisation = ("--mean", "128", "--std", "128,128,128") if dtype == "float32" else ()
    run = ofa("evaluate", tint(dtype=dtype), "--data", image_folder, "--json", *normalisation)
    found = json.loads(run.out)
    assert (found["top1"], found["n_images"], found["n_outputs"], found["top5"]) == (1.0, N_IMAGES, 3, None)
    assert found["median_ms"] > 0
    assert "has no labels: its outputs are taken for the 3 classes in alphabetic order" in run.err
    assert ("is taken for the pixels themselves" in run.err) == (dtype != "float32")


def test_labels_in_another_order_are_matched_by_name(tint, image_folder, tmp_path, ofa):
    order, labels = (2, -1, 0, 1), ("Fox", "background", "CAT", "dog")
    path = tint(order, "int8", labels)
    assert ofa("evaluate", path, "--data", image_folder).code == 2  # four outputs, three classes, no names
    run = ofa("evaluate", path, "--data", image_folder, "--labels", f"{path}.txt", "--json")
    assert json.loads(run.out)["top1"] == 1.0
    assert "1 of the 4 labels" in run.err
    inside = add_metadata(path.read_bytes(), Metadata(labels=labels, mean=(128.0,), std=(128.0,)))
    (tmp_path / "inside.tflite").write_bytes(inside)
    found = json.loads(ofa("evaluate", tmp_path / "inside.tflite", "--data", image_folder, "--json").out)
    assert (found["top1"], found["preprocessing_from"]) == (1.0, "metadata")


def test_a_folder_of_classes_is_enough(tint, image_folder, ofa):
    path = tint(dtype="uint8")
    found = json.loads(ofa("evaluate", path, "--data", image_folder / "val", "--json").out)
    assert (found["top1"], found["n_images"]) == (1.0, N_IMAGES)
    run = ofa("evaluate", path, "--data", image_folder / "val" / "cat")
    assert run.code == 2
    assert "holds no images" in run.last


def test_a_data_set_without_validation_images_is_split_as_for_training():
    classes, images = load_validation("digits", 8)
    data = load_data("digits", 8)
    assert classes == data.classes
    assert (images.labels == data.val.labels).all()


def test_the_split_of_a_workdirs_data_is_the_workdirs(tmp_path, monkeypatch):
    """Its seed chooses its images: those that another seed holds out were trained on. However the folder is named."""
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "images", {"cat": 30, "dog": 30})
    open_project("work", data="images", seed=7)
    for spec in ("images", "./images", "images/", str(tmp_path / "images")):
        assert _config_of(spec, "work").seed == 7
    hook = Hook()
    _, images = load_validation("images", 24, 7, hook)
    assert hook.notes == []
    assert images.images.shape[1] == 24, "not as small as the workdir has them"
    assert identities(images) == identities(load_data("images", 24, 7).val) != identities(load_data("images", 24).val)
    for other in ("work", "elsewhere"):
        assert _config_of("digits", other) is None


def test_a_config_of_something_else_is_in_nobodys_way(tint, image_folder, tmp_path, ofa, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text('{"model_type": "bert"}')
    assert ofa("evaluate", tint(dtype="uint8"), "--data", image_folder).code == 0


def test_a_split_by_another_seed_is_said():
    hook = Hook()
    load_validation("digits", 8, progress=hook)
    (note,) = hook.notes
    assert note.startswith("digits has no validation images: those that a training with --seed 0 holds out are used")


def test_evaluate_for_people(tint, image_folder, ofa):
    run = ofa("evaluate", tint(dtype="uint8"), "--data", image_folder)
    assert run.code == 0
    assert "100.0 % (88.6 % to 100.0 %, 95 % confidence)" in run.out
    assert "from input type" in run.out


def test_what_evaluate_refuses(tint, image_folder, tmp_path, ofa, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    floats, integers = tint(), tint(dtype="uint8", labels=("cat", "dog", "wolf"))
    for arguments, said in (
        ((floats, "--data", image_folder), "give --mean and --std"),
        ((floats, "--data", image_folder, "--mean", "128"), "Give --mean and --std together"),
        ((floats, "--data", image_folder, "--mean", "1,2", "--std", "1"), "'1,2' is neither a number nor three"),
        ((floats, "--data", image_folder, "--mean", "0", "--std", "-1"), "must be positive"),
        ((integers,), ". is no workdir whose images could be used: name images with --data SPEC"),
        ((integers, "--data", "nix"), "There is no data set 'nix'"),
        ((integers, "--data", image_folder, "--labels", "nix"), "There is no file nix"),
        ((integers, "--data", image_folder, "--labels", "empty.txt"), "is empty"),
        (
            (integers, "--data", image_folder, "--labels", f"{integers}.txt"),
            "has the class 'fox', which is none of the 3 labels",
        ),
        (("README", "--data", image_folder), "There is no file README"),
    ):
        run = ofa("evaluate", *arguments)
        assert (run.code, run.out) == (2, ""), arguments
        assert said in run.last, arguments


def test_a_float_file_without_normalisation_gets_the_usual_ones_named(tint, image_folder, ofa):
    file = tint()
    said = ofa("evaluate", file, "--data", image_folder).last
    usual = re.findall(r"--mean ([\d.,]*\d) --std ([\d.,]*\d)", said)
    imagenet_pixels = tuple(",".join(map(str, values)) for values in (catalog.IMAGENET_MEAN, catalog.IMAGENET_STD))
    assert usual == [("127.5", "127.5"), ("0", "255"), ("0", "1"), imagenet_pixels]
    for mean, std in usual:
        run = ofa("evaluate", file, "--data", image_folder, "--mean", mean, "--std", std)
        assert run.code == 0, run.err


def test_labels_in_a_dict_on_one_line_are_its_names(tint, image_folder, tmp_path, ofa):
    """As Ultralytics writes them into its files."""
    names = dict(enumerate(("fox", "dog", "cat")))
    line = str({"description": "a model", "task": "classify", "imgsz": [32, 32], "names": names})
    content = tint((2, 1, 0), dtype="uint8").read_bytes()
    path = tmp_path / "model.tflite"
    path.write_bytes(add_metadata(content, Metadata(labels=(line,))))
    assert "3: fox, dog, cat" in ofa("show", path).out
    run = ofa("evaluate", path, "--data", image_folder, "--json")
    assert run.code == 0, run.err
    assert json.loads(run.out)["top1"] == 1
    (tmp_path / "names.txt").write_text(f"{line}\n")
    run = ofa("evaluate", path, "--data", image_folder, "--labels", tmp_path / "names.txt", "--json")
    assert json.loads(run.out)["top1"] == 1


def test_labels_that_do_not_match_name_the_difference():
    def match(labels, classes, n_outputs):
        return match_labels(labels, classes, n_outputs, "m.tflite", "images").tolist()

    assert match((), ("b", "a"), 2) == [0, 1]
    assert match(("Bee_hive", "a"), ("a", "bee hive"), 2) == [1, 0]
    assert match(imagenet.class_names(), ("n01440764", "goldfish"), 1000) == [0, 1]
    dog, garment = map(imagenet.class_names().index, ("Cardigan", "cardigan"))
    assert match(imagenet.class_names(), ("cardigan", "Cardigan"), 1000) == [garment, dog]
    assert match(("a_b", "a b", "c"), ("a b", "a_b"), 3) == [1, 0]
    for labels, classes, n_outputs, said in (
        ((), ("a", "b"), 3, "3 outputs and no labels, and images has 2 classes"),
        (("a", "b"), ("a", "b"), 3, "3 outputs and 2 labels"),
        (("a", "b", "c"), ("x", "a", "y"), 3, "the class 'x' and 1 more, which is none of the 3 labels of m.tflite"),
        (("crane", "a", "Crane"), ("CRANE",), 3, r"the label 'CRANE' at the outputs \[0, 2\]"),
    ):
        with pytest.raises(DataError, match=said):
            match(labels, classes, n_outputs)


def test_ranks_among_equals():
    logits = np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    assert rank_of(logits, np.array([1, 3])).tolist() == [0, 3]
    assert rank_of(logits, np.array([2, 0])).tolist() == [1, 0]
    rng = np.random.default_rng(0)
    many = rng.integers(0, 4, (50, 6))
    assert ((rank_of(many, np.full(50, 2)) == 0) == (many.argmax(1) == 2)).all()


def test_wilson_against_published_numbers():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


# --- files that are other than expected -------------------------------------------------------------------------------


def two_inputs(model) -> None:
    graph = model.subgraphs[0]
    graph.inputs = [graph.inputs[0], graph.inputs[0]]


def any_size(model) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].shapeSignature = [1, -1, -1, 3]


def grey(model) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = [1, 32, 32, 1]


def flex(model) -> None:
    model.operatorCodes[0].builtinCode, model.operatorCodes[0].deprecatedBuiltinCode = 32, 32
    model.operatorCodes[0].customCode = b"FlexErf"


def compiled(model) -> None:
    flex(model)
    model.operatorCodes[0].customCode = b"edgetpu-custom-op"


def wide(model) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].type = 4  # INT64


def enormous(model) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = [1, 1 << 30, 1 << 30, 3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (two_inputs, "has 2 inputs and 1 outputs"),
        (any_size, r"leaves its input of shape \[1, -1, -1, 3\] open"),
        (grey, r"takes inputs of shape \[1, 32, 32, 1\]"),
        (flex, "TensorFlow's own operator Erf"),
        (compiled, "compiled for an Edge TPU"),
        (wide, "takes int64"),
        (enormous, "takes images of 1073741824 pixels"),
    ],
)
def test_what_is_no_image_classifier_is_refused(tint, change, said, tmp_path, ofa, image_folder):
    content = edited(tint(dtype="uint8").read_bytes(), change)
    with pytest.raises(ExportError, match=said):
        check_classifier(inspect_file(content))
    (tmp_path / "m.tflite").write_bytes(content)
    assert ofa("evaluate", tmp_path / "m.tflite", "--data", image_folder).code == 2
    assert ofa("show", tmp_path / "m.tflite").code == 0


def test_an_open_batch_is_taken_for_one(tint, tmp_path, ofa, image_folder):
    def change(model):
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shapeSignature = [-1, 32, 32, 3]

    (tmp_path / "m.tflite").write_bytes(edited(tint(dtype="uint8").read_bytes(), change))
    found = json.loads(ofa("evaluate", tmp_path / "m.tflite", "--data", image_folder, "--json").out)
    assert found["top1"] == 1.0
    assert "?x32x32x3" in ofa("show", tmp_path / "m.tflite").out


def test_an_operator_that_nobody_knows_is_told_by_the_interpreter(tint, tmp_path, ofa, image_folder):
    def change(model):
        flex(model)
        model.operatorCodes[0].customCode = b"MyOwn"

    (tmp_path / "m.tflite").write_bytes(edited(tint(dtype="uint8").read_bytes(), change))
    run = ofa("evaluate", tmp_path / "m.tflite", "--data", image_folder)
    assert run.code == 2
    assert "The interpreter refuses" in run.last
    assert "MyOwn" in run.last


def test_a_crash_of_the_interpreter_is_a_sentence(tint):
    with ChildInterpreter(tint(dtype="uint8").read_bytes(), "m.tflite") as child:
        pixels = np.zeros((1, 32, 32, 3), np.uint8)
        assert child.run(pixels)[0].shape == (1, 3)
        os.kill(child._process.pid, signal.SIGSEGV)
        with pytest.raises(ExportError, match=r"The interpreter crashed on m.tflite \(SIGSEGV\)"):
            child.run(pixels)


@pytest.fixture(scope="module")
def endless() -> bytes:
    """A file whose run ends for zeros alone."""
    import tensorflow as tf

    def loop(image):
        return tf.while_loop(lambda x: tf.reduce_max(x) > 0, lambda x: [tf.abs(x)], [image])[0]

    ours = tf.function(loop, [tf.TensorSpec((1, 3), tf.float32)])
    return tf.lite.TFLiteConverter.from_concrete_functions([ours.get_concrete_function()]).convert()


def test_a_run_without_an_end_is_a_sentence(endless, monkeypatch):
    content = endless
    with ChildInterpreter(content, "m.tflite") as child:
        assert not child.run(np.zeros((1, 3), np.float32))[0].any()
        monkeypatch.setattr("ofa_tf.tflite.sandbox.LIMIT_S", 0.5)
        with pytest.raises(ExportError, match=r"^One run of m\.tflite took longer than 0\.5 s and was stopped\.$"):
            child.run(np.ones((1, 3), np.float32))


def test_a_file_that_says_more_outputs_than_it_gives_is_refused(tint, tmp_path, ofa, image_folder):
    def say(model):
        graph = model.subgraphs[0]
        graph.tensors[graph.outputs[0]].shape = [1, 5]

    path = tmp_path / "m.tflite"
    path.write_bytes(edited(tint(dtype="uint8").read_bytes(), say))
    (tmp_path / "labels.txt").write_text("\n".join([*CLASSES, "wolf", "crow"]))
    run = ofa("evaluate", path, "--data", image_folder, "--labels", tmp_path / "labels.txt")
    assert (run.code, run.out) == (2, "")
    assert f"{path} says that it has 5 outputs, and gives 3." in run.last


# --- benchmark --------------------------------------------------------------------------------------------------------


def test_benchmark(tint, ofa):
    path = tint(dtype="int8")
    found = json.loads(ofa("benchmark", path, "--seconds", 0.1, "--threads", 2, "--json").out)
    assert 0 < found["p10_ms"] <= found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"]
    assert (found["runtime"]["threads"], found["runtime"]["delegate"]) == (2, "none")
    assert found["device"]["name"] == "host"
    assert found["n_macs"] == inspect_file(path.read_bytes()).n_macs == 9
    assert sum(found["histogram"]["counts"]) <= found["n_runs"]
    assert len(found["histogram"]["edges_ms"]) == len(found["histogram"]["counts"]) + 1
    assert found["load_ms"] > 0
    assert 0 < found["peak_bytes"] < 1 << 28
    assert found["per_operator"] is None


def test_an_output_whose_size_depends_on_the_input_is_refused():
    import tensorflow as tf

    colours = tf.TensorSpec((1, 3), tf.float32)
    ours = tf.function(lambda image: tf.cast(tf.transpose(tf.where(image[0] >= 0)), tf.float32), [colours])
    content = tf.lite.TFLiteConverter.from_concrete_functions([ours.get_concrete_function()]).convert()
    with ChildInterpreter(content, "m.tflite") as child:
        assert child.run(np.ones((1, 3), np.float32))[0].tolist() == [[0, 1, 2]]
        with pytest.raises(ExportError, match=r"The size of the output of m\.tflite depends on its input"):
            child.run(np.array([[1, -1, 1]], np.float32))


def test_a_benchmark_of_a_run_without_an_end_is_a_sentence(endless, tmp_path, ofa, monkeypatch):
    (tmp_path / "m.tflite").write_bytes(endless)
    monkeypatch.setattr("ofa_tf.latency.host.LIMIT_S", 6)
    run = ofa("benchmark", tmp_path / "m.tflite", "--seconds", 0.1)
    assert (run.code, run.out) == (2, "")
    assert "One run of the file took longer than 6 s and was stopped." in run.last


def test_benchmark_for_people(tint, ofa):
    run = ofa("benchmark", tint(dtype="int8"), "--seconds", 0.1, "--delegate", "xnnpack")
    assert run.code == 0
    for said in ("median", "delegate xnnpack", "█", "MB with the file itself", "not available"):
        assert said in run.out


def test_benchmark_says_that_the_machine_was_busy(tint, ofa, monkeypatch):
    path, timing = tint(dtype="int8"), Timing(np.array([1.0] * 3 + [1.5] * 7))
    monkeypatch.setattr(HostDevice, "measure", lambda *arguments, **options: [timing])
    run = ofa("benchmark", path, "--json")
    assert "half of the runs took 1.5 ms or more" in run.err
    assert json.loads(run.out)["p50_ms"] == 1.5


def test_what_benchmark_refuses(tint, tmp_path, ofa):
    path = tmp_path / "m.tflite"
    path.write_bytes(edited(tint(dtype="uint8").read_bytes(), any_size))
    for arguments, said in (
        ((path,), "open: fix its size"),
        ((tint(), "--device", "toaster"), "'toaster' cannot be measured from here"),
        ((tint(), "--seconds", "-1"), "not a positive number of seconds"),
        ((tint(), "--threads", "0"), "not a whole number from 1"),
    ):
        run = ofa("benchmark", *arguments)
        assert (run.code, run.out) == (2, ""), arguments
        assert said in run.last, arguments


def test_a_file_of_several_inputs_can_be_timed(tint, tmp_path, ofa):
    (tmp_path / "m.tflite").write_bytes(edited(tint(dtype="uint8").read_bytes(), two_inputs))
    assert json.loads(ofa("benchmark", tmp_path / "m.tflite", "--seconds", 0.05, "--json").out)["p50_ms"] > 0


def test_bars():
    assert bars([0, 1, 50, 100]) == " ▁▄█"
