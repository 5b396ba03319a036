"""Exports: what the files are, what the gate lets through, where the folders go."""

import base64
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import HOST_TABLE, OFA, assert_refused, contents
from export_images import PIXELS, images_of, noise, vivid
from finished_workdir import space_of, write_arch
from model_files import interpreter_of

import ofa_tf as api
from ofa_tf.data import Preprocessing
from ofa_tf.errors import ExportError
from ofa_tf.export import verified as filing
from ofa_tf.export.convert import to_tflite
from ofa_tf.export.gate import (
    LEAST_IMAGES,
    MOST_MACS,
    LayerError,
    Parity,
    Tolerance,
    compare,
    first_bad_layer,
    gate_images,
    layer_errors,
    run_file,
    snr_db,
)
from ofa_tf.export.representative import MOST_IMAGES, even_range, representative_inputs, takes_raw_pixels
from ofa_tf.jsonio import read_json, write_json
from ofa_tf.latency.device import Timing
from ofa_tf.latency.host import HostDevice
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project import pictures
from ofa_tf.project.opened import open_existing
from ofa_tf.spaces import TINY
from ofa_tf.subnet import build_subnet, extract
from ofa_tf.tflite.run import ModelFile, inspect_file

IMAGENET = Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALF = Preprocessing((127.5,) * 3, (127.5,) * 3)
ZERO_TO_ONE = Preprocessing((0.0,) * 3, (255.0,) * 3)


@pytest.fixture(scope="module")
def subnet():
    """A subnet of the `tiny` space at 24 px, with statistics of batch norm that are not those of its first hour."""
    return vivid(build_subnet(TINY, TINY.smallest(), 4))


# --- representative images and raw pixels -----------------------------------------------------------------------------


def test_representative_images_are_spread_over_the_classes():
    labels = np.array([0] * 5 + [1] * 300 + [2] * 300, np.int32)
    pixels = np.broadcast_to(labels[:, None, None, None], (605, 32, 32, 3))
    chosen = representative_inputs(images_of(pixels, labels), 24, PIXELS, seed=3)
    assert (len(chosen.inputs), chosen.seed) == (MOST_IMAGES, 3)
    assert {sample.shape for sample in chosen.inputs} == {(1, 24, 24, 3)}
    found = np.bincount([round(float(np.median(sample)) * 128 + 128) for sample in chosen.inputs])
    assert found[0] == 5
    assert abs(found[1] - found[2]) <= 1
    again = representative_inputs(images_of(pixels, labels), 24, PIXELS, seed=3)
    assert all((a == b).all() for a, b in zip(chosen.inputs, again.inputs, strict=True))
    other = representative_inputs(images_of(noise(605, 8), labels), 8, PIXELS, seed=4)
    assert not (
        other.inputs[0] == representative_inputs(images_of(noise(605, 8), labels), 8, PIXELS, 3).inputs[0]
    ).all()


def test_a_large_network_gets_fewer_representative_images():
    images = images_of(noise(300, 8))
    counts = [len(representative_inputs(images, 8, PIXELS, 0, n_macs).inputs) for n_macs in (10**6, 15 * 10**7, 10**10)]
    assert counts == [200, 100, 32]


@pytest.mark.parametrize("n", [1, 50])
def test_images_of_one_colour_are_refused(n):
    with pytest.raises(ExportError, match=rf"{n} representative images are all of one colour, \[7, 7, 7\]"):
        representative_inputs(images_of(np.full((n, 8, 8, 3), 7)), 8, PIXELS, 0)


def test_one_image_is_enough_for_ranges(subnet):
    chosen = representative_inputs(images_of(noise(1, 24)), 24, PIXELS, 0)
    assert len(chosen.inputs) == 1
    assert not inspect_file(to_tflite(subnet, "int8", chosen.inputs)).n_float_tensors


