"""Weights of a plain network put into a supernet whose largest subnet it is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ofa_tf.blocks import walk
from ofa_tf.errors import FormatError
from ofa_tf.kinds import Block
from ofa_tf.space import SearchSpace

if TYPE_CHECKING:
    from ofa_tf.supernet import Supernet

CLASSIFIER = "classifier"
# What must be the same in two blocks, and how a message calls it.
SAME = {
    "kind": "the kind",
    "in_channels": "input channels",
    "out_channels": "output channels",
    "mid_channels": "middle channels",
    "stride": "the stride",
    "activation": "the activation",
    "se_channels": "squeeze channels",
    "skip": "a skip connection",
}


def require_contains(space: SearchSpace, network: SearchSpace, name: str) -> None:
    """Refuses a space whose largest subnet a network is not, naming the first difference.

    Args:
        space: the space.
        network: a space that was made for the network.
        name: name of the network.

    Raises:
        FormatError: a number of blocks, channels, a stride or something else differs. Kernels may be larger.
    """
    for field in ("padding", "bn_epsilon"):
        ours, theirs = getattr(space, field), getattr(network, field)
        if ours != theirs:
            raise FormatError(f"The space `{space.name}` has `{field}` (={ours!r}); {name} needs {theirs!r}.")
    ours, theirs = (_body(of) for of in (space, network))
    for own, given in zip(ours, theirs, strict=False):
        for field, word in SAME.items():
            if getattr(own, field) != getattr(given, field):
                raise FormatError(
                    f"The space `{space.name}` does not contain {name}: {word} of `{own.name}` "
                    f"(={getattr(own, field)!r}) must be {getattr(given, field)!r}."
                )
        if own.kernel < given.kernel:
            raise FormatError(
                f"The space `{space.name}` does not contain {name}: the largest kernel of `{own.name}` "
                f"(={own.kernel}) must be at least {given.kernel}."
            )
    if len(ours) != len(theirs):
        raise FormatError(
            f"The space `{space.name}` does not contain {name}: its largest subnet has {len(ours)} blocks, not "
            f"{len(theirs)}."
        )


def load_network(
    supernet: "Supernet", network: SearchSpace, weights: Mapping[str, Sequence[np.ndarray]], name: str
) -> None:
    """Copies a network into the largest subnet of a supernet, but for the classifier; all of it or nothing.

    A kernel that is smaller than the supernet's lies in its middle, with zeros around it.

    Args:
        supernet: what is written to; its space contains the network.
        network: a space that was made for the network.
        weights: of its plain layers, by the names of `build_subnet(network, network.largest(), …)`, as Keras has them.
        name: name of the network, for messages.

    Raises:
        FormatError: weights are missing, of another shape or not of finite numbers; names the layer.
    """
    require_contains(supernet.space, network, name)
    values: list[tuple[Any, np.ndarray]] = []
    for own, given in zip(_body(supernet.space), _body(network), strict=True):
        variables = supernet.block_layers[own.name].op_weights()
        for op, theirs in zip(own.ops, given.ops, strict=True):
            if not op.n_weights:
                continue
            found, layer = variables[op.suffix], given.layer_name(theirs)
            kernel, *bias = _take(weights, layer, 1 + op.bias, name)
            if kernel.shape != tuple(theirs.weight_shape):
                raise FormatError(
                    f"{name}: the weights of `{layer}` have the shape {list(kernel.shape)}; "
                    f"{list(theirs.weight_shape)} is needed."
                )
            values.append((found.kernel, _centred(kernel, op.weight_shape).reshape(found.kernel.shape)))
            values += [(found.bias, value) for value in bias]
            if op.norm:
                norm = found.norm
                parts = (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
                of_norm = _take(weights, given.layer_name(theirs, "bn"), len(parts), name)
                values += zip(parts, of_norm, strict=True)
    for variable, value in values:
        if tuple(variable.shape) != value.shape or not np.isfinite(value).all():
            raise FormatError(
                f"{name}: what belongs into `{variable.path}` must be finite numbers of the shape "
                f"{list(variable.shape)}; it has the shape {list(value.shape)}."
            )
    for variable, value in values:
        variable.assign(value)


def _body(space: SearchSpace) -> list[Block]:
    """The blocks of the largest subnet that have weights, but for the classifier."""
    return [block for block in walk(space, space.largest(), 2) if block.n_params and block.name != CLASSIFIER]


def _take(weights: Mapping[str, Sequence[np.ndarray]], layer: str, n: int, name: str) -> list[np.ndarray]:
    found = weights.get(layer, ())
    if len(found) != n:
        raise FormatError(f"{name} must have {n} weights in `{layer}`, and it has {len(found)}.")
    return list(found)


def _centred(kernel: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    margins = [((wide - narrow) // 2,) * 2 for wide, narrow in zip(shape, kernel.shape, strict=True)]
    return np.pad(kernel, margins)
