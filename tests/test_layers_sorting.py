"""Sorting of channels: within blocks, and along the streams between them."""

import dataclasses

import keras
import numpy as np
import pytest
from layer_checker import randomize
from rich_spaces import MIXED, RESNET, RICH, RICH_SPACES

from ofa_tf.blocks import Block, walk
from ofa_tf.layers import BLOCK_LAYERS, Choices
from ofa_tf.layers.sorting import reorder, sort_channels
from ofa_tf.supernet import Supernet
from ofa_tf.training.recipe import Phase, Span
from ofa_tf.training.sampling import trained_widths

CLASSES = 5
MBCONV = Block("block", "mbconv", 8, 16, 16, mid_channels=96, kernel=7, activation="relu6", stride=2, slot=0)
WITH_EVERYTHING = dataclasses.replace(MBCONV, activation="hard_swish", stride=1, se_channels=24, skip=True)
BOTTLENECK = Block("block", "bottleneck", 8, 16, 64, mid_channels=24, kernel=3, activation="relu", stride=2, slot=0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_close(actual, expected, rtol=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(np.asarray(expected)).max())


def norms(weight, axis):
    return np.abs(np.moveaxis(weight.numpy(), axis, 0)).reshape(weight.shape[axis], -1).sum(1)


def falls(values):
    return (np.diff(values) <= 1e-6 * values.max()).all()


def make_layer(block):
    choices = Choices((3, 5, 7), (3, 4, 6)) if block.kind == "mbconv" else Choices((3,), (0.2, 0.35))
    layer = BLOCK_LAYERS[block.kind](block, choices)
    layer.build()
    randomize(layer)
    return layer


def sort_one(block, layer, **what):
    sort_channels([block], lambda _: layer.op_weights(), **what)


# --- one block --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [MBCONV, WITH_EVERYTHING], ids=["plain", "with everything"])
def test_sorting_puts_the_largest_norms_first_and_changes_nothing(block):
    layer, x = make_layer(block), noise(4, 8, 8, 16)
    before = [layer(x, kernel_index=index).numpy() for index in range(3)]
    moved = layer.project_conv.kernel.numpy()
    sort_one(block, layer)
    assert not np.array_equal(layer.project_conv.kernel.numpy(), moved)
    for index in range(3):
        assert_close(layer(x, kernel_index=index), before[index])
    assert (np.diff(np.abs(layer.project_conv.kernel.numpy()).sum((0, 1, 3))) <= 0).all()
    if block.se_channels:
        assert (np.diff(np.abs(layer.squeeze_excite.expand_kernel.numpy()).sum(1)) <= 0).all()
    once = layer.get_weights()
    sort_one(block, layer)
    for again, first in zip(layer.get_weights(), once, strict=True):
        np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("skip", [False, True])
def test_both_middles_of_a_bottleneck_are_sorted(skip):
    block = dataclasses.replace(BOTTLENECK, skip=skip, in_channels=64, stride=1) if skip else BOTTLENECK
    layer, x = make_layer(block), noise(4, 8, 8, block.in_channels)
    expected, narrow = layer(x).numpy(), layer(x, expand_index=0).numpy()
    sort_one(block, layer)
    assert_close(layer(x), expected)
    assert np.abs(layer(x, expand_index=0) - narrow).max() > 0.01 * np.abs(narrow).max()
    assert falls(norms(layer.mid_conv.kernel, 2))
    assert falls(norms(layer.project_conv.kernel, 2))
    assert not falls(norms(layer.reduce_conv.kernel, 2))


def test_the_middle_can_be_left_as_it_is():
    layer = make_layer(MBCONV)
    before = layer.get_weights()
    sort_one(MBCONV, layer, middle=False)
    for now, then in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_variable_is_reordered_along_one_axis():
    variable = keras.Variable(np.arange(6.0).reshape(2, 3))
    reorder(variable, np.array([2, 0, 1]), 1)
    assert variable.numpy().tolist() == [[2, 0, 1], [5, 3, 4]]


@pytest.mark.parametrize("block", [MBCONV, WITH_EVERYTHING], ids=["plain", "with everything"])
def test_sorting_by_contribution_puts_channels_first_that_are_large_and_read_with_large_weights(block):
    layer, x = make_layer(block), noise(4, 8, 8, 16)
    expected = layer(x, kernel_index=1).numpy()
    sort_one(block, layer, importance="contribution")
    assert_close(layer(x, kernel_index=1), expected)
    norm, weights = layer.depthwise_bn, norms(layer.project_conv.kernel, 2)
    activation = keras.activations.get(block.activation)
    draws = norm.beta.numpy() + norm.gamma.numpy() * noise(100_000, 96)
    sizes = np.sqrt(np.square(keras.ops.convert_to_numpy(activation(draws))).mean(0))
    importance = weights * sizes
    assert (np.diff(importance) <= 0.01 * importance[:-1] + 1e-6).all()  # the error of that many draws
    assert not falls(weights)


def test_a_channel_that_is_always_zero_contributes_nothing():
    layer = make_layer(MBCONV)
    gamma, beta, weights = np.ones(96), np.ones(96), np.ones(layer.project_conv.kernel.shape)
    gamma[7], beta[7], weights[:, :, 7] = 0, -1, 100  # large weights of what ReLU6 makes zero
    layer.depthwise_bn.gamma.assign(gamma)
    layer.depthwise_bn.beta.assign(beta)
    layer.project_conv.kernel.assign(weights)
    sort_one(MBCONV, layer)
    assert layer.depthwise_bn.gamma.numpy()[0] == 0
    sort_one(MBCONV, layer, importance="contribution")
    assert layer.depthwise_bn.gamma.numpy()[-1] == 0


# --- streams ----------------------------------------------------------------------------------------------------------


def make_supernet(space):
    supernet = Supernet(space, CLASSES)
    randomize(supernet)
    return supernet


def readers(supernet):
    """L1 norms of all that reads each stream of a supernet, by the stream's name."""
    found, stream = {}, "image"
    for block in walk(supernet.space, supernet.space.largest(), CLASSES):
        weights = supernet.block_layers[block.name].op_weights()
        if not weights:
            continue  # the global average
        suffixes = {"bottleneck": ("reduce", "downsample"), "mbconv": ("expand",)}.get(block.kind, ("", "conv"))
        if block.kind == "mbconv" and "expand" not in weights:
            suffixes = ("project",)
        for suffix in suffixes:
            if suffix in weights:
                found[stream] = found.get(stream, 0) + norms(weights[suffix].kernel, -2)
        stream = block.name.partition("_")[0]
    return found


@pytest.mark.parametrize("space", RICH_SPACES.values(), ids=list(RICH_SPACES))
def test_sorting_streams_does_not_change_the_largest_subnet(space):
    supernet, x = make_supernet(space), noise(2, 32, 32, 3)
    smallest = space.encode(space.smallest())
    expected, narrow = supernet(x).numpy(), supernet(x, smallest).numpy()
    supernet.sort_channels(middle=False)
    assert_close(supernet(x), expected)
    assert np.abs(supernet(x, smallest) - narrow).max() > 0.01 * np.abs(narrow).max()
    supernet.sort_channels()
    assert_close(supernet(x), expected)


@pytest.mark.parametrize("space", [RICH, RESNET], ids=lambda space: space.name)
def test_streams_are_in_the_order_of_all_that_reads_them(space):
    supernet = make_supernet(space)
    before = readers(supernet)
    supernet.sort_channels()
    after = readers(supernet)
    elastic = {stream.name for stream in space.elastic_streams} & after.keys()
    assert len(elastic) >= 3
    for name in elastic:
        assert not falls(before[name]), name
        assert falls(after[name]), name
        np.testing.assert_allclose(after[name], np.sort(before[name])[::-1], rtol=1e-5)


def test_a_stream_that_several_blocks_add_to_is_sorted_by_weights_all_the_same():
    """Also where the next block begins with a depthwise convolution, whose batch norm is not that of the stream."""
    by_weights, by_contribution = make_supernet(RICH), make_supernet(RICH)
    assert_close(by_contribution(noise(2, 32, 32, 3)), by_weights(noise(2, 32, 32, 3)))
    by_weights.sort_channels(middle=False)
    by_contribution.sort_channels(middle=False, importance="contribution")
    name = "stage2"
    np.testing.assert_allclose(readers(by_contribution)[name], readers(by_weights)[name], rtol=1e-6)


@pytest.mark.parametrize("space", RICH_SPACES.values(), ids=list(RICH_SPACES))
def test_what_an_earlier_phase_has_trained_keeps_its_channels(space):
    stage = "depth" if space.coupled else "width"
    spans = [Span(Phase(stage, 1, 0, 0.1, choices=choices), step, 0, step + 5) for step, choices in ((0, 2), (5, 0))]
    assert trained_widths(space, spans, spans[0]) == []
    trained = trained_widths(space, spans, spans[1])
    supernet, x = make_supernet(space), noise(2, 32, 32, 3)
    codes = space.sample(np.random.default_rng(2), 6, **spans[0].phase.sampling())
    expected = [supernet(x, code).numpy() for code in codes]
    weights = [weight.numpy() for weight in supernet.weights]
    supernet.sort_channels(trained=trained, streams=stage == "width")
    for code, answer in zip(codes, expected, strict=True):
        assert_close(supernet(x, code), answer)
    moved = [not np.array_equal(now.numpy(), then) for now, then in zip(supernet.weights, weights, strict=True)]
    assert any(moved)
    supernet.sort_channels(streams=stage == "width")  # of all
    changed = [np.abs(supernet(x, code) - answer).max() for code, answer in zip(codes, expected, strict=True)]
    assert max(changed) > 0.01 * np.abs(expected).max()


def test_streams_without_a_choice_stay_as_they_are():
    stages = tuple(
        dataclasses.replace(stage, channels=stage.channels[-1]) if number else stage
        for number, stage in enumerate(MIXED.stages)
    )
    supernet = make_supernet(dataclasses.replace(MIXED, stages=stages, stem_channels=16, first_channels=16))
    before = {weight.path: weight.numpy() for weight in supernet.weights}
    supernet.sort_channels(middle=False)
    moved = {
        weight.path.partition("/")[0]
        for weight in supernet.weights
        if not np.array_equal(weight.numpy(), before[weight.path])
    }
    # The channels of stage 1 and of the head, by what writes and reads them.
    assert moved == {"stage1_block1", "stage1_block2", "stage2_block1", "head", "feature"}


def test_only_full_streams_keep_the_function_of_narrow_blocks():
    """Where all channels of the streams are in use, an order of them changes no subnet."""
    supernet, x = make_supernet(RICH), noise(2, 32, 32, 3)
    codes = RICH.sample(np.random.default_rng(1), 4, channels_choices=1)
    expected = [supernet(x, code).numpy() for code in codes]
    supernet.sort_channels(middle=False)
    for code, answer in zip(codes, expected, strict=True):
        assert_close(supernet(x, code), answer)