@pytest.mark.parametrize(
    ("preprocessing", "even"), [(PIXELS, True), (ZERO_TO_ONE, True), (IMAGENET, False), (HALF, False)]
)
@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_raw_pixels_give_the_same_bits_as_preprocessing_and_quantising(subnet, preprocessing, even, io):
    """The scale of the input is that of a pixel even where no training image has a black or a white one."""
    pixels = noise(8, 24, 40, 200)
    chosen = representative_inputs(images_of(pixels), 24, preprocessing, 0)
    content = to_tflite(subnet, "int8", chosen.inputs, io)
    interpreter, quantization = interpreter_of(content), ModelFile(content).input_quantization
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert source["dtype"] == target["dtype"] == np.dtype(io)
    assert even_range(preprocessing) == even
    assert takes_raw_pixels(quantization, io, preprocessing) == even
    if not even:
        return
    assert quantization["scale"] == pytest.approx(1 / preprocessing.std[0], rel=1e-6)
    images = np.concatenate([noise(8, 24), np.full((1, 24, 24, 3), 0), np.full((1, 24, 24, 3), 255)])
    stored = (images.astype(np.int16) - (128 if io == "int8" else 0)).astype(io)
    scale, zero_point = target["quantization"]
    raw = []
    for image in stored:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        raw.append((interpreter.get_tensor(target["index"])[0].astype(np.float32) - zero_point) * scale)
    np.testing.assert_array_equal(raw, ModelFile(content).logits(images_of(images), preprocessing))


def test_uint8_differs_from_int8_in_its_ends_alone(subnet):
    inputs = representative_inputs(images_of(noise(20, 24)), 24, PIXELS, 0).inputs
    contents_of = {io: to_tflite(subnet, "int8", inputs, io) for io in ("int8", "uint8")}
    images = images_of(noise(30, 24))
    np.testing.assert_array_equal(*(run_file(content, images, PIXELS) for content in contents_of.values()))
    facts = inspect_file(contents_of["uint8"])
    assert not facts.n_float_tensors
    assert facts.tensor_types["UINT8"] == 2


def test_floats_take_no_raw_pixels():
    assert not takes_raw_pixels(None, "int8", PIXELS)
    assert not takes_raw_pixels({"scale": 1 / 128, "zero_point": 1}, "int8", PIXELS)


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_figures_of_a_comparison():
    exact = np.eye(4, dtype=np.float32) * 3
    wrong = exact.copy()
    wrong[0] = [0, 1, 0, 0]
    parity = compare(exact, wrong, np.arange(4))
    assert (parity.images, parity.float_accuracy, parity.file_accuracy, parity.agreement) == (4, 1.0, 0.75, 0.75)
    assert parity.snr_db == pytest.approx(10 * np.log10(4 * 9 / 10))
    assert compare(exact, wrong, None).file_accuracy is None
    assert compare(exact, exact, None).snr_db is None
    assert snr_db(np.zeros(3), np.ones(3)) == -100


@pytest.mark.parametrize(
    ("float_accuracy", "file_accuracy", "agreement", "said"),
    [
        (0.9, 0.88, 0.95, None),
        (0.9, 0.95, 0.99, None),
        (0.9, 0.879, 0.99, "2.1 points less accurate"),
        (0.9, 0.9, 0.949, "agrees with the network it was made from on 94.9% of 1000 images; at least 95% is needed"),
        (None, None, 0.949, "94.9%"),
        (None, None, 0.96, None),
    ],
)
def test_what_the_gate_complains_about(float_accuracy, file_accuracy, agreement, said):
    complaint = Parity(1000, float_accuracy, file_accuracy, agreement, 20.0).complaint(Tolerance())
    assert complaint is None if said is None else said in complaint


def test_one_image_is_never_too_many():
    """Of 30 images one is 3.3 points: the two points of the limit cannot be told from none."""
    assert Parity(30, 20 / 30, 19 / 30, 0.96, 20.0).complaint(Tolerance()) is None
    assert "6.7 points" in str(Parity(30, 20 / 30, 18 / 30, 0.96, 20.0).complaint(Tolerance()))


