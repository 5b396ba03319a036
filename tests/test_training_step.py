"""The numbers of one training step: losses, gradients, optimizer."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_checker import randomize
from small_project import RECIPE

from ofa_tf.blocks import walk
from ofa_tf.spaces import TINY
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.training.losses import distillation_loss
from ofa_tf.training.step import TrainingStep, resized, resizing_matrix

CLASSES = 3


@pytest.fixture(scope="module")
def step():
    return TrainingStep(Supernet(TINY, CLASSES), Supernet(TINY, CLASSES, seed=1), RECIPE)


def softmax(logits):
    return tf.nn.softmax(tf.constant(logits, tf.float32)).numpy()


def numpy_loss(logits, labels, soft_targets, kd_ratio=0.0, smoothing=RECIPE.label_smoothing):
    """The hard cross-entropy plus `kd_ratio` times the soft one, image by image."""
    losses = []
    for row, label, soft in zip(*(np.float64(a) for a in (logits, labels, soft_targets)), strict=True):
        logs = row - np.log(np.exp(row - row.max()).sum()) - row.max()
        hard = [(1 - smoothing) * (c == label) + smoothing / len(row) for c in range(len(row))]
        losses.append(-np.dot(hard, logs) - kd_ratio * np.dot(soft, logs))
    return np.mean(losses)


def batch(n=8, size=24, seed=2):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(n, size, size, 3)).astype(np.float32), rng.integers(CLASSES, size=n).astype(np.int32)
    codes = TINY.sample(rng, 3)
    codes[:, 0] = TINY.resolutions.index(size)
    return tf.constant(x), tf.constant(labels), codes


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kd_ratio", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_hard_and_the_soft_cross_entropy(kd_ratio, smoothing):
    rng = np.random.default_rng(1)
    logits, teacher = rng.normal(0, 4, (2, 9, 5)).astype(np.float32)
    labels = rng.integers(5, size=9).astype(np.int32)
    soft = softmax(teacher)
    loss = distillation_loss(tf.constant(logits), labels, soft, tf.constant(kd_ratio), smoothing)
    assert loss.numpy() == pytest.approx(numpy_loss(logits, labels, soft, kd_ratio, smoothing), rel=1e-5)


def test_no_gradient_goes_through_the_teacher():
    logits, teacher = (tf.constant(np.random.default_rng(seed).normal(size=(4, 3)), tf.float32) for seed in (0, 1))
    with tf.GradientTape() as tape:
        tape.watch([logits, teacher])
        soft = tf.nn.softmax(teacher)
        loss = distillation_loss(logits, np.zeros(4, np.int32), soft, tf.constant(1.0), 0.1)
    gradients = tape.gradient(loss, [logits, teacher])
    assert gradients[0] is not None
    assert gradients[1] is None


# --- gradients --------------------------------------------------------------------------------------------------------


def plain_gradients(model, space, arch, loss_of):
    """Gradient of a plain subnet's loss, by the name of the supernet's weight, each with its place in it."""
    model.trainable = True
    weights = [weight for layer in model.layers for weight in layer.trainable_weights]
    with tf.GradientTape() as tape:
        loss = loss_of(model)
    gradients = iter(tape.gradient(loss, [weight.value for weight in weights]))
    found = {}
    for layer in model.layers:
        block = max((b.name for b in walk(space, arch, 3) if layer.name.startswith(b.name)), key=len, default="")
        inner = layer.name.removeprefix(block).removeprefix("_")
        if not inner and isinstance(layer, keras.layers.Conv2D):
            inner = "conv"  # the one convolution of a block bears the block's name
        for weight in layer.trainable_weights:
            name = weight.name
            if inner == "depthwise":
                name = "depthwise_kernel"
            found["/".join(part for part in (block, inner, name) if part)] = next(gradients).numpy()
    return found, loss


def test_accumulated_gradients_are_the_sum_of_the_plain_subnets(step):
    supernet = step.supernet
    randomize(supernet, seed=3)
    step.reset_optimizer()
    archs = [
        TINY.arch(28, [2, 1, 2], [7, 7, 7, 0, 7, 7], [4, 3, 6, 0, 3, 4]),
        TINY.arch(28, [2, 2, 1], [7, 3, 7, 7, 5, 0], [3, 4, 4, 6, 3, 0]),
    ]
    rng = np.random.default_rng(2)
    x, labels = rng.normal(size=(12, 28, 28, 3)).astype(np.float32), rng.integers(3, size=12).astype(np.int32)
    soft = softmax(rng.normal(size=(12, 3)))
    step.soft_targets.assign(soft)
    expected = {variable.path: np.zeros(variable.shape) for variable in step.variables}
    for arch in archs:
        step.losses.assign(tf.zeros_like(step.losses))
        step.accumulate(x, labels, 0, 12, TINY.encode(arch), 1.0, 1.0, False, 5, 0)
        loss = step.losses[5]
        parts, plain_loss = plain_gradients(
            extract(supernet, arch),
            TINY,
            arch,
            lambda model: distillation_loss(model(x, training=True), labels, soft, tf.constant(1.0), 0.1),
        )
        assert loss.numpy() == pytest.approx(plain_loss.numpy(), rel=1e-5)
        for name, gradient in parts.items():
            if gradient.shape[:2] in ((3, 3), (5, 5)) and "stage" in name:
                continue  # a transformed kernel; the layer's own tests follow the gradient further
            expected[name][tuple(slice(n) for n in gradient.shape)] += gradient
    compared, floor = 0, 1e-6 * max(np.abs(gradient).max() for gradient in expected.values())
    for variable, total in zip(step.variables, step.gradients, strict=True):
        if variable.path in ("stage1_block2/depthwise/depthwise_kernel", "stage3_block1/depthwise/depthwise_kernel"):
            continue  # of these the second arch has a smaller kernel
        if "transform" in variable.path:
            continue
        scale = np.abs(expected[variable.path]).max()
        compared += scale > floor  # an offset that a later batch norm takes away has no gradient
        np.testing.assert_allclose(
            total, expected[variable.path], rtol=0, atol=1e-4 * scale + floor, err_msg=variable.path
        )
    assert compared > 50


def test_a_teacher_that_does_not_count_is_not_asked(step, monkeypatch):
    asked = []
    monkeypatch.setattr(step, "teach", lambda *_: asked.append(step.recipe.kd_ratio))
    images, labels, codes = batch()
    for kd_ratio in (0.0, 1.0):
        monkeypatch.setattr(step, "recipe", replace(RECIPE, kd_ratio=kd_ratio))
        step.run(images, labels, 8, 8, codes, 0.0, distil=True)
    assert asked == [1.0]


def test_one_step_applies_the_sum_once_and_clears_it(step):
    supernet = step.supernet
    randomize(supernet, seed=4)
    step.reset_optimizer()
    x, labels, codes = batch()
    before = step.iterations.numpy()
    losses = step.run(x, labels, 8, 8, codes, 0.1, distil=True)
    assert losses.shape == (3,)
    assert step.iterations.numpy() == before + 1
    assert not any(total.numpy().any() for total in (*step.gradients, step.losses))
    soft = softmax(step.teacher(x, training=True))
    np.testing.assert_allclose(step.soft_targets, soft, rtol=1e-4, atol=1e-6)
    randomize(supernet, seed=4)
    answers = [supernet(x, code, training=True) for code in codes]
    for loss, logits in zip(losses, answers, strict=True):
        assert loss == pytest.approx(numpy_loss(logits, labels, soft, 1.0), rel=1e-4)
    (alone,) = step.run(x, labels, 8, 8, codes[:1], 0.1, distil=False)
    assert alone == pytest.approx(numpy_loss(answers[0], labels, soft), rel=1e-4)


def test_micro_batches_have_their_own_statistics_and_add_up_to_the_mean(step):
    supernet = step.supernet
    randomize(supernet, seed=4)
    x, labels, codes = batch()
    losses, gradients = [], []
    for part in (slice(0, 4), slice(4, 8)):
        step.reset_optimizer()
        step.make_room(4)
        for index, code in enumerate(codes):
            step.accumulate(x[part], labels[part], 0, 4, code, 0.0, 1.0, False, index, 0)
        losses.append(step.losses.numpy()[:3])
        gradients.append([total.numpy() for total in step.gradients])
    step.reset_optimizer()
    for start in (0, 4):
        for index, code in enumerate(codes):
            step.accumulate(x, labels, start, 4, code, 0.0, 0.5, False, index, 0)
    for total, *parts in zip(step.gradients, *gradients, strict=True):
        expected = np.mean(parts, axis=0)
        np.testing.assert_allclose(total, expected, rtol=0, atol=1e-5 * np.abs(expected).max() + 1e-7)
    step.reset_optimizer()
    np.testing.assert_allclose(step.run(x, labels, 8, 4, codes, 0.0, distil=False), np.mean(losses, axis=0), rtol=1e-5)
    whole = step.run(x, labels, 8, 8, codes, 0.0, distil=False)
    assert np.abs(whole - np.mean(losses, axis=0)).min() > 1e-4


def test_a_loss_that_is_not_finite_changes_nothing(step):
    randomize(step.supernet, seed=4)
    step.reset_optimizer()
    x, labels, codes = batch()
    before, count = [v.numpy() for v in (*step.variables, *step.momentums)], step.iterations.numpy()
    losses = step.run(tf.concat([x[:4], x[4:] * np.inf], 0), labels, 8, 4, codes[:2], 0.1, distil=True)
    assert np.isnan(losses).all()
    assert step.iterations.numpy() == count
    for variable, old in zip((*step.variables, *step.momentums), before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    assert not any(total.numpy().any() for total in (*step.gradients, step.losses))


def test_each_function_is_traced_once_for_all_of_these(step):
    for n, size in ((8, 24), (6, 32)):
        x, labels, codes = batch(n, size)
        step.run(x, labels, n, n // 2, codes, 0.1, distil=True, seed=n)
    assert step.traces == {"teacher": 1, "accumulate": 1, "apply": 1}


def test_the_optimizer_is_nesterov_with_decay_on_kernels_alone(step):
    randomize(step.supernet, seed=5)
    step.reset_optimizer()
    rng = np.random.default_rng(6)
    weights = [variable.numpy().astype(np.float64) for variable in step.variables]
    speeds = [np.zeros(weight.shape) for weight in weights]
    names = [variable.path.rsplit("/", 1)[-1] for variable in step.variables]
    kernels = {"kernel", "depthwise_kernel"}
    assert set(names) - kernels == {"gamma", "beta", "bias", "transform_7_to_5", "transform_5_to_3"}
    for learning_rate in (0.1, 0.2, 0.05):
        gradients = [rng.normal(0, 0.1, weight.shape) for weight in weights]
        for total, gradient in zip(step.gradients, gradients, strict=True):
            total.assign(gradient)
        step.apply(learning_rate)
        for name, weight, speed, gradient in zip(names, weights, speeds, gradients, strict=True):
            whole = gradient + RECIPE.weight_decay * weight if name in kernels else gradient
            speed *= RECIPE.momentum
            speed -= learning_rate * whole
            weight += RECIPE.momentum * speed - learning_rate * whole
    for variable, weight in zip(step.variables, weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), weight, rtol=1e-4, atol=1e-6, err_msg=variable.path)


# --- what a recipe can add --------------------------------------------------------------------------------------------


def make_step(**changes):
    recipe = replace(RECIPE, phases=tuple(replace(phase, subnets=3) for phase in RECIPE.phases), **changes)
    supernet = Supernet(TINY, CLASSES)
    randomize(supernet, seed=4)
    return TrainingStep(supernet, supernet, recipe)


def test_in_a_sandwich_the_first_arch_teaches_the_others():
    step = make_step(sampling="sandwich", kd_ratio=0.7)
    x, labels, codes = batch()
    logits = [step.supernet(x, code, training=True) for code in codes]
    losses = step.run(x, labels, 8, 8, codes, 0.1, distil=True)
    soft = softmax(logits[0])
    assert losses[0] == pytest.approx(numpy_loss(logits[0], labels, soft), rel=1e-4)
    for loss, answer in zip(losses[1:], logits[1:], strict=True):
        assert loss == pytest.approx(numpy_loss(answer, labels, soft, 0.7), rel=1e-4)
    assert step.traces == {"accumulate": 1, "apply": 1}


def test_in_a_sandwich_without_a_teacher_all_learn_from_the_labels():
    step = make_step(sampling="sandwich", kd_ratio=0.0)
    x, labels, codes = batch()
    logits = [step.supernet(x, code, training=True) for code in codes]
    losses = step.run(x, labels, 8, 8, codes, 0.1, distil=True)
    for loss, answer in zip(losses, logits, strict=True):
        assert loss == pytest.approx(numpy_loss(answer, labels, softmax(answer)), rel=1e-4)


def test_each_arch_gets_the_images_at_its_own_resolution():
    step = make_step(sampling="sandwich", kd_ratio=0.7)
    x, labels, codes = batch(size=32)
    codes[1:, 0] = 0, 1
    at = [tf.image.resize(x, (size, size), antialias=True) for size in (32, 24, 28)]
    answers = [step.supernet(images, code, training=True) for images, code in zip(at, codes, strict=True)]
    losses = step.run(x, labels, 8, 8, codes, 0.1, distil=True)
    soft = softmax(answers[0])
    assert losses[0] == pytest.approx(numpy_loss(answers[0], labels, soft), rel=1e-4)
    for loss, answer in zip(losses[1:], answers[1:], strict=True):
        assert loss == pytest.approx(numpy_loss(answer, labels, soft, 0.7), rel=1e-4)
    step.run(x, labels, 8, 4, codes[::-1], 0.1, distil=True)
    assert step.traces == {"resize": 1, "accumulate": 1, "apply": 1}


@pytest.mark.parametrize(("before", "after"), [(24, 16), (24, 20), (32, 31), (20, 24), (7, 7)])
def test_images_are_resized_as_tensorflow_does(before, after):
    images = tf.random.stateless_normal((3, before, before, 3), (0, 1))
    expected = tf.image.resize(images, (after, after), antialias=True)
    np.testing.assert_allclose(resized(images, resizing_matrix(before, after)), expected, atol=1e-5)


def test_dropout_follows_its_seed_and_the_place_of_an_image():
    step = make_step(dropout=0.5)
    x, labels, codes = batch()

    def loss(x, start, index, seed):
        step.losses.assign(tf.zeros_like(step.losses))
        step.accumulate(x, twice, start, 4, codes[0], 0.0, 1.0, False, index, seed)
        return float(step.losses[index])

    step.make_room(4)
    twice = tf.concat([labels[:4], labels[:4]], 0)
    x = tf.concat([x[:4], x[:4]], 0)
    first = loss(x, 0, 0, 1)
    assert loss(x, 0, 0, 1) == first
    assert len({first, loss(x, 0, 0, 2), loss(x, 0, 1, 1), loss(x, 4, 0, 1)}) == 4

    def logits(training, seed=0):
        return step.supernet(x, codes[0], training=training, dropout=0.5, dropout_seed=[seed, 0]).numpy()

    plain = step.supernet(x, codes[0], training=True).numpy()
    mean = np.mean([logits(True, seed) for seed in range(100)], axis=0)
    assert np.abs(mean - plain).max() < 0.3 * np.abs(logits(True) - plain).max()
    np.testing.assert_array_equal(logits(False), step.supernet(x, codes[0]).numpy())


def test_the_gradient_is_clipped_to_its_norm():
    step = make_step(clip_norm=0.5, momentum=0.0, weight_decay=0.0)
    before = [variable.numpy() for variable in step.variables]
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=weight.shape).astype(np.float32) for weight in before]
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
    for size in (1.0, 0.1 / norm):
        for total, gradient in zip(step.gradients, gradients, strict=True):
            total.assign(gradient * size)
        step.apply(1.0)
        scale = size * min(1, 0.5 / (size * norm))
        for variable, old, gradient in zip(step.variables, before, gradients, strict=True):
            np.testing.assert_allclose(old - variable.numpy(), gradient * scale, rtol=1e-2, atol=1e-5)
        for variable, old in zip(step.variables, before, strict=True):
            variable.assign(old)


def test_bfloat16_computes_the_same_roughly_and_keeps_float32_weights():
    x, labels, codes = batch(16, 32)
    totals = []
    for dtype in ("float32", "mixed_bfloat16"):
        supernet = Supernet(TINY, CLASSES, dtype=dtype)
        randomize(supernet, seed=4)
        assert {str(variable.dtype) for variable in supernet.variables} == {"float32"}
        with tf.GradientTape() as tape:
            logits = supernet(x, codes[0], training=True)
            loss = distillation_loss(logits, labels, tf.zeros_like(logits), tf.constant(0.0), 0.1)
        assert logits.dtype == tf.float32
        zero = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(loss, [v.value for v in supernet.trainable_variables], unconnected_gradients=zero)
        totals.append(np.concatenate([gradient.numpy().ravel() for gradient in gradients]))
    exact, rough = totals
    assert not np.allclose(exact, rough, rtol=1e-3, atol=0)
    assert np.dot(exact, rough) / np.linalg.norm(exact) / np.linalg.norm(rough) > 0.95
