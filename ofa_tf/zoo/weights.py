"""Published weights: from the tensors of a PyTorch checkpoint to the variables of a supernet."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ofa_tf.blocks import walk
from ofa_tf.errors import FormatError
from ofa_tf.kinds import Block
from ofa_tf.space import SearchSpace

if TYPE_CHECKING:
    from ofa_tf.layers import OpWeights
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
AXES = {"conv": CONV, "depthwise": DEPTHWISE, "dense": LINEAR}


@dataclass(frozen=True)
class PublishedKind:
    """What the published code called the blocks of a kind, and their operations.

    Args:
        modules: the list that they are in.
        wrapped: what stands between the number of a block and its operations.
        wrapped_skip: likewise for a block with a skip.
        parts: the names of operations, by their suffixes; others have none of their own.
    """

    modules: str
    wrapped: str = ""
    wrapped_skip: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)


PUBLISHED = {
    "mbconv": PublishedKind(
        "blocks",
        ".conv",
        ".conv",
        {
            "expand": "inverted_bottleneck",
            "depthwise": "depth_conv",
            "se_reduce": "depth_conv.se.fc.reduce",
            "se_expand": "depth_conv.se.fc.expand",
            "project": "point_linear",
        },
    ),
    "bottleneck": PublishedKind(
        "blocks", parts={"reduce": "conv1", "conv": "conv2", "project": "conv3", "downsample": "downsample"}
    ),
    "residual_conv": PublishedKind("input_stem", wrapped_skip=".conv"),
    "conv_pool": PublishedKind("input_stem"),
}
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
    space = supernet.space
    blocks = walk(space, space.largest(), supernet.n_classes)
    rows = published_rows(space, blocks, lambda block: supernet.block_layers[block.name].op_weights())
    copy_tensors(rows, state, space.name)


def copy_tensors(rows: Sequence[Row], state: Mapping[str, np.ndarray], network: str) -> None:
    """Copies tensors into variables; all of them or none.

    Args:
        rows: the name of the tensor of every variable, the variable, and how the axes of the tensor are ordered.
        state: tensors by their published names.
        network: what the variables are of, for messages.

    Raises:
        FormatError: a tensor is missing, surplus, of another shape, or not of finite numbers; names it.
    """
    rows = [(_canonical(name), variable, axes) for name, variable, axes in rows]
    tensors: dict[str, tuple[str, np.ndarray]] = {}
    for name, tensor in state.items():
        known = _canonical(name)
        if known in tensors:
            raise FormatError(f"The checkpoint has {name} twice: {tensors[known][0]} is the same.")
        tensors[known] = name, tensor
    counters = {name.replace("running_mean", "num_batches_tracked") for name, *_ in rows}
    surplus = sorted(tensors.keys() - {name for name, *_ in rows} - counters)
    if surplus:
        raise FormatError(f"The checkpoint has {tensors[surplus[0]][0]}, which `{network}` does not have.")
    values = []
    for name, variable, axes in rows:
        if name not in tensors:
            raise FormatError(f"The checkpoint lacks {name}, which `{network}` has.")
        values.append(_to_keras(*tensors[name], variable, axes))
    for (_, variable, _), value in zip(rows, values, strict=True):
        variable.assign(value)


def _canonical(name: str) -> str:
    for old, new in SYNONYMS:
        while old in name:
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


def published_rows(
    space: SearchSpace, blocks: Sequence[Block], weights_of: Callable[[Block], Mapping[str, "OpWeights"]]
) -> list[Row]:
    """The published name of every variable of a network, and how the axes of its tensor are ordered.

    Args:
        space: the space.
        blocks: from `walk`.
        weights_of: the variables of a block's operations, by their suffixes.
    """
    ends = {
        "stem": "first_conv",
        "head": "final_expand_layer" if space.feature_channels else "feature_mix_layer",
        "feature": "feature_mix_layer.conv",
        "classifier": "classifier.linear",
    }
    rows: list[Row] = []
    n_before: Counter[str] = Counter()
    for block in blocks:
        if not block.n_params:
            continue
        name = ends.get(block.name)
        if name is None:
            of_kind = PUBLISHED[block.kind]
            name = f"{of_kind.modules}.{n_before[of_kind.modules]}"
            name += of_kind.wrapped_skip if block.skip else of_kind.wrapped
            n_before[of_kind.modules] += 1
        rows += block_rows(block, name, weights_of(block))
    return rows


def block_rows(block: Block, name: str, weights: Mapping[str, "OpWeights"]) -> Iterator[Row]:
    """The same for one block, of a published name, with the variables of its operations by their suffixes."""
    parts = PUBLISHED[block.kind].parts if block.kind in PUBLISHED else {}
    for op in block.ops:
        if not op.n_weights:
            continue
        part, found = f"{name}.{parts.get(op.suffix, '')}".rstrip("."), weights[op.suffix]
        conv = f"{part}.conv" if op.norm else part
        # The one layer with neither batch norm nor bias is dense here, and a convolution there.
        yield f"{conv}.weight", found.kernel, AXES[op.kind] if op.norm or op.bias else CONV
        for size, transform in found.transforms.items():
            yield f"{conv}.{size + 2}to{size}_matrix", transform, SAME
        if op.bias:
            yield f"{conv}.bias", found.bias, SAME
        if op.norm:
            yield f"{part}.bn.weight", found.norm.gamma, SAME
            yield f"{part}.bn.bias", found.norm.beta, SAME
            yield f"{part}.bn.running_mean", found.norm.moving_mean, SAME
            yield f"{part}.bn.running_var", found.norm.moving_variance, SAME
