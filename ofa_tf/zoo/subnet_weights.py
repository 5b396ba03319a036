"""Weights of a published specialised network: from the tensors of a PyTorch checkpoint to a plain Keras model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ofa_tf.blocks import walk
from ofa_tf.kinds import Block
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.zoo.weights import copy_tensors, published_rows

if TYPE_CHECKING:
    import keras

    from ofa_tf.layers import OpWeights


def load_torch_subnet(
    model: "keras.Model", space: SearchSpace, arch: Arch, n_classes: int, state: Mapping[str, np.ndarray]
) -> None:
    """Copies the checkpoint of a specialised network into the plain Keras model of its arch; all of it or nothing.

    Args:
        model: what `build_subnet` gives for the next three.
        space: the space, with the network's width multiplier and epsilon, and `symmetric` padding.
        arch: the arch.
        n_classes: number of outputs of the classifier.
        state: tensors by their published names, as from `state_dict`.

    Raises:
        FormatError: a tensor is missing, surplus, of another shape, or not of finite numbers; names it.
    """
    blocks = walk(space, arch, n_classes)
    rows = published_rows(space, blocks, lambda block: plain_weights(model, block))
    copy_tensors(rows, state, f"the network `{arch}`")


def plain_weights(model: "keras.Model", block: Block) -> dict[str, "OpWeights"]:
    """The variables of a block's operations in a plain Keras model, by their suffixes."""
    from ofa_tf.layers import OpWeights

    weights = {}
    for op in block.ops:
        if op.n_weights:
            layer = model.get_layer(block.layer_name(op))
            norm = model.get_layer(block.layer_name(op, "bn")) if op.norm else None
            weights[op.suffix] = OpWeights(layer.kernel, layer.bias if op.bias else None, norm)
    return weights
