"""Plain Keras models: one arch, no elastic layer left, the weights sliced out of the supernet."""

from typing import Any

import keras
import numpy as np

from ofa_tf.blocks import Block, walk
from ofa_tf.ops import INPUT, Op
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.supernet import Supernet

BN_MOMENTUM = 0.9


def build_subnet(space: SearchSpace, arch: Arch, n_classes: int, fixed_size: bool = True) -> keras.Model:
    """A plain Keras model of one arch, with fresh weights.

    Args:
        space: the space of the arch.
        arch: one of its points.
        n_classes: number of outputs of the classifier.
        fixed_size: whether the input size is the arch's resolution, or left open.

    Returns:
        A functional model from images `(batch, resolution, resolution, 3)` to logits `(batch, n_classes)`.

    Examples:
        >>> space = ofa.get_space("tiny")
        >>> ofa.build_subnet(space, space.smallest(), n_classes=10).output_shape
        (None, 10)
    """
    size = arch.resolution if fixed_size else None
    inputs = keras.Input((size, size, 3), name="image")
    outputs = inputs
    for block in walk(space, arch, n_classes):
        outputs = apply_block(block, outputs, space.bn_epsilon)
    return keras.Model(inputs, outputs, name=f"{space.name}_subnet")


def block_model(block: Block, bn_epsilon: float = 1e-5) -> keras.Model:
    """A model of a single block, with fresh weights, for measuring its latency."""
    size = (block.in_size, block.in_size) if block.takes_images else ()
    inputs = keras.Input((*size, block.in_channels), name="input")
    return keras.Model(inputs, apply_block(block, inputs, bn_epsilon), name="block")


def apply_block(block: Block, inputs, bn_epsilon: float):
    """Adds the plain layers of one block to a functional model; their names are those of `Block.layer_name`."""
    outputs = {INPUT: inputs}
    for op in block.ops:
        sources = [outputs[source] for source in op.inputs]
        if op.margins != (0, 0):
            pad = keras.layers.ZeroPadding2D(op.margins, name=block.layer_name(op, "pad"))
            sources = [pad(source) for source in sources]
        x = plain_layer(op, block.layer_name(op), op.bias)(sources if len(sources) > 1 else sources[0])
        if op.norm:
            name = block.layer_name(op, "bn")
            x = keras.layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=bn_epsilon, name=name)(x)
        if op.activation != "none":
            x = keras.layers.Activation(op.activation, name=block.layer_name(op, "act"))(x)
        outputs[op.suffix] = x
    return outputs[block.ops[-1].suffix]


def plain_layer(op: Op, name: str, use_bias: bool, layers: Any = keras.layers) -> Any:
    """The layer that executes an operation, without its margins, batch norm and activation.

    Args:
        op: the operation.
        name: name of the layer.
        use_bias: whether it has a bias: the operation's own, or what a batch norm folded into it leaves.
        layers: `keras.layers`, or those of another Keras.

    Raises:
        ValueError: no operation that can be built.
    """
    padding = "same" if op.margins == (0, 0) else "valid"
    if op.kind == "conv":
        return layers.Conv2D(op.out_channels, op.kernel, op.stride, padding, use_bias=use_bias, name=name)
    if op.kind == "depthwise":
        return layers.DepthwiseConv2D(op.kernel, op.stride, padding, use_bias=use_bias, name=name)
    if op.kind == "dense":
        return layers.Dense(op.out_channels, use_bias=use_bias, name=name)
    if op.kind in ("max_pool", "average_pool"):
        made = layers.MaxPooling2D if op.kind == "max_pool" else layers.AveragePooling2D
        return made(op.kernel, op.stride, padding, name=name)
    if op.kind == "mean":
        return layers.GlobalAveragePooling2D(keepdims=True, name=name)
    if op.kind == "flatten":
        return layers.Reshape((op.out_channels,), name=name)
    if op.kind in ("add", "multiply"):
        return (layers.Add if op.kind == "add" else layers.Multiply)(name=name)
    raise ValueError(f"`kind` (={op.kind!r}) of an operation must be one that `Op` lists.")


def extract(supernet: Supernet, arch: Arch, fixed_size: bool = True) -> keras.Model:
    """The plain Keras model of one arch with its share of the supernet's weights.

    The batch norm statistics are those that the supernet holds now: recalibrate it at this arch first
    (`SubnetEvaluator.calibrate`), because otherwise they belong to another subnet.

    Args:
        supernet: the source; it is not changed.
        arch: a point of its space.
        fixed_size: whether the input size is the arch's resolution, or left open.

    Examples:
        >>> space = ofa.get_space("tiny")
        >>> model = ofa.extract(ofa.Supernet(space, n_classes=10), space.smallest())
        >>> model.input_shape
        (None, 24, 24, 3)
    """
    space = supernet.space
    model = build_subnet(space, arch, supernet.n_classes, fixed_size)
    for block in walk(space, arch, supernet.n_classes):
        for name, weights in supernet.block_layers[block.name].active_weights(block).items():
            model.get_layer(name).set_weights([np.asarray(weight) for weight in weights])
    return model
