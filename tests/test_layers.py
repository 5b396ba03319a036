"""The elastic layers against plain Keras layers and plain NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_checker import check_layer, randomize

from ofa_tf.layers import (
    ConvBlock,
    ElasticBatchNorm,
    ElasticConv2D,
    ElasticDepthwiseConv2D,
    ElasticInvertedResidual,
    ElasticSqueezeExcite,
)

both_paddings = pytest.mark.parametrize("padding", ["same", "symmetric"])
EPSILON = 1e-3


def images(channels, size=9, batch=4, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, size, size, channels)).astype(np.float32)


def plain(layer, x, weights, training=False):
    """Output of a plain Keras layer with the given weights."""
    layer.build(x.shape)
    layer.set_weights([np.asarray(weight) for weight in weights])
    return layer(x, training=training) if isinstance(layer, keras.layers.BatchNormalization) else layer(x)


def plain_conv(kind, x, kernel, strides=1, padding="same", bias=None):
    """Plain convolution; "symmetric" is explicit zeros, then "valid"."""
    kernel = np.asarray(kernel)
    if padding == "symmetric":
        x, padding = keras.layers.ZeroPadding2D(kernel.shape[0] // 2)(x), "valid"
    size = kernel.shape[0]
    if kind == "depthwise":
        return plain(keras.layers.DepthwiseConv2D(size, strides, padding, use_bias=False), x, [kernel])
    layer = keras.layers.Conv2D(kernel.shape[-1], size, strides, padding, use_bias=bias is not None)
    return plain(layer, x, [kernel] if bias is None else [kernel, bias])


def plain_bn(x, bn, n, training=False):
    weights = [weight.numpy()[:n] for weight in (bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)]
    return plain(keras.layers.BatchNormalization(epsilon=bn.epsilon), x, weights, training)


def numpy_kernels(layer):
    """Kernels by size, channel by channel: the centre as a row of numbers, times the transposed matrix."""
    kernels = {layer.kernel_sizes[-1]: layer.kernel.numpy().astype(np.float64)}
    for before, size, transform in zip(
        layer.kernel_sizes[:0:-1], layer.kernel_sizes[-2::-1], layer.transforms, strict=True
    ):
        larger, matrix = kernels[before], transform.numpy().astype(np.float64)
        assert matrix.shape == (size * size, size * size)
        assert transform.path.endswith(f"transform_{before}_to_{size}")
        kernels[size] = np.empty((size, size, layer.channels, 1))
        centre = range((before - size) // 2, (before + size) // 2)
        for channel in range(layer.channels):
            row = [larger[i, j, channel, 0] for i in centre for j in centre]
            kernels[size][:, :, channel, 0] = (np.array(row) @ matrix.T).reshape(size, size)
    return kernels


def assert_close(actual, expected, rtol=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(np.asarray(expected)).max())


# --- convolutions -----------------------------------------------------------------------------------------------------


@both_paddings
@pytest.mark.parametrize(("kernel_size", "strides", "size"), [(1, 1, 9), (3, 1, 8), (3, 2, 8), (3, 2, 9)])
def test_conv_is_the_plain_one(padding, kernel_size, strides, size):
    layer = check_layer(
        lambda: ElasticConv2D(6, 10, kernel_size, strides, padding),
        images(6, size),
        {},
        lambda layer, x: plain_conv("conv", x, layer.kernel, strides, padding),
    )
    x = images(4, size)
    expected = plain_conv("conv", x, layer.kernel.numpy()[:, :, :4, :3], strides, padding)
    assert_close(layer(x, active_channels=3), expected)
    assert_close(layer(x, tf.constant(3)), expected)


@both_paddings
@pytest.mark.parametrize("sizes", [(3, 5, 7), (3, 7), (1, 3, 9), (1, 5), (5,)])
@pytest.mark.parametrize(("strides", "size"), [(1, 9), (2, 8), (2, 9)])
def test_depthwise_conv_is_the_plain_one(padding, strides, size, sizes):
    layer = check_layer(
        lambda: ElasticDepthwiseConv2D(5, sizes, strides, padding),
        images(5, size),
        {},
        lambda layer, x: plain_conv("depthwise", x, layer.kernel, strides, padding),
    )
    x = images(4, size)
    for index, kernel in enumerate(numpy_kernels(layer)[size] for size in sizes):
        expected = plain_conv("depthwise", x, kernel[:, :, :4], strides, padding)
        for padded in (False, True):
            assert_close(layer(x, kernel_index=index, padded=padded), expected)
            assert_close(layer(x, tf.constant(index), padded=padded), expected)


def test_the_paddings_differ_where_they_should():
    x = images(3, 8)
    for make in (lambda p: ElasticConv2D(3, 3, 3, 2, p), lambda p: ElasticDepthwiseConv2D(3, (3, 5), 2, p)):
        same, symmetric = make("same"), make("symmetric")
        for layer in (same, symmetric):
            layer.build()
        symmetric.set_weights(same.get_weights())
        assert same(x).shape == symmetric(x).shape
        assert np.abs(same(x) - symmetric(x)).max() > 0.1


@pytest.mark.parametrize("sizes", [(3,), (3, 5), (3, 5, 7), (5, 7, 9), (3, 7), (1, 3, 9)])
def test_each_kernel_is_the_transformed_centre_of_the_next(sizes):
    layer = ElasticDepthwiseConv2D(4, sizes)
    layer.build()
    for size in sizes:
        margin = (sizes[-1] - size) // 2
        centre = layer.kernel.numpy()[margin : sizes[-1] - margin, margin : sizes[-1] - margin, :3]
        np.testing.assert_array_equal(layer.active_kernel(sizes.index(size), 3), centre)
    randomize(layer)
    assert [tuple(transform.shape) for transform in layer.transforms] == [(s**2, s**2) for s in sizes[-2::-1]]
    for size, kernel in numpy_kernels(layer).items():
        assert_close(layer.active_kernel(sizes.index(size), 3), kernel[:, :, :3], 1e-6)


def test_gradients_reach_all_that_a_small_kernel_is_made_of():
    layer, x = ElasticDepthwiseConv2D(2, (3, 5, 7)), images(2, 7, 2)
    layer.build()
    randomize(layer)
    target = images(2, 7, 2, seed=1).astype(np.float64)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, kernel_index=0) * target.astype(np.float32))
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

    def numpy_loss():
        kernel, padded = numpy_kernels(layer)[3], np.pad(x.astype(np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return np.sum(np.einsum("bhwcij,ijc->bhwc", windows, kernel[..., 0]) * target)

    rng = np.random.default_rng(0)
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        old, direction = weight.numpy(), rng.normal(size=weight.shape).astype(np.float32)
        ends = []
        for step in (1e-2, -1e-2):
            weight.assign(old + np.float32(step) * direction)
            ends.append(numpy_loss())
        weight.assign(old)
        # The loss is linear in each weight, so the difference is exact but for rounding.
        assert np.sum(gradient * direction) == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=1e-3)


# --- batch norm -------------------------------------------------------------------------------------------------------


def test_batch_norm_is_the_plain_one():
    layer = check_layer(lambda: ElasticBatchNorm(6, EPSILON), images(6), {}, lambda layer, x: plain_bn(x, layer, 6))
    x = images(4) * 3 + 1
    assert_close(layer(x), plain_bn(x, layer, 4))
    assert_close(layer(x, training=True), plain_bn(x, layer, 4, training=True))
    assert np.abs(layer(x, training=True) - layer(x)).max() > 0.1


def test_batch_norm_in_training_has_the_plain_gradients():
    layer, x, target = ElasticBatchNorm(6, EPSILON), tf.constant(images(4)), images(4, seed=1)
    layer.build()
    randomize(layer)
    twin = keras.layers.BatchNormalization(epsilon=EPSILON)
    twin.build(x.shape)
    twin.set_weights([weight.numpy()[:4] for weight in layer.weights])
    gradients = []
    for norm in (layer, twin):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(norm(x, training=True) * target)
        gradients.append(tape.gradient(loss, [x, norm.gamma.value, norm.beta.value]))
    (dx, *elastic), (dx_plain, *expected) = gradients
    assert_close(dx, dx_plain, 1e-4)
    for ours, theirs in zip(elastic, expected, strict=True):
        assert_close(ours[:4], theirs, 1e-4)
        assert not np.any(ours[4:])


def test_training_leaves_the_moving_statistics_alone():
    layer = ElasticBatchNorm(6)
    layer.build()
    randomize(layer)
    before = layer.get_weights()
    layer(images(4), training=True)
    for new, old in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_calibration_makes_the_moving_statistics_the_mean_over_batches():
    layer = ElasticBatchNorm(6)
    layer.build()
    randomize(layer)
    before = [weight.numpy() for weight in (layer.moving_mean, layer.moving_variance)]
    batches = [images(4, batch=8, seed=seed) * (seed + 1) + seed for seed in range(5)]
    observe = tf.function(lambda x, momentum: layer(x, training=True, momentum=momentum))
    for t, batch in enumerate(batches, start=1):
        observe(batch, tf.constant(1 - 1 / t, tf.float32))
    n = batches[0].size / 4
    means = np.mean([batch.mean((0, 1, 2), dtype=np.float64) for batch in batches], axis=0)
    # The fused kernel gives the sample variance, n / (n - 1) of the mean square: 0.2 % here.
    variances = np.mean([batch.var((0, 1, 2), dtype=np.float64) for batch in batches], axis=0) * n / (n - 1)
    np.testing.assert_allclose(layer.moving_mean.numpy()[:4], means, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy()[:4], variances, rtol=1e-5)
    for weight, old in zip((layer.moving_mean, layer.moving_variance), before, strict=True):
        np.testing.assert_array_equal(weight.numpy()[4:], old[4:])


# --- squeeze-and-excite -----------------------------------------------------------------------------------------------


def plain_se(x, se, n, squeeze):
    means = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    reduce_kernel = se.reduce_kernel.numpy()[:n, :squeeze][None, None]
    expand_kernel = se.expand_kernel.numpy()[:squeeze, :n][None, None]
    hidden = keras.layers.ReLU()(plain_conv("conv", means, reduce_kernel, bias=se.reduce_bias.numpy()[:squeeze]))
    gates = plain_conv("conv", hidden, expand_kernel, bias=se.expand_bias.numpy()[:n])
    return x * np.clip(gates / 6 + 0.5, 0, 1)


def test_squeeze_excite_is_made_of_plain_layers():
    x = images(8) + 1
    layer = check_layer(lambda: ElasticSqueezeExcite(8, 6), x, {}, lambda layer, x: plain_se(x, layer, 8, 6))
    assert_close(layer(x[..., :5], active_squeeze=3), plain_se(x[..., :5], layer, 5, 3))
    assert_close(layer(x[..., :5], tf.constant(3)), plain_se(x[..., :5], layer, 5, 3))


# --- blocks -----------------------------------------------------------------------------------------------------------


@both_paddings
def test_conv_block_is_made_of_plain_layers(padding):
    def expected(block, x):
        x = plain_bn(plain_conv("conv", x, block.conv.kernel, 2, padding), block.bn, 8)
        return keras.activations.hard_swish(x) if block.activation == "hard_swish" else keras.activations.relu6(x)

    for activation in ("hard_swish", "relu6"):
        check_layer(lambda a=activation: ConvBlock(3, 8, 3, 2, a, padding, EPSILON), images(3, 8), {}, expected)


BLOCKS = {
    "plain": {"strides": 2, "activation": "relu6"},
    "with everything": {"activation": "hard_swish", "se": True, "skip": True},
    "symmetric": {"strides": 2, "activation": "relu", "se": True, "padding": "symmetric"},
    "not expanded": {"activation": "relu", "expands": (1,), "kernel_sizes": (3,), "skip": True},
}


def make_block(arguments):
    return ElasticInvertedResidual(16, 16, **{"epsilon": EPSILON, **arguments})


def plain_block(block, x, kernel, mid, squeeze, training=False):
    """The block's answer for one choice, of plain layers and the first channels of every weight."""
    activation = {"relu": tf.nn.relu, "relu6": tf.nn.relu6, "hard_swish": keras.activations.hard_swish}
    activate = activation[block.activation]
    inputs = x
    if block.expand_conv is not None:
        x = plain_conv("conv", x, block.expand_conv.kernel.numpy()[..., :mid])
        x = activate(plain_bn(x, block.expand_bn, mid, training))
    kernels = numpy_kernels(block.depthwise_conv)
    x = plain_conv("depthwise", x, kernels[kernel][:, :, :mid], block.strides, block.padding)
    x = activate(plain_bn(x, block.depthwise_bn, mid, training))
    if block.se:
        x = plain_se(x, block.squeeze_excite, mid, squeeze)
    x = plain_conv("conv", x, block.project_conv.kernel.numpy()[:, :, :mid])
    x = plain_bn(x, block.project_bn, block.out_channels, training)
    return x + inputs if block.skip else x


