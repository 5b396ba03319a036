"""The masked formulation against the sliced one: same outputs, same gradients, static shapes."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from layer_checker import check_layer, randomize

from ofa_tf.layers import ElasticInvertedResidual
from ofa_tf.spaces import SPACES, TINY
from ofa_tf.supernet import Supernet
from ofa_tf.training.recipe import RECIPES
from ofa_tf.training.step import TrainingStep

CLASSES = 7
RTOL = 1e-5
RTOL64 = 1e-10
FORMULATIONS = ("sliced", "masked")
both_paddings = pytest.mark.parametrize("padding", ["same", "symmetric"])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def make_supernets(space, dtype="float32"):
    """A sliced and a masked supernet with the same random weights."""
    supernets = [Supernet(space, CLASSES, formulation=formulation, dtype=dtype) for formulation in FORMULATIONS]
    for supernet in supernets:
        randomize(supernet)
    return supernets


def without_relu(space):
    """The space with hard_swish everywhere: at the kink of a ReLU other rounding makes another gradient."""
    names = ("stem_activation", "first_activation", "head_activation")
    stages = tuple(dataclasses.replace(stage, activation="hard_swish") for stage in space.stages)
    return dataclasses.replace(space, stages=stages, **dict.fromkeys(names, "hard_swish"))


@pytest.fixture
def batch_norm_of_any_type(monkeypatch):
    """TensorFlow's fused batch norm does not know float64: the same in single operations."""

    def in_parts(x, scale, offset, mean, variance, epsilon, is_training):
        assert is_training
        mean, variance = tf.nn.moments(x, (0, 1, 2))
        return SimpleNamespace(y=tf.nn.batch_normalization(x, mean, variance, offset, scale, epsilon))

    monkeypatch.setattr(tf.raw_ops, "FusedBatchNormV3", in_parts)


def outputs_and_gradients(layer, x, *choice, training):
    """The outputs, and the gradients of all weights (of the inputs too) by path, of a random linear function."""
    x, weights = tf.constant(x), layer.trainable_weights
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, *choice, training=training)
        loss = tf.reduce_sum(outputs * normal(*outputs.shape, seed=9))
    sources = [x, *(weight.value for weight in weights)]
    gradients = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    paths = ["inputs", *(weight.path for weight in weights)]
    assert len(set(paths)) == len(paths)
    return outputs.numpy(), {path: gradient.numpy() for path, gradient in zip(paths, gradients, strict=True)}


def assert_close(actual, expected, name="", rtol=RTOL):
    atol = rtol * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol, err_msg=name)


# --- one block --------------------------------------------------------------------------------------------------------

BLOCKS = {
    "plain": {"strides": 2, "skip": False},
    "with everything": {"activation": "hard_swish", "se": True},
    "symmetric": {"strides": 2, "activation": "hard_swish", "se": True, "skip": False, "padding": "symmetric"},
    "not expanded": {"activation": "relu", "expands": (1,), "kernel_sizes": (3, 5, 7)},
}


def make_blocks(arguments):
    blocks = [
        ElasticInvertedResidual(16, 16, **{"skip": True, **arguments}, formulation=formulation, name="block")
        for formulation in FORMULATIONS
    ]
    for block in blocks:
        block.build()
        randomize(block)
    return blocks


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("arguments", BLOCKS.values(), ids=list(BLOCKS))
def test_a_masked_block_is_the_sliced_one(arguments, size):
    sliced, masked = make_blocks(arguments)
    x = normal(4, size, size, 16)
    for kernel_index, expand_index in ((0, 2), (1, 0), (2, 1)):
        choice = tf.constant(kernel_index), tf.constant(min(expand_index, len(sliced.expands) - 1))
        for training in (False, True):
            expected, expected_gradients = outputs_and_gradients(sliced, x, *choice, training=training)
            actual, gradients = outputs_and_gradients(masked, x, *choice, training=training)
            assert_close(actual, expected)
            assert set(gradients) == set(expected_gradients)
            for path, gradient in gradients.items():
                assert_close(gradient, expected_gradients[path], path)


def test_a_masked_block_does_what_every_layer_must():
    def sliced(block, x):
        twin = ElasticInvertedResidual.from_config({**block.get_config(), "formulation": "sliced"})
        twin.build()
        twin.set_weights(block.get_weights())
        return twin(x)

    check_layer(
        lambda: ElasticInvertedResidual(16, 16, se=True, skip=True, formulation="masked"),
        normal(4, 8, 8, 16),
        {},
        sliced,
    )


def test_an_unknown_formulation_is_refused():
    for make in (lambda f: ElasticInvertedResidual(16, 16, formulation=f), lambda f: Supernet(TINY, 2, formulation=f)):
        with pytest.raises(ValueError, match=r"`formulation` \(='dense'\) must be one of \('sliced', 'masked'\)"):
            make("dense")


# --- the network ------------------------------------------------------------------------------------------------------


@both_paddings
@pytest.mark.parametrize(("name", "sizes"), [("tiny", (31, 32)), ("edge", (75,)), ("mobilenet_v3", (75,))])
def test_a_masked_supernet_is_the_sliced_one(name, sizes, padding):
    # From 75 pixels the strides see odd and even sizes: 75, 38, 19, 10, 5.
    space = dataclasses.replace(SPACES[name], padding=padding)
    if name == "mobilenet_v3":  # its squeeze-and-excite sums in another order; in the others nothing does
        space = without_relu(space)
    sliced, masked = make_supernets(space)
    rng = np.random.default_rng(1)
    for size in sizes:
        x, code = normal(4, size, size, 3), space.sample(rng, 1)[0]
        answer = sliced(x, code)
        assert_close(masked(x, code), answer)
        expected = sliced(x, code, training=True)
        assert_close(masked(x, code, training=True), expected)
        assert np.abs(expected - answer).max() > 0.01 * np.abs(expected).max()
        if name == "tiny":
            assert_gradients_are_close(sliced, masked, x, code, RTOL)


