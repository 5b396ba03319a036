"""The supernet, and the plain subnets taken out of it."""

import functools
import json

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_checker import randomize

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.spaces import MOBILENET_V3, SPACES, TINY
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet

CLASSES = 7
BN = ("gamma", "beta", "moving_mean", "moving_variance")
all_spaces = pytest.mark.parametrize("name", list(SPACES))


def make_supernet(space, seed=0):
    """A supernet with random weights, batch norm statistics and kernel matrices."""
    supernet = Supernet(space, CLASSES)
    randomize(supernet, seed)
    return supernet


@pytest.fixture(scope="module")
def supernets():
    """One supernet of each space, made when it is first asked for; tests leave its weights as they are."""
    return functools.cache(lambda name: make_supernet(SPACES[name]))


def images(size=32, batch=2, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, size, size, 3)).astype(np.float32)


def relative_error(actual, expected):
    expected = np.asarray(expected)
    assert np.isfinite(expected).all()
    assert expected.std() > 0
    return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


def some_archs(space, n, seed):
    return [space.smallest(), *space.decode(space.sample(np.random.default_rng(seed), n))]


# --- subnets ----------------------------------------------------------------------------------------------------------


@all_spaces
def test_an_extracted_subnet_answers_as_the_supernet_does(supernets, name):
    supernet, space = supernets(name), SPACES[name]
    x = images(32 if space is TINY else 64)
    for arch in some_archs(space, 8 if space is TINY else 2, seed=1):
        model = extract(supernet, arch, fixed_size=False)
        assert not [layer for layer in model.layers if type(layer).__module__.startswith("ofa_tf")]
        assert relative_error(model(x), supernet(x, space.encode(arch))) < 1e-4
        n_params = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        assert n_params == count_params(walk(space, arch, CLASSES))


def test_without_an_arch_the_largest_answers(supernets):
    supernet, x = supernets("tiny"), images()
    np.testing.assert_array_equal(supernet(x), supernet(x, TINY.encode(TINY.largest())))
    assert relative_error(supernet(x, TINY.encode(TINY.smallest())), supernet(x)) > 0.01


def test_extraction_leaves_the_supernet_as_it_was_and_shares_nothing(supernets):
    supernet, x = supernets("tiny"), images()
    before = supernet.get_weights()
    model = extract(supernet, TINY.largest())
    model.set_weights([weight * 0 for weight in model.get_weights()])
    for new, old in zip(supernet.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)
    assert not np.any(model(x))


