"""EfficientNet-Lite0 in plain Keras layers, from the tensors of its PyTorch package: knows nothing of spaces."""

import keras
import numpy as np

# Kernel, expand ratio, channels, blocks, stride.
GROUPS = (
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (5, 6, 40, 2, 2),
    (3, 6, 80, 3, 2),
    (5, 6, 112, 3, 1),
    (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
)
EPSILON = 1e-3


def plain_lite0(state: dict[str, np.ndarray], resolution: int, classify: bool = True) -> keras.Model:
    """The network from normalised images to logits, or to the 1,280 features before them."""

    def conv(x, name, norm, stride=1, activate=True):
        kernel = state[f"{name}.weight"]
        weights = kernel.transpose(2, 3, 1, 0)
        layer = keras.layers.Conv2D(weights.shape[3], weights.shape[:2], stride, "same", use_bias=False)
        return normed(layer, weights, x, norm, activate)

    def depthwise(x, name, norm, stride):
        weights = state[f"{name}.weight"].transpose(2, 3, 0, 1)
        layer = keras.layers.DepthwiseConv2D(weights.shape[:2], stride, "same", use_bias=False)
        return normed(layer, weights, x, norm, True)

    def normed(layer, weights, x, norm, activate):
        x = layer(x)
        layer.set_weights([weights])
        batch_norm = keras.layers.BatchNormalization(epsilon=EPSILON)
        x = batch_norm(x)
        batch_norm.set_weights([state[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
        return keras.layers.ReLU(6)(x) if activate else x

    inputs = keras.Input((resolution, resolution, 3))
    x = conv(inputs, "_conv_stem", "_bn0", stride=2)
    index = 0
    for _, expand, channels, depth, stride in GROUPS:
        for position in range(depth):
            name, block, before = f"_blocks.{index}", x, x.shape[-1]
            if expand > 1:
                block = conv(block, f"{name}._expand_conv", f"{name}._bn0")
            block = depthwise(block, f"{name}._depthwise_conv", f"{name}._bn1", stride if position == 0 else 1)
            block = conv(block, f"{name}._project_conv", f"{name}._bn2", activate=False)
            x = keras.layers.Add()([x, block]) if position and before == channels else block
            index += 1
    x = keras.layers.GlobalAveragePooling2D()(conv(x, "_conv_head", "_bn1"))
    if classify:
        layer = keras.layers.Dense(state["_fc.weight"].shape[0])
        x = layer(x)
        layer.set_weights([state["_fc.weight"].T, state["_fc.bias"]])
    return keras.Model(inputs, x)
