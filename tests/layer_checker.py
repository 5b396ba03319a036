"""What every layer of ours must do, whatever it computes."""

import json
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

LAYERS = "ofa_tf>"


def randomize(layer: keras.layers.Layer, seed: int = 0) -> None:
    """Random values for every weight; variances are positive."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        value = rng.normal(0.0, 1.0, weight.shape)
        if weight.path.endswith(("gamma", "variance")):
            value = 0.5 + np.abs(value)
        elif len(weight.shape) > 1:
            value /= np.sqrt(np.prod(weight.shape[:-1]))
        weight.assign(value.astype(np.float32))


def check_layer(
    make: Callable[[], keras.layers.Layer],
    inputs: np.ndarray,
    arguments: dict,
    plain: Callable[[keras.layers.Layer, np.ndarray], tf.Tensor],
    rtol: float = 1e-5,
) -> keras.layers.Layer:
    """Builds a layer and checks names, shapes, numbers, the graph, serialization and one training step.

    Args:
        make: makes the layer.
        inputs: a batch.
        arguments: of the call, beside the batch; they must choose the largest of everything.
        plain: computes the same from the layer's weights with plain Keras layers.
        rtol: largest difference from `plain`, as a share of the largest output.

    Returns:
        The layer, with random weights.
    """
    layer = make()
    layer.build(inputs.shape)
    assert layer.built
    assert len({weight.path for weight in layer.weights}) == len(layer.weights) > 0
    randomize(layer)
    outputs = layer(inputs, **arguments)
    expected = plain(layer, inputs)
    assert outputs.shape == expected.shape
    assert outputs.dtype == tf.float32
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=rtol * np.abs(expected).max())

    graph = tf.function(lambda x: layer(x, **arguments), input_signature=[tf.TensorSpec([None] * inputs.ndim)])
    np.testing.assert_allclose(graph(inputs), outputs, rtol=0, atol=rtol * np.abs(expected).max())
    _check_serialization(layer, inputs, arguments, outputs)
    _check_training_step(make(), inputs, arguments)
    return layer


def _check_serialization(layer, inputs, arguments, outputs) -> None:
    config = layer.get_config()
    document = keras.saving.serialize_keras_object(layer)
    assert document["registered_name"].startswith(LAYERS)
    for again in (
        type(layer).from_config(json.loads(json.dumps(config))),
        keras.saving.deserialize_keras_object(json.loads(json.dumps(document))),
    ):
        assert type(again) is type(layer)
        assert again.get_config() == config
        if not again.built:
            again.build(inputs.shape)
        again.set_weights(layer.get_weights())
        np.testing.assert_array_equal(again(inputs, **arguments), outputs)


def _check_training_step(layer, inputs, arguments) -> None:
    layer.build(inputs.shape)
    randomize(layer, seed=1)
    before = layer.get_weights()
    weights = layer.trainable_weights
    target = np.random.default_rng(2).normal(size=layer(inputs, **arguments).shape).astype(np.float32)
    training = {"training": True} if "training" in layer.call.__code__.co_varnames else {}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(inputs, **arguments, **training) * target)
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    keras.optimizers.SGD(0.1).apply(gradients, weights)
    for weight, old in zip(layer.weights, before, strict=True):
        assert np.isfinite(weight.numpy()).all()
        # The kernel matrices of smaller kernels than the one in use have no part in the output.
        moves = weight.trainable and "transform" not in weight.path
        assert np.array_equal(weight.numpy(), old) != moves, weight.path
