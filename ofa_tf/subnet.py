"""Plain Keras models: one arch, no elastic layer left, the weights sliced out of the supernet."""

import keras
import numpy as np

from ofa_tf.blocks import Block, walk
from ofa_tf.layers import ConvBlock, ElasticInvertedResidual
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.supernet import Supernet

BN_MOMENTUM = 0.9


def build_subnet(space: SearchSpace, arch: Arch, n_classes: int, fixed_size: bool = True) -> keras.Model:
    """A plain Keras model of one arch, with fresh weights.

    Args:
        space: the space of the arch.
        arch: one of its points.
        n_classes: outputs of the classifier.
        fixed_size: whether the input size is the arch's resolution, or left open.

    Returns:
        A functional model from images `(batch, resolution, resolution, 3)` to logits `(batch, n_classes)`.
    """
    size = arch.resolution if fixed_size else None
    inputs = keras.Input((size, size, 3), name="image")
    outputs = inputs
    for block in walk(space, arch, n_classes):
        outputs = apply_block(block, outputs, space.bn_epsilon)
    return keras.Model(inputs, outputs, name=f"{space.name}_subnet")


def block_model(block: Block, bn_epsilon: float = 1e-5) -> keras.Model:
    """A model of a single block, with fresh weights, for measuring its latency."""
    shape = (block.in_channels,) if block.kind == "linear" else (block.in_size, block.in_size, block.in_channels)
    inputs = keras.Input(shape, name="input")
    return keras.Model(inputs, apply_block(block, inputs, bn_epsilon), name="block")


def apply_block(block: Block, inputs, bn_epsilon: float):
    """Adds the plain layers of one block to a functional model; their names start with the block's."""

    def bn(x, suffix: str):
        name = f"{block.name}_{suffix}"
        return keras.layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=bn_epsilon, name=name)(x)

    def activate(x, suffix: str):
        return keras.layers.Activation(block.activation, name=f"{block.name}_{suffix}")(x)

    def pad(x, kernel: int):
        if block.padding == "same" or block.stride == 1:
            return x, "same"
        return keras.layers.ZeroPadding2D(kernel // 2, name=f"{block.name}_pad")(x), "valid"

    if block.kind == "pool":
        return keras.layers.GlobalAveragePooling2D(name=block.name)(inputs)
    if block.kind == "linear":
        activation = None if block.activation == "none" else block.activation
        return keras.layers.Dense(block.out_channels, activation, use_bias=block.bias, name=block.name)(inputs)
    if block.kind == "conv":
        x, padding = pad(inputs, block.kernel)
        conv = keras.layers.Conv2D(
            block.out_channels, block.kernel, block.stride, padding, use_bias=False, name=f"{block.name}_conv"
        )
        return activate(bn(conv(x), "bn"), "act")

    def pointwise(x, channels: int, suffix: str, bias: bool = False):
        return keras.layers.Conv2D(channels, 1, use_bias=bias, name=f"{block.name}_{suffix}")(x)

    x = inputs
    if block.expanded:
        x = activate(bn(pointwise(x, block.mid_channels, "expand"), "expand_bn"), "expand_act")
    x, padding = pad(x, block.kernel)
    depthwise = keras.layers.DepthwiseConv2D(
        block.kernel, block.stride, padding, use_bias=False, name=f"{block.name}_depthwise"
    )
    x = activate(bn(depthwise(x), "depthwise_bn"), "depthwise_act")
    if block.se_channels:
        gates = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{block.name}_se_mean")(x)
        gates = keras.layers.ReLU(name=f"{block.name}_se_act")(pointwise(gates, block.se_channels, "se_reduce", True))
        gates = pointwise(gates, block.mid_channels, "se_expand", True)
        gates = keras.layers.Activation("hard_sigmoid", name=f"{block.name}_se_gate")(gates)
        x = keras.layers.Multiply(name=f"{block.name}_se_scale")([x, gates])
    x = bn(pointwise(x, block.out_channels, "project"), "project_bn")
    return keras.layers.Add(name=f"{block.name}_add")([x, inputs]) if block.skip else x


def extract(supernet: Supernet, arch: Arch, fixed_size: bool = True) -> keras.Model:
    """The plain Keras model of one arch with its share of the supernet's weights.

    The batch norm statistics are those the supernet holds now: recalibrate it at this arch first
    (`SubnetEvaluator.calibrate`), or they belong to another subnet.

    Args:
        supernet: the source; it is not changed.
        arch: a point of its space.
        fixed_size: whether the input size is the arch's resolution, or left open.
    """
    space = supernet.space
    model = build_subnet(space, arch, supernet.n_classes, fixed_size)
    for block in walk(space, arch, supernet.n_classes):
        if block.kind == "pool":
            continue
        layer = supernet.block_layers[block.name]
        if isinstance(layer, ElasticInvertedResidual):
            kernel = layer.kernel_sizes.index(block.kernel)
            weights = layer.active_weights(kernel, layer.mid_choices.index(block.mid_channels))
        elif isinstance(layer, ConvBlock):
            weights = layer.active_weights()
        else:
            model.get_layer(block.name).set_weights(layer.get_weights())
            continue
        for suffix, arrays in weights.items():
            model.get_layer(f"{block.name}_{suffix}").set_weights([np.asarray(array) for array in arrays])
    return model
