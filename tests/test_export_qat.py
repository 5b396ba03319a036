"""Quantisation-aware training: the twin, its rounding, and the file that comes of it."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from export_images import PIXELS, images_of, noise, vivid
from finished_workdir import space_of, write_arch
from rich_spaces import RESNET, RICH

from ofa_tf.errors import ExportError
from ofa_tf.export.convert import to_tflite
from ofa_tf.export.gate import run_file, snr_db
from ofa_tf.export.representative import takes_raw_pixels
from ofa_tf.jsonio import read_json
from ofa_tf.project.opened import open_existing
from ofa_tf.spaces import MOBILENET_V3
from ofa_tf.subnet import build_subnet
from ofa_tf.tflite.run import ModelFile, inspect_file

ELASTIC = replace(MOBILENET_V3.stages[1], depths=(1, 2), channels=16)
SMALL_V3 = replace(
    MOBILENET_V3, stages=(ELASTIC, replace(ELASTIC, activation="hard_swish", stride=1)), resolutions=(16,),
    head_channels=32, feature_channels=32, width_mult=0.5,
)  # fmt: skip


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_a_twin_answers_as_its_subnet_and_becomes_an_integer_file(padding):
    """Squeeze-and-excite, hard sigmoid, h-swish, both paddings, a dense layer with an activation."""
    from ofa_tf.export import qat

    space = replace(SMALL_V3, padding=padding)
    arch = space.arch(16, [2, 1], [5, 3, 7, 0], [3, 4, 3, 0])
    model = vivid(build_subnet(space, arch, 4))
    twin = qat.build_twin(model, space, arch, 4)
    inputs = PIXELS(noise(16, 16)).numpy()
    qat.check_twin(model, twin, inputs)
    with pytest.raises(ExportError, match="differs from the subnet"):
        qat.check_twin(vivid(build_subnet(space, arch, 4)), twin, inputs)

    student = qat.quantise_twin(twin, -1.0, 127 / 128)
    batches = [(inputs, np.arange(16) % 4)] * 3
    before = [variable.numpy() for variable in student.trainable_variables]
    seen = []
    qat.fine_tune(student, model, batches, 3, qat.FineTuning(epochs=1), advance=seen.append)
    assert seen == [16, 16, 16]
    assert all((a != b.numpy()).any() for a, b in zip(before, student.trainable_variables, strict=True))

    def teacher(images, training):
        assert images.shape == (16, 32, 32, 3)  # larger than what the student takes
        return tf.one_hot(tf.zeros(16, tf.int32), 4)

    large = PIXELS(noise(16, 32)).numpy(), np.arange(16) % 4
    qat.fine_tune(student, teacher, [large], 1, qat.FineTuning(epochs=1))

    content = to_tflite(student, "int8", trained_ranges=True)
    facts = inspect_file(content)
    assert not facts.n_float_tensors
    plain = inspect_file(to_tflite(model, "int8", [inputs[:1]]))
    assert facts.ops == plain.ops
    assert facts.ops["HARD_SWISH"] > 2
    assert takes_raw_pixels(ModelFile(content).input_quantization, "int8", PIXELS)
    # What is rounded in training is what is rounded in the file.
    images = images_of(noise(16, 16))
    simulated = student(PIXELS(images.images), training=False).numpy()
    assert snr_db(simulated, run_file(content, images, PIXELS)) > 15


@pytest.mark.parametrize("space", [RESNET, RICH], ids=lambda space: space.name)
def test_the_twin_of_every_kind_of_block_has_the_operators_of_the_plain_file(space):
    """Pooling of windows, sums with an activation, expansions that are kept at a ratio of 1."""
    from ofa_tf.export import qat

    arch = space.largest(space.resolutions[0]) if space is RESNET else space.smallest()
    model = vivid(build_subnet(space, arch, 4))
    twin = qat.build_twin(model, space, arch, 4)
    size = arch.resolution
    images = images_of(noise(16, size))
    inputs = PIXELS(images.images).numpy()
    qat.check_twin(model, twin, inputs)
    student = qat.quantise_twin(twin, -1.0, 127 / 128)
    for _ in range(3):
        student(inputs, training=True)
    content = to_tflite(student, "int8", trained_ranges=True)
    facts = inspect_file(content)
    assert not facts.n_float_tensors
    assert facts.ops == inspect_file(to_tflite(model, "int8", [inputs[:1]])).ops
    assert ("MAX_POOL_2D" in facts.ops) == ("AVERAGE_POOL_2D" in facts.ops) == (space is RESNET)
    simulated = student(PIXELS(images.images), training=False).numpy()
    assert snr_db(simulated, run_file(content, images, PIXELS)) > 15


def test_weights_are_rounded_channel_by_channel():
    from ofa_tf.export import qat

    kernel = np.random.default_rng(0).normal(size=(5, 5, 8, 1)).astype(np.float32)
    kernel *= np.geomspace(0.001, 1, 8)[:, None]
    rounded = qat.WeightQuantizer("depthwise_kernel")(kernel, True, {}).numpy()
    steps = np.abs(kernel).max((0, 1, 3), keepdims=True) / 127
    np.testing.assert_allclose(rounded, np.rint(kernel / steps) * steps, atol=float(steps.max()) * 1e-3)
    assert (np.abs(rounded - kernel) <= steps * 0.501).all()


def test_quantisation_aware_training_is_told_and_the_better_file_kept(ofa, workdir):
    write_arch("arch.json", space_of(workdir).smallest())
    run = ofa("export", "-w", workdir, "--arch", "arch.json", "--name", "qat", "--qat", "--epochs", 1, "--no-gate")
    assert run.code == 0, run.err
    assert "Quantisation-aware training: accuracy " in run.err
    manifest = read_json(workdir / "exports" / "qat" / "manifest.json")
    qat = manifest["qat"]
    assert qat["epochs"] == 1
    assert qat["kept"] in ("ptq", "qat")
    assert (manifest["file_accuracy"], manifest["agreement"]) == (
        qat[f"{qat['kept']}_accuracy"], qat[f"{qat['kept']}_agreement"]
    )  # fmt: skip
    assert ("is kept" in run.err) == (qat["kept"] == "qat") or "the file without it is kept" in run.err
    images = open_existing(workdir).data.val
    content = (workdir / "exports" / "qat" / "model.tflite").read_bytes()
    accuracy = (run_file(content, images, PIXELS).argmax(1) == images.labels).mean()
    assert manifest["file_accuracy"] == pytest.approx(accuracy)