@both_paddings
@pytest.mark.parametrize("name", ["tiny", "edge", "mobilenet_v3"])
def test_its_gradients_are_those_of_the_sliced_one(name, padding, batch_norm_of_any_type):
    # In float32 rounding alone moves gradients through 20 blocks: by 0.005 where a ReLU switches.
    space = dataclasses.replace(SPACES[name], padding=padding)
    size = 31 if name == "tiny" else 75
    supernets = make_supernets(space, "float64")
    x, code = normal(4, size, size, 3).astype(np.float64), space.sample(np.random.default_rng(1), 1)[0]
    assert_gradients_are_close(*supernets, x, code, RTOL64)


def assert_gradients_are_close(sliced, masked, x, code, rtol):
    _, expected = outputs_and_gradients(sliced, x, code, training=True)
    _, gradients = outputs_and_gradients(masked, x, code, training=True)
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for path, gradient in gradients.items():
        if path.endswith("project_bn/beta"):
            # The next batch norm takes it away again: the gradient is 0 but for rounding.
            assert np.abs(gradient - expected[path]).max() < rtol * largest
        else:
            assert_close(gradient, expected[path], path, rtol)


def test_calibration_leaves_what_an_arch_does_not_use():
    sliced, masked = make_supernets(TINY)
    before = [weight.numpy() for weight in sliced.non_trainable_weights]
    code = TINY.encode(TINY.arch(32, [1, 2, 1], [5] * TINY.n_blocks, [4, 0, 3, 4, 3, 0]))
    for seed in range(2):
        for supernet in (sliced, masked):
            supernet(normal(8, 32, 32, 3, seed=seed), code, training=True, momentum=tf.constant(0.5))
    n_kept = 0
    for weight, expected, old in zip(masked.non_trainable_weights, sliced.non_trainable_weights, before, strict=True):
        assert_close(weight.numpy(), expected.numpy(), weight.path)
        kept = expected.numpy() == old
        n_kept += kept.any()
        np.testing.assert_array_equal(weight.numpy()[kept], old[kept], weight.path)
    assert n_kept > 20


def test_the_config_names_the_formulation():
    config = json.loads(json.dumps(Supernet(TINY, CLASSES, formulation="masked").get_config()))
    again = Supernet.from_config(config)
    assert again.formulation == "masked"
    for block in again.elastic_blocks:
        assert block.formulation == ElasticInvertedResidual.from_config(block.get_config()).formulation == "masked"
    del config["formulation"]
    assert Supernet.from_config(config).formulation == "sliced"


# --- static shapes ----------------------------------------------------------------------------------------------------


def test_every_shape_is_static():
    stages = tuple(dataclasses.replace(stage, se=True) for stage in TINY.stages)
    space = dataclasses.replace(TINY, stages=stages, padding="symmetric")
    supernet = Supernet(space, CLASSES, formulation="masked")

    @tf.function(input_signature=[tf.TensorSpec((4, 30, 30, 3)), tf.TensorSpec((space.n_genes,), tf.int32)])
    def gradients(x, code):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(supernet(x, code, training=True))
        return tape.gradient(loss, [weight.value for weight in supernet.trainable_weights])

    operations = gradients.get_concrete_function().graph.get_operations()
    assert len(operations) > 1000
    # The zeros are gradients of what the fused batch norm keeps for its own use; nothing reads them.
    shapes = {op.name: op.outputs[0].shape for op in operations if op.outputs and op.type != "ZerosLike"}
    assert not [name for name, shape in shapes.items() if not shape.is_fully_defined()]
    slices = [op for op in operations if op.type == "StridedSlice"]
    assert all(size.op.type == "Const" for op in slices for size in op.inputs[1:])
    assert not {op.type for op in operations} & {"If", "StatelessIf", "While", "StatelessWhile", "Shape", "Range"}


def test_xla_compiles_it_and_it_learns_as_the_sliced_one_does():
    space = without_relu(TINY)
    images, labels = tf.constant(normal(6, 32, 32, 3)), tf.constant(np.arange(6, dtype=np.int32) % CLASSES)
    pairs = TINY.sample(np.random.default_rng(2), 12).reshape(6, 2, -1)
    pairs[:, 0, 0], pairs[:, 1, 0] = 2, np.arange(6) % 2  # so that images are resized
    recipe = dataclasses.replace(RECIPES["demo"], sampling="uniform")  # so that the other network teaches
    losses, weights = {}, {}
    for formulation in FORMULATIONS:
        networks = (Supernet(space, CLASSES, seed, formulation) for seed in (0, 1))
        step = TrainingStep(*networks, recipe, jit_compile=formulation == "masked")
        losses[formulation] = [step.run(images, labels, 6, 6, codes, 0.05, distil=True) for codes in pairs]
        weights[formulation] = step.supernet.get_weights()
        assert step.traces == {"resize": 1, "teacher": 1, "accumulate": 1, "apply": 1}
    np.testing.assert_allclose(losses["masked"], losses["sliced"], rtol=1e-4)
    for masked, sliced in zip(weights["masked"], weights["sliced"], strict=True):
        np.testing.assert_allclose(masked, sliced, rtol=0, atol=1e-4 * max(1, np.abs(sliced).max()))
    first, *_, last = (step_losses.mean() for step_losses in losses["masked"])
    assert last < 0.96 * first  # the teacher's own entropy is a part of it
