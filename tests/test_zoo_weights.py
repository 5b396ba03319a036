"""Published weights in our supernet: it must answer as the published networks do."""

import dataclasses
import json
from dataclasses import dataclass
from itertools import islice

import keras
import numpy as np
import pytest
from published_answers import answers_in_float64, assert_answers, is_rough, relative_error

from ofa_tf.blocks import count_params, walk
from ofa_tf.errors import FormatError
from ofa_tf.space import Arch
from ofa_tf.spaces import MOBILENET_V3, PROXYLESS
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.zoo import state_dict
from ofa_tf.zoo.weights import load_torch_weights

pytestmark = pytest.mark.fixtures
SPACES = {"mbv3": MOBILENET_V3, "proxyless": PROXYLESS}


@dataclass(frozen=True)
class Reference:
    """A published supernet with random weights: its tensors, and what it answers."""

    state: dict[str, np.ndarray]
    archs: list[Arch]
    n_params: list[int]
    images: np.ndarray
    outputs: np.ndarray
    supernet: Supernet
    subnets: list[keras.Model]


@pytest.fixture(scope="module", params=list(SPACES))
def reference(request, fixtures_dir):
    stem = fixtures_dir / "torch_parity" / f"{request.param}_w0.25"
    facts = json.loads(stem.with_name(stem.name + ".json").read_text())
    space = dataclasses.replace(
        SPACES[request.param],
        width_mult=facts["width_mult"],
        padding="symmetric",
        bn_epsilon=facts["bn_eps"],
        resolutions=(facts["resolution"],),
    )
    with np.load(stem.with_name(stem.name + ".npz")) as file:
        state = {name.removeprefix("state_dict/"): file[name] for name in file.files if name.startswith("state_dict/")}
        images, outputs = file["input"].transpose(0, 2, 3, 1), file["outputs"]
    archs = []
    for row in facts["archs"]:
        depths = [min(depth, stage.depths[-1]) for depth, stage in zip(row["d"], space.stages, strict=True)]
        archs.append(space.arch(facts["resolution"], depths, row["ks"], row["e"]))
    supernet = Supernet(space, facts["n_classes"])
    load_torch_weights(supernet, state)
    subnets = [extract(supernet, arch) for arch in archs]
    return Reference(state, archs, facts["n_params"], images, outputs, supernet, subnets)


def test_supernet_and_subnet_answer_as_published(reference):
    space = reference.supernet.space
    rows = zip(reference.archs, reference.subnets, reference.outputs, reference.n_params, strict=True)
    for arch, model, expected, n_params in rows:
        for outputs in (reference.supernet(reference.images, space.encode(arch)), model(reference.images)):
            assert_answers(outputs, expected, space, arch, model, reference.images)
        assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == n_params
        assert count_params(walk(space, arch, reference.supernet.n_classes)) == n_params


def test_in_float64_only_the_rounding_of_the_published_answers_is_left(reference):
    space = reference.supernet.space
    rows = zip(reference.archs, reference.subnets, reference.outputs, strict=True)
    for arch, subnet, expected in islice(rows, 3):
        outputs = answers_in_float64(space, arch, subnet, reference.images)
        assert relative_error(outputs, expected) < (2e-5 if is_rough(space, arch) else 5e-6)


@pytest.mark.parametrize("name", ["mbv3_w0.25.pth", "mbv3_w0.25_legacy.pth"])
@pytest.mark.parametrize("reference", ["mbv3"], indirect=True)
def test_checkpoints_hold_the_same_weights(reference, fixtures_dir, name):
    again = Supernet(reference.supernet.space, reference.supernet.n_classes, seed=1)
    load_torch_weights(again, state_dict(fixtures_dir / "torch_parity" / name))
    for ours, theirs in zip(again.get_weights(), reference.supernet.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# --- names and shapes -------------------------------------------------------------------------------------------------


def older(name):
    """The name in a checkpoint of an older version of the published code."""
    return name.replace(
        ".conv.inverted_bottleneck.conv.conv.", ".mobile_inverted_conv.inverted_bottleneck.conv."
    ).replace(".bn.bn.", ".bn.")


def test_names_of_older_checkpoints_are_known(reference):
    state = {older(name): tensor for name, tensor in reference.state.items()}
    assert len(state) == len(reference.state)
    assert len(state.keys() - reference.state.keys()) > 100
    again = Supernet(reference.supernet.space, reference.supernet.n_classes, seed=1)
    load_torch_weights(again, state)
    for ours, theirs in zip(again.get_weights(), reference.supernet.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_counters_of_batch_norms_are_not_needed(reference):
    state = {name: tensor for name, tensor in reference.state.items() if "num_batches_tracked" not in name}
    assert len(state) < len(reference.state)
    load_torch_weights(reference.supernet, state)


MATRIX = "blocks.3.conv.depth_conv.conv.7to5_matrix"
DEPTHWISE = "blocks.2.conv.depth_conv.conv.conv.weight"
CHANGES = {
    "missing": (lambda state: state.pop("classifier.linear.bias"), "lacks classifier.linear.bias"),
    "missing matrix": (lambda state: state.pop(MATRIX), f"lacks {MATRIX}"),
    "surplus": (lambda state: state.update({"blocks.99.conv.x": np.zeros(3)}), "has blocks.99.conv.x, which"),
    "surplus counter": (
        lambda state: state.update({"blocks.99.conv.bn.num_batches_tracked": np.array(1)}),
        "has blocks.99.conv.bn.num_batches_tracked, which",
    ),
    "twice": (
        lambda state: state.update({"first_conv.bn.bn.weight": state["first_conv.bn.weight"]}),
        "has first_conv.bn.bn.weight twice: first_conv.bn.weight is the same",
    ),
    "wide": (
        lambda state: state.update({"first_conv.bn.weight": np.zeros(16, np.float32)}),
        r"first_conv.bn.weight has the shape \[16\]; \[8\] is needed",
    ),
    "transposed": (
        lambda state: state.update({"classifier.linear.weight": state["classifier.linear.weight"].T}),
        r"classifier.linear.weight has the shape \[320, 10\]; \[10, 320\] is needed",
    ),
    "depthwise in another order": (
        lambda state: state.update({DEPTHWISE: state[DEPTHWISE].transpose(2, 3, 0, 1)}),
        r"depth_conv.conv.conv.weight has the shape \[7, 7, 48, 1\]; \[48, 1, 7, 7\] is needed",
    ),
    "not a number": (
        lambda state: state.update({"first_conv.bn.bias": np.full(8, np.nan, np.float32)}),
        "first_conv.bn.bias must hold finite",
    ),
    "whole numbers": (
        lambda state: state.update({"first_conv.bn.bias": np.zeros(8, np.int64)}),
        "first_conv.bn.bias must hold finite floating-point numbers",
    ),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=list(CHANGES))
def test_other_checkpoints_are_refused_by_name_and_change_nothing(reference, change, message):
    state = dict(reference.state)
    change(state)
    before = reference.supernet.get_weights()
    shifted = {name: tensor + 1 if tensor.dtype.kind == "f" else tensor for name, tensor in state.items()}
    with pytest.raises(FormatError, match=message):
        load_torch_weights(reference.supernet, shifted)
    for new, old in zip(reference.supernet.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_checkpoint_of_another_space_is_refused(reference):
    other = PROXYLESS if reference.supernet.space.name == "mobilenet_v3" else MOBILENET_V3
    space = dataclasses.replace(other, width_mult=0.25)
    with pytest.raises(FormatError, match="The checkpoint"):
        load_torch_weights(Supernet(space, reference.supernet.n_classes), reference.state)