def test_a_large_network_is_run_on_fewer_images():
    images = images_of(noise(1000, 2), np.arange(1000))
    assert gate_images(images, 1) is images
    assert len(gate_images(images, int(MOST_MACS / 500))) == 500
    few = gate_images(images, 10**15)
    assert len(few) == LEAST_IMAGES
    assert few.labels[0] == 0
    assert few.labels[-1] == 999


@pytest.mark.parametrize("n", [1, 2, 7])
def test_threads_change_nothing(subnet, n):
    content = to_tflite(subnet, "fp32")
    images = images_of(noise(n, 24))
    np.testing.assert_array_equal(run_file(content, images, PIXELS), ModelFile(content).logits(images, PIXELS))


def spoil(model):
    """The same function, but one channel after a projection is 3,000 times as large as the others."""
    factor = np.ones(model.get_layer("stage1_block1_project_bn").gamma.shape, np.float32)
    factor[0] = 3000
    norm, conv = model.get_layer("stage1_block1_project_bn"), model.get_layer("stage2_block1_expand")
    gamma, beta, *statistics = norm.get_weights()
    norm.set_weights([gamma * factor, beta * factor, *statistics])
    conv.set_weights([conv.get_weights()[0] / factor[:, None]])
    return model


def test_the_layer_where_the_error_starts_is_named(subnet):
    inputs = representative_inputs(images_of(noise(20, 24)), 24, PIXELS, 0).inputs
    spoilt = spoil(vivid(build_subnet(TINY, TINY.smallest(), 4)))
    reference = to_tflite(spoilt, "fp32")
    errors = layer_errors(reference, to_tflite(spoilt, "int8", inputs), inputs[:4])
    assert errors[0].name == "stem_act"
    assert errors[-1].name == "classifier"
    by_name = {error.name: error.snr_db for error in errors}
    assert min(by_name["first_project_bn"], by_name["stage1_block1_depthwise_act"]) > 20
    assert first_bad_layer(errors).name in ("stage1_block1_project_bn", "stage2_block1_expand_act")
    assert all(error.snr_db is None for error in layer_errors(reference, reference, inputs[:1]))
    other = to_tflite(build_subnet(TINY, TINY.largest(24), 4), "fp32")
    assert layer_errors(reference, other, inputs[:1]) == []


def test_without_a_bad_layer_the_greatest_loss_counts():
    errors = [LayerError(name, ratio) for name, ratio in (("a", 60.0), ("b", 30.0), ("c", 25.0), ("d", 27.0))]
    assert first_bad_layer(errors).name == "a"
    assert first_bad_layer([LayerError("x", None), *errors[1:]]).name == "b"
    assert first_bad_layer([*errors, LayerError("e", 9.0)]).name == "e"
    assert first_bad_layer([LayerError("x", None)]) is None
    assert first_bad_layer([]) is None


def test_the_gate_refuses_and_an_open_one_says_what_it_let_through(ofa, workdir, monkeypatch):
    monkeypatch.setattr(filing, "extract", lambda *arguments: spoil(extract(*arguments)))
    space = space_of(workdir)
    arch = write_arch("arch.json", space.arch(32, [1, 1], [3, 0, 3, 0], [3, 0, 3, 0]))
    before = contents(workdir)
    run = ofa("export", "-w", workdir, "--arch", arch, "--name", "bad")
    assert_refused(run, "the error starts at the layer `stage", "--qat", "--no-gate")
    assert "less accurate than" in run.last or "agrees with" in run.last
    assert contents(workdir) == before
    run = ofa("export", "-w", workdir, "--arch", arch, "--name", "bad", "--no-gate")
    assert run.code == 0, run.err
    gate = read_json(workdir / "exports" / "bad" / "manifest.json")["gate"]
    assert not gate["enforced"]
    assert gate["complaint"] in run.err
    run = ofa("export", "-w", workdir, "--arch", arch, "--name", "floats", "--precision", "fp32")
    assert run.code == 0, run.err
    assert read_json(workdir / "exports" / "floats" / "manifest.json")["gate"] == {
        "enforced": True, "points_lost": 2.0, "agreement": 0.95, "complaint": None
    }  # fmt: skip


