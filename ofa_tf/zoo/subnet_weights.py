"""Weights of a published specialised network: from the tensors of a PyTorch checkpoint to a plain Keras model."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ofa_tf.blocks import Block, walk
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.zoo.weights import CONV, DEPTHWISE, LINEAR, SAME, Row, batch_norm_rows, copy_tensors

if TYPE_CHECKING:
    import keras


def load_torch_subnet(
    model: "keras.Model", space: SearchSpace, arch: Arch, n_classes: int, state: Mapping[str, np.ndarray]
) -> None:
    """Copies the checkpoint of a specialised network into the plain Keras model of its arch; all of it or nothing.

    Args:
        model: what `build_subnet` gives for the next three.
        space: the space, with the network's width multiplier and epsilon, and `symmetric` padding.
        arch: the arch.
        n_classes: outputs of the classifier.
        state: tensors by their published names, as from `state_dict`.

    Raises:
        FormatError: a tensor is missing, surplus, of another shape, or not of finite numbers; names it.
    """
    blocks = [block for block in walk(space, arch, n_classes) if block.kind != "pool"]
    rows: list[Row] = []
    inverted = 0
    for block in blocks:
        name = {
            "stem": "first_conv",
            "head": "final_expand_layer" if space.feature_width else "feature_mix_layer",
            "feature": "feature_mix_layer.conv",
            "classifier": "classifier.linear",
        }.get(block.name, f"blocks.{inverted}.conv")
        inverted += block.kind == "mbconv"
        rows += _rows(model, block, name)
    copy_tensors(rows, state, f"the network `{arch}`")


def _rows(model: "keras.Model", block: Block, name: str) -> Iterator[Row]:
    """The published name of every variable of a block, and how the axes of its tensor are ordered."""

    def layer(suffix: str = ""):
        return model.get_layer(f"{block.name}{suffix}")

    if block.kind == "linear":
        yield f"{name}.weight", layer().kernel, LINEAR if block.bias else CONV
        if block.bias:
            yield f"{name}.bias", layer().bias, SAME
        return
    if block.kind == "conv":
        yield f"{name}.conv.weight", layer("_conv").kernel, CONV
        yield from batch_norm_rows(name, layer("_bn"))
        return
    if block.expanded:
        yield f"{name}.inverted_bottleneck.conv.weight", layer("_expand").kernel, CONV
        yield from batch_norm_rows(f"{name}.inverted_bottleneck", layer("_expand_bn"))
    yield f"{name}.depth_conv.conv.weight", layer("_depthwise").kernel, DEPTHWISE
    yield from batch_norm_rows(f"{name}.depth_conv", layer("_depthwise_bn"))
    if block.se_channels:
        for part in ("reduce", "expand"):
            yield f"{name}.depth_conv.se.fc.{part}.weight", layer(f"_se_{part}").kernel, CONV
            yield f"{name}.depth_conv.se.fc.{part}.bias", layer(f"_se_{part}").bias, SAME
    yield f"{name}.point_linear.conv.weight", layer("_project").kernel, CONV
    yield from batch_norm_rows(f"{name}.point_linear", layer("_project_bn"))
