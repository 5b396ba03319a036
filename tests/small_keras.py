"""A small Keras model of inverted residual blocks with random weights, as a user may have one."""

import keras
import numpy as np

EPSILON = 1e-3


def small_keras(size: int = 32, classes: int = 4, **changes) -> keras.Model:
    """A stem, a first block, three more in two groups, a last convolution, a classifier.

    Args:
        size: of the images, in pixels.
        classes: outputs.
        changes: what is not as spaces have it, for tests of refusals: `activation`, `epsilon`, `mid`, `skip`,
            `squeeze`, `padding`.
    """
    layers = keras.layers

    def unit(x, layer, activation="relu6", epsilon=EPSILON):
        x = layers.BatchNormalization(epsilon=epsilon)(layer(x))
        return x if activation is None else layers.Activation(activation)(x)

    def block(x, expand, kernel, channels, stride, activation="relu6", se=False, skip=None):
        before = x
        mid = changes.get("mid") or expand * x.shape[-1]
        if expand > 1:
            x = unit(x, layers.Conv2D(mid, 1, use_bias=False), activation)
        if stride > 1:
            x = layers.ZeroPadding2D(((kernel // 2 - 1, kernel // 2),) * 2)(x)
        padding = changes.get("padding") or ("valid" if stride > 1 else "same")
        x = unit(x, layers.DepthwiseConv2D(kernel, stride, padding, use_bias=False), activation)
        if se:
            gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
            gate = layers.Conv2D(changes.get("squeeze") or 16, 1, activation="relu")(gate)
            x = layers.Multiply()([x, layers.Conv2D(x.shape[-1], 1, activation="hard_sigmoid")(gate)])
        x = unit(x, layers.Conv2D(channels, 1, use_bias=True), None, changes.get("epsilon") or EPSILON)
        adds = before.shape == x.shape if skip is None else skip
        return layers.Add()([before, x]) if adds else x

    inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 64, -2)(inputs)
    x = unit(x, layers.Conv2D(16, 3, 2, "same", use_bias=False))
    x = block(x, 1, 3, 8, 1)
    x = block(x, 4, 3, 16, 2)
    x = block(x, 4, 3, 16, 1, changes.get("activation") or "relu6", skip=changes.get("skip"))
    x = block(x, 3, 5, 24, 2, "hard_swish", se=True)
    x = unit(x, layers.Conv2D(32, 1, use_bias=False))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Dense(classes, activation="softmax")(x), name="small")
    rng = np.random.default_rng(3)
    for weight in model.weights:
        value = rng.normal(0, 0.3, weight.shape)
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.path or "gamma" in weight.path else value)
    return model