# --- what is exported -------------------------------------------------------------------------------------------------


def other_table(workdir, name: str, **changes) -> LatencyTable:
    """The host's table under another name."""
    table = replace(LatencyTable.load(*workdir.glob(HOST_TABLE)), **changes)
    (path,) = workdir.glob(HOST_TABLE)
    table.save(workdir / "lut" / (name or path.name.replace("int8", table.precision)))
    return table


def test_a_fleet_shares_its_files(ofa, workdir, monkeypatch):
    other_table(workdir, "phone.json", device={"name": "phone"})
    made, make_file = [], filing.make_file
    monkeypatch.setattr(
        "ofa_tf.project.export.make_file", lambda *arguments: made.append(arguments[3]) or make_file(*arguments)
    )
    measure = HostDevice.measure

    def disturbed(*arguments, **options) -> list[Timing]:
        """What was measured, with most of the runs once more and ten times as long."""
        runs_ms = measure(*arguments, **options)[0].runs_ms
        return [Timing(np.concatenate([runs_ms, runs_ms * 10, runs_ms * 10]))]

    monkeypatch.setattr(HostDevice, "measure", disturbed)
    pairs = ["--device", "host", "--latency", 1000, "--device", "phone", "--latency", 900]
    run = ofa("export", "-w", workdir, *pairs, "--out", "fleet", "--no-gate", "--io", "uint8")
    assert run.code == 0, run.err
    assert sorted(path.name for path in Path("fleet").iterdir()) == ["host-1000ms-int8", "phone-900ms-int8"]
    here, there = (read_json(path / "manifest.json") for path in sorted(Path("fleet").iterdir()))
    assert here["arch"] == there["arch"]
    assert len(made) == 1
    assert here["sha256"] == there["sha256"]
    assert (here["device"]["name"], there["device"]["name"]) == ("host", "phone")
    assert 0 < here["measured_ms"] <= here["measured_median_ms"]
    assert "The device was busy, or changed its speed" in run.err
    assert there["measured_ms"] is None
    assert (here["io"], here["raw_pixels"], here["tensor_types"]["UINT8"]) == ("uint8", True, 2)
    assert here["representative"] == {"images": 108, "seed": 0}
    assert here["predicted_ms"] == pytest.approx(there["predicted_ms"])
    assert "Exported fleet/host-1000ms-int8." in run.err
    assert "phone-900ms-int8: the same file as host-1000ms-int8.\n" in run.out


def test_equal_files_are_said_to_be_equal(ofa, workdir):
    """Of one call, and of an earlier one; the first has nothing to say."""
    export = ["export", "-w", workdir, "--no-gate"]
    why = "no larger subnet within the budget is predicted to be better"
    run = ofa(*export, "--latency", 2000, "--latency", 3000, "--json")
    assert run.code == 0, run.err
    said = [exported["same_file"] for exported in json.loads(run.out)["exports"]]
    assert said == [f"the same file as first: {why}"] * 2
    run = ofa(*export, "--latency", 2500, "--latency", 1500, "--out", "elsewhere")
    assert run.out.count("the same file as") == 1
    assert "host-1500ms-int8: the same file as host-2500ms-int8.\n" in run.out
    project = api.open(workdir, progress=None)
    again = project.export(latency_ms=4000, gate=False, name="again")
    assert repr(again).endswith(f"kB; the same file as first: {why})")
    assert project.export(project.config.space.smallest(), gate=False, name="small").same_file is None
    assert ofa("report", "-w", workdir).code == 0
    page = (workdir / "report.html").read_text()
    for name in ("again", "host-2000ms-int8", "host-3000ms-int8"):
        assert f"<strong>{name}</strong> is the same file as first: {why}." in page
    assert page.count("the same file as") == 3