@pytest.mark.parametrize("arguments", BLOCKS.values(), ids=list(BLOCKS))
def test_inverted_residual_is_made_of_plain_layers(arguments):
    x = images(16, 8)
    largest = {"kernel": arguments.get("kernel_sizes", (7,))[-1], "mid": 96, "squeeze": 24}
    if "expands" in arguments:
        largest["mid"] = 16
    block = check_layer(
        lambda: make_block(arguments), x, {}, lambda block, x: plain_block(block, x, **largest), rtol=2e-5
    )
    for kernel_index, kernel in enumerate(block.kernel_sizes):
        # 16 channels times 3, 4, 6; a quarter of each, as multiples of 8 that are at least 90 %: 12 -> 16, 16, 24.
        choices = [(48, 16), (64, 16), (96, 24)] if block.expand_conv is not None else [(16, 8)]
        for expand_index, (mid, squeeze) in enumerate(choices):
            for training in (False, True):
                actual = block(x, tf.constant(kernel_index), tf.constant(expand_index), training=training)
                assert_close(actual, plain_block(block, x, kernel, mid, squeeze, training), 2e-5)


@pytest.mark.parametrize("arguments", [BLOCKS["plain"], BLOCKS["with everything"]], ids=["plain", "with everything"])
def test_channels_left_out_have_no_part_in_a_narrow_block(arguments):
    block, x = make_block(arguments), tf.constant(images(16, 8))
    block.build()
    randomize(block)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(block(x, kernel_index=1, expand_index=0, training=True) ** 2)
    gradients = dict(
        zip(
            [
                weight.path.rsplit("/", 2)[-2] + "/" + weight.path.rsplit("/", 1)[-1]
                for weight in block.trainable_weights
            ],
            tape.gradient(
                loss,
                [weight.value for weight in block.trainable_weights],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            ),
            strict=True,
        )
    )
    for name, axis in (("expand/kernel", 3), ("depthwise/depthwise_kernel", 2), ("project/kernel", 2)):
        gradient = np.moveaxis(gradients[name].numpy(), axis, 0)
        # An activation may be flat for a whole channel.
        assert np.count_nonzero(np.abs(gradient[:48]).max(axis=(1, 2, 3))) > 40
        assert not gradient[48:].any()
    assert gradients["depthwise/transform_7_to_5"].numpy().any()
    assert not gradients["depthwise/transform_5_to_3"].numpy().any()
