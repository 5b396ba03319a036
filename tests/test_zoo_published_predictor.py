"""The published predictor of ResNet50D; that of MobileNetV3 is in `test_zoo_note10`."""

import dataclasses
import json

import numpy as np
import pytest
from published_networks import published_arch

from ofa_tf.errors import FormatError
from ofa_tf.spaces import MOBILENET_V3, RESNET50D, TINY
from ofa_tf.zoo.published_predictor import read_published_predictor

HIDDEN = 4
N_INPUTS = 8 + 2 + 6 * 3 + 18 * 3


@pytest.fixture
def arrays():
    """A small network of that layout, with random weights."""
    rng = np.random.default_rng(0)
    sizes = {"layers.0.0": (HIDDEN, N_INPUTS), "layers.1.0": (HIDDEN, HIDDEN), "layers.2": (1, HIDDEN)}
    weights = {f"{name}.weight": rng.normal(0, 1, shape).astype(np.float32) for name, shape in sizes.items()}
    biases = {f"layers.{index}.0.bias": rng.normal(0, 1, HIDDEN).astype(np.float32) for index in range(2)}
    return {"base_acc": np.array([0.5], np.float32), **weights, **biases}


@pytest.fixture
def read(tmp_path):
    """Reads arrays as a file."""

    def read(arrays, space=RESNET50D):
        np.savez(tmp_path / "some.npz", **arrays)
        return read_published_predictor(tmp_path / "some.npz", space)

    return read


@pytest.mark.fixtures
@pytest.mark.parametrize("suffix", ["pth", "npz"])
def test_predictions_are_those_of_the_reference(fixtures_dir, suffix):
    folder = fixtures_dir / "resnet50"
    predictor = read_published_predictor(folder / f"ofa_resnet50_acc_predictor.{suffix}", RESNET50D)
    rows = json.loads((folder / "reference_predictions.json").read_text())
    codes = RESNET50D.encode([published_arch(RESNET50D, row, row["r"]) for row in rows])
    assert len({row["d"][0] for row in rows}) == 2
    assert predictor(codes) == pytest.approx([row["predicted_acc"] for row in rows], abs=1e-6)


def published_inputs(arch):
    """The inputs of an arch in the published order."""
    columns = [resolution == arch.resolution for resolution in RESNET50D.resolutions]
    columns += [arch.depths[0] == depth for depth in (1, 2)]
    columns += [index == choice for choice in arch.channels for index in range(3)]
    return np.array(columns + [ratio == expand for expand in arch.expands[3:] for ratio in (0.2, 0.25, 0.35)], float)


def test_every_input_has_its_place(arrays, read):
    predictor, codes = read(arrays), RESNET50D.sample(np.random.default_rng(1), 200)
    expected = []
    for arch in RESNET50D.decode(codes):
        values = published_inputs(arch)
        for index in range(2):
            values = np.maximum(arrays[f"layers.{index}.0.weight"] @ values + arrays[f"layers.{index}.0.bias"], 0)
        expected.append((arrays["layers.2.weight"] @ values + arrays["base_acc"])[0])
    assert np.ptp(expected) > 1
    assert predictor(codes) == pytest.approx(expected, abs=1e-5)


def test_it_may_be_of_other_widths(arrays, read):
    narrow = dataclasses.replace(RESNET50D, width_mult=(0.13, 0.16, 0.2), padding="symmetric", resolutions=(64, 128))
    codes = narrow.sample(np.random.default_rng(2), 20)
    codes[:, 0] = 1
    same = RESNET50D.encode([dataclasses.replace(arch, space=RESNET50D.name) for arch in narrow.decode(codes)])
    assert np.array_equal(read(arrays, narrow)(codes), read(arrays)(same))


CHANGES = {
    "no last weights": (lambda a: a.pop("layers.2.weight"), "is not the published predictor"),
    "no bias": (lambda a: a.pop("layers.1.0.bias"), "is not the published predictor"),
    "no accuracy": (lambda a: a.pop("base_acc"), "is not the published predictor"),
    "surplus": (lambda a: a.update(x=np.zeros(2)), "is not the published predictor"),
    "one input too few": (
        lambda a: a.update({"layers.0.0.weight": a["layers.0.0.weight"][:, 1:]}),
        r"layer 0 has the shape \(4, 81\); its input has 82 numbers",
    ),
    "two accuracies": (lambda a: a.update(base_acc=np.zeros(2, np.float32)), "layer 2 has the shape"),
    "not a number": (lambda a: a.update(base_acc=np.array([np.nan], np.float32)), "layer 2 must hold finite"),
    "words": (lambda a: a.update(base_acc=np.array(["x"])), "layer 2 must hold finite"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=list(CHANGES))
def test_other_files_are_refused(arrays, read, change, message):
    change(arrays)
    with pytest.raises(FormatError, match=message):
        read(arrays)


STEM = dataclasses.replace(RESNET50D.stages[0], depths=(1, 2, 3))
OTHERS = {
    "tiny": TINY,
    "mobilenet_v3": MOBILENET_V3,
    "other expand ratios": dataclasses.replace(RESNET50D, expands=(0.2, 0.25, 0.3)),
    "two widths": dataclasses.replace(RESNET50D, width_mult=(0.8, 1.0)),
    "a deeper stem": dataclasses.replace(RESNET50D, stages=(STEM, *RESNET50D.stages[1:])),
}


@pytest.mark.parametrize("space", OTHERS.values(), ids=list(OTHERS))
def test_spaces_with_other_choices_are_refused(arrays, read, space):
    with pytest.raises(FormatError, match=f"is the predictor of `resnet50d`, and `{space.name}` has other choices"):
        read(arrays, space)


@pytest.mark.fixtures
def test_the_predictor_of_another_network_is_refused(fixtures_dir):
    with pytest.raises(FormatError, match=r"layer 0 has the shape \(400, 128\); its input has"):
        read_published_predictor(fixtures_dir / "note10" / "ofa_accuracy_predictor.npz", RESNET50D)