def test_pictures_of_what_a_file_gets_wrong_lie_beside_it(ofa, workdir, monkeypatch):
    ran, run_it = [], filing.run_file
    monkeypatch.setattr(filing, "run_file", lambda *arguments: ran.append(arguments) or run_it(*arguments))
    drawn, draw = [], pictures.draw_worst
    monkeypatch.setattr(pictures, "draw_worst", lambda *arguments: drawn.append(arguments) or draw(*arguments))
    export = ["export", "-w", workdir, "--latency", 1000, "--no-gate", "--name", "first", "--force"]
    run = ofa(*export, "--pictures")
    assert run.code == 0, run.err
    folder = workdir / "exports" / "first"
    kept = ["arch.json", "confusion.png", "labels.txt", "manifest.json", "model.tflite", "worst.png"]
    assert sorted(path.name for path in folder.iterdir()) == kept
    assert len(ran) == 1, "the file is run once"

    project = open_existing(workdir)
    images, classes = project.data.val, project.config.classes
    logits = run_file((folder / "model.tflite").read_bytes(), images, PIXELS)
    wrong = np.flatnonzero(logits.argmax(1) != images.labels)
    ((pixels, titles),) = drawn
    assert len(titles) == min(10, len(wrong))
    by_surety = sorted(wrong, key=lambda index: -np.exp(logits[index]).max() / np.exp(logits[index]).sum())
    for image, (predicted, _, truth), index in zip(pixels, titles, by_surety, strict=False):
        assert (predicted, truth) == (classes[logits[index].argmax()], classes[images.labels[index]])
        np.testing.assert_array_equal(image, images.take(np.array([index])).resized(len(image)).images[0])

    assert ofa("report", "-w", workdir).code == 0
    page = (workdir / "report.html").read_text()
    for name in ("confusion.png", "worst.png"):
        assert f"data:image/png;base64,{base64.b64encode((folder / name).read_bytes()).decode()}" in page
    assert ofa(*export).code == 0
    assert not list(folder.glob("*.png")), "they are of the file that they lie beside"


def test_pictures_need_labels(ofa, workdir, monkeypatch):
    unlabelled = open_existing(workdir).data
    unlabelled = replace(unlabelled, val=replace(unlabelled.val, labels=np.full_like(unlabelled.val.labels, -1)))
    monkeypatch.setattr("ofa_tf.project.opened.OpenedWorkdir.data", unlabelled)
    before = contents(workdir)
    arch = write_arch("arch.json", space_of(workdir).smallest())
    run = ofa("export", "-w", workdir, "--arch", arch, "--name", "new", "--pictures")
    assert_refused(run, "--pictures needs validation images with labels")
    assert contents(workdir) == before


def test_a_given_arch_is_predicted_by_the_table(ofa, workdir):
    space = space_of(workdir)
    arch = space.smallest()
    write_arch("arch.json", arch)
    run = ofa("export", "-w", workdir, "--arch", "arch.json", "--name", "given", "--no-gate")
    assert run.code == 0, run.err
    manifest = read_json(workdir / "exports" / "given" / "manifest.json")
    table = LatencyTable.load(*workdir.glob(HOST_TABLE))
    assert manifest["predicted_ms"] == pytest.approx(float(table.costs(space, 3)(space.encode([arch]))[0]))
    assert (manifest["table_source"], manifest["table_precision"]) == ("measured", "int8")
    assert manifest["predicted_ms_error"] == table.validation["mape"]
    assert manifest["predicted_accuracy"] is None


