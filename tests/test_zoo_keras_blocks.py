"""Keras models read back into spaces: they compute the same, and what does not fit is named."""

import keras
import numpy as np
import pytest
from small_keras import small_keras

from ofa_tf.errors import FormatError
from ofa_tf.subnet import build_subnet
from ofa_tf.zoo.keras_blocks import read_keras


def assert_same_features(model: keras.Model) -> None:
    """The largest subnet's features are those of the model, before its classifier."""
    network = read_keras(model, model.name)
    plain = build_subnet(network.space, network.space.largest(), 2)
    for name, weights in network.weights.items():
        plain.get_layer(name).set_weights(weights)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype(np.float32)
    prepared = pixels if network.preprocessing is None else network.preprocessing(pixels)
    average = next(layer for layer in reversed(model.layers) if "GlobalAverage" in type(layer).__name__)
    expected = keras.Model(model.inputs, average.output)(pixels).numpy().reshape(2, -1)
    found = keras.Model(plain.inputs, plain.get_layer("pool").output)(prepared).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert expected.std() > 0


def test_a_small_model_keeps_its_function_and_becomes_a_space():
    model = small_keras()
    space = read_keras(model, "small").space
    assert [(stage.channels, stage.kernels, stage.expands, stage.depths) for stage in space.stages] == [
        (16, (3,), (2, 2.67, 4), (1, 2)),
        (24, (3, 5), (1.5, 2, 3), (1,)),
    ]
    assert (space.stem_channels, space.first_channels, space.head_channels) == (16, 8, 32)
    assert (space.bn_epsilon, space.padding, space.resolutions) == (1e-3, "same", (32,))
    assert [(stage.se, stage.activation) for stage in space.stages] == [(False, "relu6"), (True, "hard_swish")]
    assert_same_features(model)


def randomized(model: keras.Model) -> keras.Model:
    """The model with batch norm statistics that are not those of the start."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.path.endswith(("variance", "mean", "beta")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape) - (not weight.path.endswith("variance")))
    return model


def test_the_mobile_networks_of_keras_keep_their_functions():
    networks = keras.applications
    assert_same_features(randomized(networks.MobileNetV2((64, 64, 3), alpha=0.35, weights=None)))
    assert_same_features(randomized(networks.MobileNetV3Large((64, 64, 3), weights=None)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "tanh"}, "its activation must be one of .'hard_swish', 'relu', 'relu6'."),
        ({"epsilon": 1e-5}, "the epsilon of its batch norm .=1e-05. must be 0.001, as before"),
        ({"mid": 20}, "its 20 channels must be a multiple of 8"),
        ({"skip": False}, "a skip connection over this block is needed"),
        ({"squeeze": 12}, "16 channels in its squeeze-and-excite are needed, a quarter of its own"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_model_that_does_not_fit_is_refused_with_the_name_of_the_layer(changes, message):
    with pytest.raises(FormatError, match=f"mine does not fit at its layer `.*: ({message})"):
        read_keras(small_keras(**changes), "mine")


def test_a_model_of_other_blocks_is_refused():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(FormatError, match=r"mine does not fit at its layer `conv2d.*a batch norm after a convolution"):
        read_keras(model, "mine")
    with pytest.raises(FormatError, match="mine does not fit"):
        read_keras(keras.applications.ResNet50(input_shape=(64, 64, 3), weights=None), "mine")