def counted_macs(model):
    """Multiply-accumulates read off the layers of a Keras model."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            total += int(np.prod(layer.kernel.shape))
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            total += int(np.prod(layer.output.shape[1:3])) * int(np.prod(layer.kernel.shape))
    return total


@pytest.mark.parametrize("name", ["mobilenet_v3", "tiny"])
def test_macs_are_those_of_the_keras_layers(supernets, name):
    space = SPACES[name]
    for arch in some_archs(space, 1, seed=3):
        assert counted_macs(extract(supernets(name), arch)) == count_macs(walk(space, arch, CLASSES))


# --- what an arch uses ------------------------------------------------------------------------------------------------


def shares(supernet, arch):
    """For each weight the part that an arch uses, as slices, or None for nothing; kernel size 5 everywhere."""
    used = {}
    blocks = {block.name: block for block in walk(supernet.space, arch, CLASSES)}
    for weight in supernet.weights:
        name, _, inner = weight.path.partition("/")
        block = blocks.get(name)
        if block is None or "transform_5_to_3" in inner:
            used[weight.path] = None
            continue
        mid = block.mid_channels
        used[weight.path] = {
            "expand/kernel": (..., slice(mid)),
            "depthwise/depthwise_kernel": (slice(1, 6), slice(1, 6), slice(mid)) if block.slot >= 0 else (...,),
            "project/kernel": (slice(None), slice(None), slice(mid)),
        }.get(inner, (slice(mid),) if inner.startswith(("expand_bn", "depthwise_bn")) else (...,))
    return used


def narrow_arch():
    return TINY.arch(32, [1, 2, 1], [5] * TINY.n_blocks, [4, 0, 3, 4, 3, 0])


def test_what_an_arch_does_not_use_has_no_part_in_it():
    supernet, x = make_supernet(TINY), images()
    arch = narrow_arch()
    code = TINY.encode(arch)
    expected = supernet(x, code).numpy()
    n_poisoned = 0
    for weight, used in zip(supernet.weights, shares(supernet, arch).values(), strict=True):
        poisoned = np.full(weight.shape, np.nan, np.float32)
        if used is not None:
            poisoned[used] = weight.numpy()[used]
        n_poisoned += np.isnan(poisoned).any()
        weight.assign(poisoned)
    assert n_poisoned > 60
    np.testing.assert_array_equal(supernet(x, code), expected)
    np.testing.assert_array_equal(extract(supernet, arch)(x), expected)
    assert np.isnan(supernet(x)).any()


def test_all_that_an_arch_uses_has_a_part_in_it():
    supernet, x = make_supernet(TINY), images(batch=8)
    arch = narrow_arch()
    weights = supernet.trainable_weights
    with tf.GradientTape() as tape:
        logits = supernet(x, TINY.encode(arch), training=True)
        loss = tf.reduce_sum(logits * images(1, CLASSES * 8)[:8, 0, 0, :1])
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(loss, [weight.value for weight in weights], unconnected_gradients=zero)
    used = shares(supernet, arch)
    for weight, gradient in zip(weights, gradients, strict=True):
        gradient, inside = gradient.numpy(), np.zeros(weight.shape, bool)
        if used[weight.path] is not None:
            inside[used[weight.path]] = True
            assert np.count_nonzero(gradient[inside]) > 0.5 * inside.sum(), weight.path
        assert not gradient[~inside].any(), weight.path


# --- sorting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3], ids=lambda space: space.name)
def test_sorting_does_not_change_the_largest_subnet(space):
    supernet = make_supernet(space, seed=4)
    x = images(32 if space is TINY else 64)
    largest, smallest = supernet(x).numpy(), supernet(x, space.encode(space.smallest())).numpy()
    supernet.sort_channels()
    assert relative_error(supernet(x), largest) < 1e-5
    assert relative_error(supernet(x, space.encode(space.smallest())), smallest) > 0.01
    for block in supernet.elastic_blocks:
        assert (np.diff(np.abs(block.project_conv.kernel.numpy()).sum((0, 1, 3))) <= 0).all()
        if block.squeeze_excite is not None:
            assert (np.diff(np.abs(block.squeeze_excite.expand_kernel.numpy()).sum(1)) <= 0).all()


# --- one graph --------------------------------------------------------------------------------------------------------


def test_one_trace_serves_every_arch_and_resolution(supernets):
    supernet, traces = supernets("tiny"), []
    image, code = tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((TINY.n_genes,), tf.int32)

    @tf.function(input_signature=[image, code])
    def answer(x, code):
        traces.append(code)
        return supernet(x, code)

    archs = [TINY.largest(), *some_archs(TINY, 8, seed=5)]
    assert {arch.resolution for arch in archs} == set(TINY.resolutions)
    answers = []
    for batch, arch in enumerate(archs, start=1):
        x = images(arch.resolution, batch)
        answers.append(answer(x, TINY.encode(arch)).numpy())
        if batch < 5:
            assert relative_error(extract(supernet, arch)(x), answers[-1]) < 1e-4
    assert len({tuple(logits[0]) for logits in answers}) == len(archs)
    assert len(traces) == 1


# --- making and saving ------------------------------------------------------------------------------------------------


def test_the_seed_makes_the_weights():
    weights = [Supernet(TINY, CLASSES, seed).get_weights() for seed in (3, 3, 4)]
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert sum(not np.array_equal(a, b) for a, b in zip(weights[0], weights[2], strict=True)) > 20


def test_a_supernet_is_the_same_after_its_config(supernets):
    supernet, x = supernets("tiny"), images()
    config = supernet.get_config()
    document = json.loads(json.dumps(keras.saving.serialize_keras_object(supernet)))
    for again in (
        Supernet.from_config(json.loads(json.dumps(config))),
        keras.saving.deserialize_keras_object(document),
    ):
        assert (again.space, again.n_classes, again.seed) == (TINY, CLASSES, 0)
        assert again.get_config() == config
        assert [weight.path for weight in again.weights] == [weight.path for weight in supernet.weights]
        again.set_weights(supernet.get_weights())
        np.testing.assert_array_equal(again(x), supernet(x))


def test_a_supernet_is_the_same_after_its_file(supernets, tmp_path):
    supernet, x = supernets("tiny"), images()
    supernet.save(tmp_path / "supernet.keras")
    again = keras.saving.load_model(tmp_path / "supernet.keras")
    assert type(again) is Supernet
    np.testing.assert_array_equal(again(x, TINY.encode(TINY.smallest())), supernet(x, TINY.encode(TINY.smallest())))


def test_variables_keep_the_names_that_checkpoints_and_files_have(supernets, tmp_path):
    supernet = supernets("mobilenet_v3")
    paths = {weight.path for weight in supernet.weights}
    norms = {f"{name}_bn/{part}" for name in ("expand", "depthwise", "project") for part in BN}
    squeeze = {f"se/{name}_{part}" for name in ("reduce", "expand") for part in ("kernel", "bias")}
    kernels = {"expand/kernel", "project/kernel", "depthwise/depthwise_kernel"}
    matrices = {"depthwise/transform_7_to_5", "depthwise/transform_5_to_3"}
    for start, expected in (
        ("stem/", {"conv/kernel", *(f"bn/{part}" for part in BN)}),
        ("first/", {name for name in kernels | norms if not name.startswith("expand")}),
        ("stage2_block1/", kernels | norms | squeeze | matrices),
        ("feature/", {"kernel"}),
        ("classifier/", {"kernel", "bias"}),
    ):
        assert {path.removeprefix(start) for path in paths if path.startswith(start)} == expected
    supernet.save_weights(tmp_path / "supernet.weights.h5")
    with h5py.File(tmp_path / "supernet.weights.h5") as file:
        groups = {name.rstrip("_0123456789") for name in file["block_layers"]}
    assert groups - {"global_average"} == {"conv_block", "elastic_inverted_residual", "dense"}