def test_a_dynamic_file_is_predicted_by_the_float_table_and_says_so(ofa, workdir):
    other_table(workdir, "", precision="fp32")
    run = ofa("export", "-w", workdir, "--latency", 1000, "--precision", "dynamic")
    assert run.code == 0, run.err
    assert "There are no tables of dynamic files: latencies are predicted by the fp32 table." in run.err
    folder = workdir / "exports" / "host-1000ms-dynamic"
    manifest = read_json(folder / "manifest.json")
    assert (manifest["precision"], manifest["table_precision"], manifest["io"]) == ("dynamic", "fp32", "float32")
    assert manifest["tensor_types"]["INT8"] > 5
    assert manifest["representative"] is manifest["input_quantization"] is None
    assert manifest["agreement"] >= 0.95
    interpreter = interpreter_of((folder / "model.tflite").read_bytes())
    assert interpreter.get_input_details()[0]["dtype"] == np.float32


def test_another_process_makes_the_same_bytes(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "work")
    options = ["-w", str(tmp_path / "work"), "--latency", "1000", "--name", "again", "--no-gate"]
    subprocess.run([*OFA, "export", *options], check=True, capture_output=True)
    first, again = (tmp_path / "work" / "exports" / name / "model.tflite" for name in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()


# --- options that cannot be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "adb:1"], ["Give either --latency MS or --arch FILE."]),
        (["--device", "ethos-u55-128:Sram_Only"], ["Give either --latency MS or --arch FILE."]),
        (["--device", "mcu"], ["needs both --ram-kb and --flash-kb"]),
        (["--latency", "1", "--epochs", "2"], ["--epochs", "--qat"]),
        (["--latency", "1", "--qat", "--epochs", "0"], ["'--epochs'", "'0'"]),
        (["--latency", "1", "--precision", "fp16", "--qat"], ["--qat is for int8 files"]),
        (["--latency", "1", "--precision", "fp32", "--io", "uint8"], ["--io uint8 is for int8 files"]),
        (["--latency", "1", "--io", "float"], ["'--io'", "'float'", "'int8', 'uint8'"]),
        (["--latency", "1", "--precision", "int4"], ["'--precision'", "'int4'", "'dynamic'"]),
        (["--device", "host", "--device", "phone", *["--latency", "1"] * 3], ["2 --device and 3 --latency"]),
        (["--latency", "1", "--latency", "2", "--name", "x"], ["2 exports cannot all be", "leave --name out"]),
        (["--latency", "1", "--latency", "1"], ["given only once"]),
        (["--latency", "1", "--name", "first"], ["exists", "--force"]),
        (["--latency", "1", "--out", "file"], ["file is a file", "--out"]),
        (["--latency", "1", "--out", "file/in/it"], ["file is a file", "--out"]),
        (["--latency", "1", "--out", "/proc"], ["cannot be made in /proc", "--out"]),
        (["--latency", "1", "--out", ".", "--name", "file"], ["file is a file", "--name"]),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else None,
)
def test_what_cannot_be_is_refused_before_any_work(ofa, workdir, monkeypatch, arguments, said):
    def fail(*_, **__):
        raise AssertionError("work began")

    for place in ("finder.Finder.of", "export.make_evaluator", "export.find_device_table"):
        monkeypatch.setattr(f"ofa_tf.project.{place}", fail)
    Path("file").write_text("precious")
    before = contents(".")
    assert_refused(ofa("export", "-w", workdir, *arguments), *said)
    assert contents(".") == before


def test_a_folder_that_appears_meanwhile_is_not_overwritten(ofa, workdir, monkeypatch):
    """Another process makes it while the file is being made."""
    make_file = filing.make_file

    def slow(*arguments):
        made = make_file(*arguments)
        (workdir / "exports" / "new").mkdir()
        write_json(workdir / "exports" / "new" / "manifest.json", {"whose": "another's"})
        return made

    monkeypatch.setattr("ofa_tf.project.export.make_file", slow)
    write_arch("arch.json", space_of(workdir).smallest())
    run = ofa("export", "-w", workdir, "--arch", "arch.json", "--name", "new", "--no-gate")
    assert_refused(run, "exists", "--force")
    assert [path.name for path in (workdir / "exports" / "new").iterdir()] == ["manifest.json"]
