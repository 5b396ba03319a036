"""Supernets of spaces with every kind of choice: subnets, formulations, traces, training, calibration."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from layer_checker import randomize
from rich_spaces import BARE, COUPLED, RESNET, RICH, RICH_SPACES

from ofa_tf.blocks import count_params, walk
from ofa_tf.data import ImageSet, Preprocessing
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.training.evaluation import SubnetEvaluator
from ofa_tf.training.recipe import RECIPES
from ofa_tf.training.step import TrainingStep

CLASSES = 7
FORMULATIONS = ("sliced", "masked")
every_space = pytest.mark.parametrize("space", RICH_SPACES.values(), ids=list(RICH_SPACES))


def make_supernet(space, formulation="sliced", **options):
    supernet = Supernet(space, CLASSES, formulation=formulation, **options)
    randomize(supernet)
    return supernet


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def relative_error(actual, expected):
    expected = np.asarray(expected)
    assert np.isfinite(expected).all()
    assert expected.std() > 0
    return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


def some_archs(space, n=6, seed=1):
    return [space.smallest(), space.largest(), *space.decode(space.sample(np.random.default_rng(seed), n))]


# --- subnets ----------------------------------------------------------------------------------------------------------


@every_space
def test_one_trace_of_either_formulation_answers_as_every_extracted_subnet(space):
    traces, answers = [], []
    for formulation in FORMULATIONS:
        supernet = make_supernet(space, formulation)
        signature = [tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((space.n_genes,), tf.int32)]

        def answer(x, code, supernet=supernet):
            traces.append(code)
            return supernet(x, code)

        answers.append(tf.function(answer, input_signature=signature))
    for arch in some_archs(space):
        model, code = extract(supernet, arch, fixed_size=False), space.encode(arch)
        n_params = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        assert n_params == count_params(walk(space, arch, CLASSES))
        for size in (arch.resolution, arch.resolution - 1):
            x = noise(2, size, size, 3)
            expected = model(x)
            for found in (*(answer(x, code) for answer in answers), supernet(x, code=tuple(map(int, code)))):
                assert relative_error(found, expected) < 1e-4
    assert len(traces) == 2


def used_part(weights, op):
    """For each variable of an operation the part that the plain layer is made of, as slices; None for nothing."""
    n_in, n_out = op.in_channels, op.out_channels
    sizes = [weights.kernel.shape[0], *weights.transforms]
    if op.depthwise:
        inside = slice(None)
        if op.kernel[0] < sizes[0]:  # the centre of the largest, as large as the next
            margin = (sizes[0] - sizes[1]) // 2
            inside = slice(margin, sizes[0] - margin)
        yield weights.kernel, (inside, inside, slice(n_in))
    else:
        yield weights.kernel, (..., slice(n_in), slice(n_out))
    for size, transform in weights.transforms.items():
        yield transform, (...,) if size >= op.kernel[0] else None
    if weights.bias is not None:
        yield weights.bias, (slice(n_out),)
    for variable in getattr(weights.norm, "weights", ()):
        yield variable, (slice(n_out),)


@every_space
def test_what_an_arch_does_not_use_has_no_part_in_it(space):
    x = noise(2, 32, 32, 3)
    for arch in space.decode(space.sample(np.random.default_rng(5), 2)):
        supernet, code = make_supernet(space), space.encode(arch)
        expected = supernet(x, code).numpy()
        used = {}
        for block in walk(space, arch, CLASSES):
            weights = supernet.block_layers[block.name].op_weights()
            for op in block.ops:
                if op.n_weights:
                    used |= {variable.path: part for variable, part in used_part(weights[op.suffix], op)}
        n_poisoned = 0
        for weight in supernet.weights:
            poisoned = np.full(weight.shape, np.nan, np.float32)
            if (part := used.get(weight.path)) is not None:
                poisoned[part] = weight.numpy()[part]
            n_poisoned += np.isnan(poisoned).any()
            weight.assign(poisoned)
        assert n_poisoned > 20
        np.testing.assert_array_equal(supernet(x, code), expected)
        np.testing.assert_array_equal(extract(supernet, arch, fixed_size=False)(x), expected)


@every_space
def test_a_network_of_one_arch_answers_as_the_subnet(space):
    supernet, x = make_supernet(space), noise(2, 32, 32, 3)
    for arch in some_archs(space, 2, seed=3):
        alone = make_supernet(space, arch=arch)
        for block in walk(space, arch, CLASSES):
            plain = supernet.block_layers[block.name].active_weights(block)
            held = alone.block_layers[block.name].active_weights(block)
            assert {name: [w.shape for w in weights] for name, weights in plain.items()} == {
                name: [w.shape for w in weights] for name, weights in held.items()
            }
        n_params = sum(int(np.prod(weight.shape)) for weight in alone.trainable_weights)
        assert n_params == count_params(walk(space, arch, CLASSES))
        assert relative_error(extract(alone, arch, fixed_size=False)(x), alone(x)) < 1e-4


@every_space
def test_a_supernet_is_the_same_after_its_config(space):
    supernet, x = make_supernet(space, "masked"), noise(2, 32, 32, 3)
    config = json.loads(json.dumps(supernet.get_config()))
    again = Supernet.from_config(config)
    assert [weight.path for weight in again.weights] == [weight.path for weight in supernet.weights]
    again.set_weights(supernet.get_weights())
    np.testing.assert_array_equal(again(x), supernet(x))
    for layer in (layer for layer in again.block_layers.values() if layer.weights):
        copy = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
        assert copy.get_config() == layer.get_config()


# --- formulations -----------------------------------------------------------------------------------------------------


def smooth(space):
    """The space with hard_swish everywhere: at the kink of a ReLU other rounding makes another gradient."""
    names = ("stem_activation", "first_activation", "head_activation")
    stages = tuple(replace(stage, activation="hard_swish") for stage in space.stages)
    return replace(space, stages=stages, **dict.fromkeys(names, "hard_swish"))


@every_space
def test_outputs_and_gradients_of_both_formulations_are_the_same(space):
    space = smooth(space)
    supernets = [make_supernet(space, formulation) for formulation in FORMULATIONS]
    x, target = noise(6, 31, 31, 3), noise(6, CLASSES, seed=2)
    for code in space.sample(np.random.default_rng(4), 3):
        results = []
        for supernet in supernets:
            with tf.GradientTape() as tape:
                logits = supernet(x, code, training=True)
                loss = tf.reduce_sum(logits * target)
            sources = [weight.value for weight in supernet.trainable_weights]
            gradients = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            results.append((logits.numpy(), [gradient.numpy() for gradient in gradients]))
        (expected, gradients), (actual, masked) = results
        assert relative_error(actual, expected) < 1e-4
        floor = 1e-5 * max(np.abs(gradient).max() for gradient in gradients)  # those that a batch norm takes away
        for weight, one, other in zip(supernets[0].trainable_weights, gradients, masked, strict=True):
            atol = 1e-3 * np.abs(one).max() + floor
            np.testing.assert_allclose(other, one, rtol=0, atol=atol, err_msg=weight.path)


@every_space
def test_calibration_leaves_what_an_arch_does_not_use(space):
    supernets = [make_supernet(space, formulation) for formulation in FORMULATIONS]
    before = [weight.numpy() for weight in supernets[0].non_trainable_weights]
    code = space.encode(space.smallest())
    for seed in range(2):
        for supernet in supernets:
            supernet(noise(8, 32, 32, 3, seed=seed), code, training=True, momentum=tf.constant(0.5))
    n_kept = n_changed = 0
    for sliced, masked, old in zip(*(s.non_trainable_weights for s in supernets), before, strict=True):
        kept = sliced.numpy() == old
        n_kept += kept.any()
        n_changed += not kept.all()
        np.testing.assert_array_equal(masked.numpy()[kept], old[kept], sliced.path)
        np.testing.assert_allclose(masked, sliced, rtol=0, atol=1e-4 * np.abs(old).max(), err_msg=sliced.path)
    assert min(n_kept, n_changed) > 10


def test_every_shape_of_the_masked_one_is_static():
    for space in (RICH, RESNET):
        supernet = Supernet(space, CLASSES, formulation="masked")

        @tf.function(input_signature=[tf.TensorSpec((4, 40, 40, 3)), tf.TensorSpec((space.n_genes,), tf.int32)])
        def gradients(x, code, supernet=supernet):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(supernet(x, code, training=True))
            return tape.gradient(loss, [weight.value for weight in supernet.trainable_weights])

        operations = gradients.get_concrete_function().graph.get_operations()
        shapes = {op.name: op.outputs[0].shape for op in operations if op.outputs and op.type != "ZerosLike"}
        assert not [name for name, shape in shapes.items() if not shape.is_fully_defined()]
        assert not {op.type for op in operations} & {"If", "StatelessIf", "While", "StatelessWhile", "Shape", "Range"}


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("space", [RICH, RESNET, COUPLED], ids=lambda space: space.name)
def test_every_weight_learns_in_one_trace(space, dtype):
    recipe = replace(RECIPES["demo"], kd_ratio=1.0)
    supernet = Supernet(space, CLASSES, dtype=dtype)
    before = [weight.numpy() for weight in supernet.trainable_weights]
    step = TrainingStep(supernet, supernet, recipe)
    rng = np.random.default_rng(1)
    for number in range(4):
        codes = space.sample(rng, 3)
        codes[0] = space.encode(space.largest())
        size = max(space.resolutions[index] for index in codes[:, 0])
        images, labels = noise(6, size, size, 3), np.arange(6, dtype=np.int32)
        losses = step.run(tf.constant(images), tf.constant(labels), 6, 6, codes, 0.05, distil=True, seed=number)
        assert np.isfinite(losses).all()
    assert step.traces == {"resize": 1, "accumulate": 1, "apply": 1}
    for weight, old in zip(supernet.trainable_weights, before, strict=True):
        assert np.isfinite(weight.numpy()).all()
        if "transform" not in weight.path and not weight.path.endswith("beta"):
            moved = np.mean(weight.numpy() != old)
            assert moved > 0.5, weight.path


@pytest.mark.parametrize(("space", "n_shared"), [(RICH, 0), (BARE, 1), (COUPLED, 2), (RESNET, 0)])
def test_an_evaluator_shares_what_comes_before_the_first_choice(space, n_shared):
    supernet = make_supernet(space)
    assert len(supernet.shared_layers) == n_shared
    rng = np.random.default_rng(0)
    images = ImageSet(rng.integers(0, 256, (24, 48, 48, 3)).astype(np.uint8), np.arange(24) % CLASSES)
    evaluators = [
        SubnetEvaluator(supernet, Preprocessing(), images, **options)
        for options in ({}, {"frozen": True}, {"traced": False})
    ]
    for arch in some_archs(space, 0):
        answers = []
        for evaluator in evaluators:
            evaluator.calibrate(arch)
            answers.append(evaluator.logits(arch, images))
        np.testing.assert_array_equal(answers[1], answers[0])
        assert relative_error(answers[2], answers[0]) < 1e-4
        resized = Preprocessing()(images.resized(arch.resolution).images)
        assert relative_error(extract(supernet, arch)(resized), answers[0]) < 1e-4
    assert evaluators[0].traces == {"calibrate": 1, "predict": 1}
