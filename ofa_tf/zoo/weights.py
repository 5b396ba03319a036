"""Published weights: from the tensors of a PyTorch checkpoint to the variables of a supernet."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ofa_tf.errors import FormatError

if TYPE_CHECKING:
    from ofa_tf.supernet import Supernet

# For each axis of a variable, the axis of the tensor that it comes from.
CONV, DEPTHWISE, LINEAR, SAME = (2, 3, 1, 0), (2, 3, 0, 1), (1, 0), None
# Checkpoints were written by several versions of the published code: what it called the same, longest names first.
SYNONYMS = (
    (".mobile_inverted_conv.", ".conv."),
    (".bn.bn.", ".bn."),
    (".conv.conv.weight", ".conv.weight"),
    (".linear.linear.", ".linear."),
)
Row = tuple[str, Any, tuple[int, ...] | None]


def load_torch_weights(supernet: "Supernet", state: Mapping[str, np.ndarray]) -> None:
    """Copies a published checkpoint into a supernet of the same space; all of it or nothing.

    The space must have the checkpoint's width multiplier and epsilon, and `symmetric` padding.

    Args:
        supernet: what is written to.
        state: tensors by their published names, as from `state_dict`. The counters `num_batches_tracked` of batch
            norms are not needed.

    Raises:
        FormatError: a tensor is missing, surplus, of another shape, or not of finite numbers; names it.
    """
    copy_tensors(list(_rows(supernet)), state, supernet.space.name)


def copy_tensors(rows: Sequence[Row], state: Mapping[str, np.ndarray], network: str) -> None:
    """Copies tensors into variables; all of them or none.

    Args:
        rows: the name of the tensor of every variable, the variable, and how the axes of the tensor are ordered.
        state: tensors by their published names.
        network: what the variables are of, for messages.

    Raises:
        FormatError: a tensor is missing, surplus, of another shape, or not of finite numbers; names it.
    """
    tensors: dict[str, tuple[str, np.ndarray]] = {}
    for name, tensor in state.items():
        known = _canonical(name)
        if known in tensors:
            raise FormatError(f"The checkpoint has {name} twice: {tensors[known][0]} is the same.")
        tensors[known] = name, tensor
    counters = {name.replace("running_mean", "num_batches_tracked") for name, *_ in rows}
    surplus = sorted(tensors.keys() - {name for name, *_ in rows} - counters)
    if surplus:
        raise FormatError(f"The checkpoint has {tensors[surplus[0]][0]}, which `{network}` has not.")
    values = []
    for name, variable, axes in rows:
        if name not in tensors:
            raise FormatError(f"The checkpoint lacks {name}, which `{network}` has.")
        values.append(_to_keras(*tensors[name], variable, axes))
    for (_, variable, _), value in zip(rows, values, strict=True):
        variable.assign(value)


def _canonical(name: str) -> str:
    for old, new in SYNONYMS:
        name = name.replace(old, new)
    return name


def _to_keras(name: str, tensor: np.ndarray, variable: Any, axes: tuple[int, ...] | None) -> np.ndarray:
    shape = tuple(variable.shape)
    if axes is not None:
        # Dense weights stand for 1x1 convolutions where the tensor is one.
        full = (1,) * (len(axes) - len(shape)) + shape
        expected = tuple(full[axes.index(axis)] for axis in range(len(axes)))
    else:
        expected = shape
    if tensor.shape != expected:
        raise FormatError(f"The checkpoint's {name} has the shape {list(tensor.shape)}; {list(expected)} is needed.")
    if tensor.dtype.kind != "f" or not np.isfinite(tensor).all():
        raise FormatError(f"The checkpoint's {name} must hold finite floating-point numbers.")
    return (tensor if axes is None else tensor.transpose(axes)).reshape(shape).astype(np.float32)


def _rows(supernet: "Supernet") -> Iterator[Row]:
    """The published name of every variable, and how the axes of its tensor are ordered."""
    yield from _conv_block("first_conv", supernet.stem)
    for index, block in enumerate([supernet.first, *supernet.elastic_blocks]):
        yield from _inverted_residual(f"blocks.{index}.conv", block)
    if supernet.feature is None:
        yield from _conv_block("feature_mix_layer", supernet.head)
    else:
        yield from _conv_block("final_expand_layer", supernet.head)
        yield "feature_mix_layer.conv.weight", supernet.feature.kernel, CONV
    yield "classifier.linear.weight", supernet.classifier.kernel, LINEAR
    yield "classifier.linear.bias", supernet.classifier.bias, SAME


def _conv_block(name: str, layer: Any) -> Iterator[Row]:
    yield f"{name}.conv.weight", layer.conv.kernel, CONV
    yield from batch_norm_rows(name, layer.bn)


def _inverted_residual(name: str, layer: Any) -> Iterator[Row]:
    if layer.expand_conv is not None:
        yield f"{name}.inverted_bottleneck.conv.weight", layer.expand_conv.kernel, CONV
        yield from batch_norm_rows(f"{name}.inverted_bottleneck", layer.expand_bn)
    depthwise, excite = layer.depthwise_conv, layer.squeeze_excite
    yield f"{name}.depth_conv.conv.weight", depthwise.kernel, DEPTHWISE
    for size, transform in zip(depthwise.kernel_sizes[-2::-1], depthwise.transforms, strict=True):
        yield f"{name}.depth_conv.conv.{size + 2}to{size}_matrix", transform, SAME
    yield from batch_norm_rows(f"{name}.depth_conv", layer.depthwise_bn)
    if excite is not None:
        yield f"{name}.depth_conv.se.fc.reduce.weight", excite.reduce_kernel, CONV
        yield f"{name}.depth_conv.se.fc.reduce.bias", excite.reduce_bias, SAME
        yield f"{name}.depth_conv.se.fc.expand.weight", excite.expand_kernel, CONV
        yield f"{name}.depth_conv.se.fc.expand.bias", excite.expand_bias, SAME
    yield f"{name}.point_linear.conv.weight", layer.project_conv.kernel, CONV
    yield from batch_norm_rows(f"{name}.point_linear", layer.project_bn)


def batch_norm_rows(name: str, layer: Any) -> Iterator[Row]:
    """The published names of the variables of a batch norm, whether it is of a supernet or of a subnet."""
    yield f"{name}.bn.weight", layer.gamma, SAME
    yield f"{name}.bn.bias", layer.beta, SAME
    yield f"{name}.bn.running_mean", layer.moving_mean, SAME
    yield f"{name}.bn.running_var", layer.moving_variance, SAME
