"""Published weights in our supernet: it must answer as the published networks do."""

import dataclasses
from dataclasses import dataclass
from itertools import islice

import keras
import numpy as np
import pytest
from published_answers import answers_in_float64, assert_answers, is_rough, relative_error
from published_networks import Published, published_arch, read_published

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.errors import FormatError
from ofa_tf.space import Arch
from ofa_tf.spaces import MOBILENET_V3, PROXYLESS, RESNET50D
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.zoo import state_dict
from ofa_tf.zoo.weights import load_torch_weights

pytestmark = pytest.mark.fixtures
SPACES = {
    "torch_parity/mbv3_w0.25": MOBILENET_V3,
    "torch_parity/proxyless_w0.25": PROXYLESS,
    "resnet50/parity/resnet50d_w0.2": RESNET50D,
}
INVERTED, RESNET = list(SPACES)[:2], list(SPACES)[2:]


@dataclass(frozen=True)
class Reference:
    """A published supernet with random weights, and ours with the same."""

    published: Published
    archs: list[Arch]
    supernet: Supernet
    subnets: list[keras.Model]

    @property
    def state(self) -> dict[str, np.ndarray]:
        return self.published.state

    @property
    def images(self) -> np.ndarray:
        return self.published.images

    @property
    def outputs(self) -> np.ndarray:
        return self.published.outputs


@pytest.fixture(scope="module", params=list(SPACES))
def reference(request, fixtures_dir):
    published = read_published(fixtures_dir / request.param)
    facts = published.facts
    mults = facts["width_mult"] if "width_mult" in facts else tuple(facts["width_mult_list"])
    space = dataclasses.replace(
        SPACES[request.param],
        width_mult=mults,
        padding="symmetric",
        bn_epsilon=facts["bn_eps"],
        resolutions=(facts["resolution"],),
    )
    archs = [published_arch(space, row, facts["resolution"]) for row in facts["archs"]]
    supernet = Supernet(space, facts["n_classes"])
    load_torch_weights(supernet, published.state)
    subnets = [extract(supernet, arch) for arch in archs]
    return Reference(published, archs, supernet, subnets)


def test_supernet_and_subnet_answer_as_published(reference):
    space = reference.supernet.space
    n_params_of = reference.published.facts["n_params"]
    rows = zip(reference.archs, reference.subnets, reference.outputs, n_params_of, strict=True)
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


@pytest.mark.parametrize("reference", RESNET, indirect=True)
def test_resnet50d_is_at_most_twice_as_far_from_float64_as_the_published_float32(reference):
    space, facts = reference.supernet.space, reference.published.facts
    rows = zip(reference.archs, reference.subnets, facts["reference_float32_error"], facts["n_macs"], strict=True)
    for arch, subnet, error, n_macs in rows:
        exact = answers_in_float64(space, arch, subnet, reference.images)
        for outputs in (reference.supernet(reference.images, space.encode(arch)), subnet(reference.images)):
            assert relative_error(outputs, exact) <= 2 * error
        assert count_macs(walk(space, arch, reference.supernet.n_classes)) == n_macs


@pytest.mark.parametrize("reference", RESNET, indirect=True)
def test_a_supernet_in_float64_answers_as_its_subnet_in_float64(reference):
    space, n_classes = reference.supernet.space, reference.supernet.n_classes
    exact = Supernet(space, n_classes, dtype="float64")
    load_torch_weights(exact, reference.state)
    arch, subnet = reference.archs[2], reference.subnets[2]
    outputs = exact(reference.images.astype(np.float64), space.encode(arch)).numpy()
    assert outputs.dtype == np.float64
    assert relative_error(outputs, answers_in_float64(space, arch, subnet, reference.images)) < 1e-13


@pytest.mark.parametrize("name", ["mbv3_w0.25.pth", "mbv3_w0.25_legacy.pth"])
@pytest.mark.parametrize("reference", INVERTED[:1], indirect=True)
def test_checkpoints_hold_the_same_weights(reference, fixtures_dir, name):
    again = Supernet(reference.supernet.space, reference.supernet.n_classes, seed=1)
    load_torch_weights(again, state_dict(fixtures_dir / "torch_parity" / name))
    for ours, theirs in zip(again.get_weights(), reference.supernet.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# --- names and shapes -------------------------------------------------------------------------------------------------


def older(name):
    """The name in a checkpoint of an older version of the published code."""
    name = name.replace(".conv.inverted_bottleneck.conv.conv.", ".mobile_inverted_conv.inverted_bottleneck.conv.")
    if "input_stem" in name or (name.startswith("blocks.") and ".conv2." in name):
        name = name.replace(".conv.conv.weight", ".conv.weight")
    return name.replace(".bn.bn.", ".bn.").replace(".linear.linear.", ".linear.")


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
@pytest.mark.parametrize("reference", INVERTED, indirect=True)
def test_other_checkpoints_are_refused_by_name_and_change_nothing(reference, change, message):
    assert_refused_unchanged(reference, change, message)


RESIDUAL = "input_stem.1.conv.conv.conv.weight"
RESNET_CHANGES = {
    "missing": (lambda state: state.pop(RESIDUAL), "lacks input_stem.1.conv.weight"),
    "missing shortcut": (
        lambda state: state.pop("blocks.4.downsample.conv.conv.weight"),
        "lacks blocks.4.downsample.conv.weight",
    ),
    "surplus": (
        lambda state: state.update({"blocks.5.downsample.conv.conv.weight": np.zeros((104, 104, 1, 1), np.float32)}),
        "has blocks.5.downsample.conv.conv.weight, which `resnet50d` does not have",
    ),
    "twice": (
        lambda state: state.update({"input_stem.1.conv.conv.weight": state[RESIDUAL]}),
        f"has input_stem.1.conv.conv.weight twice: {RESIDUAL} is the same",
    ),
    "narrow": (
        lambda state: state.update({"blocks.0.conv3.bn.bn.bias": np.zeros(40, np.float32)}),
        r"blocks.0.conv3.bn.bn.bias has the shape \[40\]; \[48\] is needed",
    ),
    "not a number": (
        lambda state: state.update({"input_stem.2.bn.bn.bias": np.full(16, np.inf, np.float32)}),
        "input_stem.2.bn.bn.bias must hold finite",
    ),
}


@pytest.mark.parametrize(("change", "message"), RESNET_CHANGES.values(), ids=list(RESNET_CHANGES))
@pytest.mark.parametrize("reference", RESNET, indirect=True)
def test_other_checkpoints_of_resnet50d_are_refused_alike(reference, change, message):
    assert_refused_unchanged(reference, change, message)


def assert_refused_unchanged(reference, change, message):
    """That a changed checkpoint is refused with that message and leaves the supernet as it was."""
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
