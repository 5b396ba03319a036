"""Sorting of channels by importance, so that the narrow subnets, which use the first ones, have the best."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import keras
import numpy as np

from ofa_tf.kinds import Block
from ofa_tf.layers.block_layer import OpWeights
from ofa_tf.ops import INPUT, Op

Axis = tuple[Any, int]  # a variable, and which of its axes
GAUSS_POINTS = 60  # of an integral over a Gaussian


class _Group:
    """Channels that can only change places together, of tensors that are made of each other channel by channel."""

    def __init__(self):
        self.belongs: list[Axis] = []  # what makes the channels, or is applied to each of them
        self.reads: list[Axis] = []  # what mixes them
        self.gates: list[Axis] = []  # what mixes their means, for gates of themselves
        self.widths: set[int] = set()  # that have been trained
        self.makers: list[tuple[Any, str]] = []  # batch norm and activation that come last, for each part of a sum
        self._merged: _Group | None = None

    @property
    def whole(self) -> "_Group":
        """The group that this one has become a part of."""
        return self if self._merged is None else self._merged.whole

    def merge(self, other: "_Group") -> "_Group":
        """One group of the channels of both."""
        one, other = self.whole, other.whole
        if one is not other:
            one.belongs += other.belongs
            one.reads += other.reads
            one.gates += other.gates
            one.widths |= other.widths
            one.makers += other.makers
            other._merged = one
        return one

    def sort(self, importance: str) -> None:
        """Puts the most important channels first.

        None leaves the narrowest of the trained widths that it is in, or enters a narrower one.
        """
        values = np.sum([_norms(np.moveaxis(weight.numpy(), axis, 0)) for weight, axis in self.reads], axis=0)
        if importance == "contribution" and len(self.makers) == 1:
            values *= _root_mean_squares(*self.makers[0])
        part = np.searchsorted(sorted(self.widths), np.arange(len(values)), side="right")
        order = np.lexsort((-values, part))
        for weight, axis in (*self.belongs, *self.reads, *self.gates):
            reorder(weight, order, axis)


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.abs(rows.reshape(len(rows), -1)).sum(1, dtype=np.float64)


def _root_mean_squares(norm: Any, activation: str) -> np.ndarray:
    """Of each channel behind a batch norm and an activation, what the batch norm gives being taken as Gaussian."""
    points, shares = np.polynomial.hermite_e.hermegauss(GAUSS_POINTS)
    given = norm.beta.numpy()[:, None] + np.abs(norm.gamma.numpy())[:, None] * points.astype(np.float32)
    squares = np.square(keras.ops.convert_to_numpy(keras.activations.get(activation)(given)), dtype=np.float64)
    return np.sqrt(squares @ (shares / shares.sum()))


def reorder(weight: Any, order: np.ndarray, axis: int) -> None:
    """Puts the entries of a variable along an axis in another order."""
    weight.assign(np.take(weight.numpy(), order, axis))


def sort_channels(
    blocks: Sequence[Block],
    weights_of: Callable[[Block], Mapping[str, OpWeights]],
    outputs: Collection[str] = (),
    middle: bool = True,
    trained: Sequence[Sequence[Block]] = (),
    importance: str = "weights",
) -> None:
    """Puts the most important channels first; the function of the blocks does not change.

    All that makes a channel, keeps it apart or adds to it follows: convolutions, batch norms, depthwise convolutions,
    gates, skips.

    Args:
        blocks: those of the largest subnet, each of which reads what the one before writes.
        weights_of: the variables of a block's operations, by their suffixes.
        outputs: names of blocks; the channels that they write are sorted.
        middle: whether the channels within elastic blocks are sorted.
        trained: the blocks of narrower subnets that have been trained: the channels that they use stay theirs, so that
            their functions do not change, either.
        importance: "weights": the L1 norm of the weights of all that reads the channel, but for squeezes (Cai et al.,
            ICLR 2020, section 3.3). "contribution": this times the root mean square of the channel, as scale and offset
            of its batch norm have it, where one batch norm makes it: weights of a channel that is always nearly zero
            are worth nothing.
    """
    written, inner = _groups(blocks, weights_of, trained)
    between = {id(group.whole) for group in written.values()}
    chosen = [written[name].whole for name in outputs]
    if middle:
        chosen += [group.whole for group in inner if id(group.whole) not in between]
    for group in {id(group): group for group in chosen}.values():
        group.sort(importance)


def _groups(
    blocks: Sequence[Block],
    weights_of: Callable[[Block], Mapping[str, OpWeights]],
    trained: Sequence[Sequence[Block]],
) -> tuple[dict[str, _Group], list[_Group]]:
    """The groups of what blocks write, by name (that of the network's input by ""), and those within elastic blocks."""
    group = _Group()
    written, inner = {"": group}, list[_Group]()
    widths = defaultdict[tuple[str, str], set[int]](set)
    for block in chain.from_iterable(trained):
        for op in block.ops:
            widths[block.name, op.suffix].add(op.out_channels)
    for block in blocks:
        groups = {INPUT: group}
        ops = {op.suffix: op for op in block.ops}
        weights = weights_of(block)
        for op in block.ops:
            gated = any(source in ops and ops[source].summarises for source in op.inputs)
            made = _output(op, [groups[source] for source in op.inputs], weights.get(op.suffix), gated)
            made.widths |= widths[block.name, op.suffix]
            groups[op.suffix] = made
        group = written[block.name] = groups[block.ops[-1].suffix]
        if block.slot >= 0:
            inner += groups.values()
    return written, inner


def _output(op: Op, sources: list[_Group], weights: OpWeights | None, gated: bool) -> _Group:
    """The group of the output of an operation."""
    group = sources[0].whole
    for other in sources[1:]:
        group = group.merge(other)
    if weights is None:
        return group
    if op.depthwise:
        group.belongs += [(weights.kernel, 2), *_of_each(weights)]
        if (
            len(group.makers) <= 1 and not group.reads
        ):  # otherwise what is read is not behind this convolution, or a sum
            group.makers = _maker(op, weights)
        return group
    (group.gates if gated else group.reads).append((weights.kernel, -2))
    made = _Group()
    made.belongs = [(weights.kernel, -1), *_of_each(weights)]
    made.makers = _maker(op, weights)
    return made


def _maker(op: Op, weights: OpWeights) -> list[tuple[Any, str]]:
    return [] if weights.norm is None else [(weights.norm, op.activation)]


def _of_each(weights: OpWeights) -> Iterator[Axis]:
    """The variables with an entry for each output channel."""
    for variable in (weights.bias, *getattr(weights.norm, "weights", ())):
        if variable is not None:
            yield variable, 0
