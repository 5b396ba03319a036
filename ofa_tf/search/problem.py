"""The problem that every step of a search works on: scores, loads, and the moves from an arch to its neighbours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod
from typing import Protocol, runtime_checkable

import numpy as np

from ofa_tf.channel_index import ChannelIndex
from ofa_tf.costs import ArchCosts
from ofa_tf.errors import OfaError
from ofa_tf.search.budget import Budget, loads
from ofa_tf.space import SearchSpace

ROUNDING = 1e-9  # of a load that is foretold
Score = Callable[[np.ndarray], np.ndarray]
"""Codes of shape (archs, genes) to predicted scores of shape (archs,); more is better."""


_Shares = tuple[np.ndarray, np.ndarray]
Slopes = Callable[[np.ndarray], tuple[np.ndarray, ...]]
"""Rows of linearized archs to derivatives with respect to the choices of block dimensions, and of channels."""


@runtime_checkable
class Differentiable(Protocol):
    """A score that knows its slopes: it is defined between archs too, as a function of one-hot inputs."""

    def linearize(self, codes: np.ndarray) -> tuple[np.ndarray, Slopes]:
        """The scores, and how they change with the share of each choice.

        Args:
            codes: shape (archs, genes).

        Returns:
            Scores of shape (archs,), and a function of rows of `codes` that gives, for each block dimension of the
            space, the derivatives with respect to the choices of each block, shape (rows, blocks, choices), those of
            blocks that are not in use, too; and where the space has elastic streams, those with respect to the choices
            of their channels, shape (rows, streams, choices).
        """
        ...


@dataclass(frozen=True)
class Problem:
    """Find high scores at low loads.

    An option of a block is one choice of each of the space's block dimensions (kernel and expand ratio). A move changes
    the option of a block, the depth of a stage, the channels of a stream, or the resolution; what it changes is its
    group. A move to a larger depth also chooses the option of the blocks that it adds, alike for all. So every change
    of a single gene is a move. In a coupled space the option follows from the depth.

    Args:
        space: the space.
        score_codes: the scores of codes.
        budgets: what makes the load.
        resolutions: indices of the resolutions to search.
        within: budgets that do not make the load, but must be met: beyond them it is infinite.
    """

    space: SearchSpace
    score_codes: Score
    budgets: Sequence[Budget]
    resolutions: np.ndarray
    within: Sequence[Budget] = ()

    def load(self, codes: np.ndarray) -> np.ndarray:
        """Loads of codes: float64 of shape (archs,)."""
        total = loads(self.budgets, codes)
        return np.where(loads(self.within, codes) <= 1, total, np.inf) if self.within else total

    def score(self, codes: np.ndarray) -> np.ndarray:
        """Scores of codes: float64 of shape (archs,).

        Raises:
            OfaError: scores of another shape, or a score that is not a number.
        """
        return self._checked(codes, self.score_codes(codes)) if len(codes) else np.zeros(0)

    def linearize(self, codes: np.ndarray) -> tuple[np.ndarray, Slopes | None]:
        """Scores as by `score`, and their slopes as by `Differentiable.linearize`; None where the score knows none."""
        if not isinstance(self.score_codes, Differentiable):
            return self.score(codes), None
        scores, slopes = self.score_codes.linearize(codes)
        return self._checked(codes, scores), slopes

    def _checked(self, codes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Scores that are known to be numbers, one per arch."""
        scores = np.asarray(scores, np.float64)
        if scores.shape != (len(codes),):
            raise OfaError(f"The predictor must give one score per arch: {(len(codes),)}, not {scores.shape}.")
        if np.isnan(scores).any():
            arch = self.space.decode_one(codes[np.isnan(scores).argmax()])
            raise OfaError(f"The predictor gives NaN for the arch `{arch}`; fit it again.")
        return scores

    @cached_property
    def _hash_weights(self) -> np.ndarray:
        return np.random.default_rng(0).integers(1, 2**63, self.space.n_genes, dtype=np.uint64) * 2 + 1

    def hashes(self, codes: np.ndarray, genes: slice = slice(None)) -> np.ndarray:
        """A 64-bit number per arch, from all genes or some: uint64 of shape (archs,)."""
        return codes[:, genes].astype(np.uint64) @ self._hash_weights[genes]

    def structures(self, codes: np.ndarray) -> np.ndarray:
        """A 64-bit number per resolution and depths: uint64 of shape (archs,)."""
        return self.hashes(codes, slice(0, self.space.depth_genes.stop))

    # --- moves ---------------------------------------------------------------------------------------------------

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(dimension.size for dimension in self.space.block_dimensions)

    @cached_property
    def _n_options(self) -> int:
        return prod(self._sizes)

    @cached_property
    def _choices(self) -> list[tuple[slice, np.ndarray]]:
        """Per block dimension its genes, and the choice that each option makes of it: shape (options,)."""
        choices = np.indices(self._sizes, np.int32).reshape(len(self._sizes), -1)
        return [(dimension.genes, of) for dimension, of in zip(self.space.block_dimensions, choices, strict=True)]

    @cached_property
    def _depths(self) -> tuple[np.ndarray, np.ndarray]:
        """Stage and index of every depth that a stage may have."""
        choices = [(stage, depth) for stage, of in enumerate(self.space.stages) for depth in range(len(of.depths))]
        stage, depth = np.array(choices).T
        return stage, depth

    @cached_property
    def _channels(self) -> tuple[np.ndarray, np.ndarray]:
        """Index among the elastic streams, and index of the choice, of all channels that one may have."""
        sizes = [len(stream.channels) for stream in self.space.elastic_streams]
        choices = [(stream, choice) for stream, size in enumerate(sizes) for choice in range(size)]
        stream, choice = np.array(choices, np.int64).reshape(-1, 2).T
        return stream, choice

    @cached_property
    def groups(self) -> np.ndarray:
        """What each move changes: a block, a stage's depth, a stream, or, last, the resolution; shape (moves,)."""
        n_blocks, n_resolutions = self.space.n_blocks, len(self.resolutions)
        slots = np.concatenate([np.arange(n_blocks), n_blocks + self._depths[0]])
        streams = n_blocks + self.space.n_stages + self._channels[0]
        return np.concatenate([np.tile(slots, self._n_options), streams, np.full(n_resolutions, self.n_groups - 1)])

    @property
    def n_groups(self) -> int:
        return self.space.n_blocks + self.space.n_stages + len(self.space.elastic_streams) + 1

    @cached_property
    def _n_slots(self) -> int:
        """Blocks, and depths of stages: a move of one of them is an option there."""
        return self.space.n_blocks + len(self._depths[0])

    @cached_property
    def _barred(self) -> np.ndarray:
        """Infinite for moves that no arch has, because a stage lacks the option: shape (options, slots)."""
        space, stages = self.space, [*self.space.block_stages, *self._depths[0]]
        first = [space.stage_slots[stage].start for stage in stages]
        lacks = np.zeros((self._n_options, self._n_slots), bool)
        for dimension, (_, choice) in zip(space.block_dimensions, self._choices, strict=True):
            lacks |= choice[:, None] >= np.array([len(dimension.choices[slot]) for slot in first])
        if space.coupled:
            lacks[:, : space.n_blocks] = True
            lacks[:, space.n_blocks :] |= self._choices[-1][1][:, None] != self._depths[1]
        return np.where(lacks, np.inf, 0.0)

    def _options(self, codes: np.ndarray) -> np.ndarray:
        """The option of each block as one index, shape (archs, blocks)."""
        first, *others = self.space.block_dimensions
        options = codes[:, first.genes]
        for dimension in others:
            options = options * dimension.size + codes[:, dimension.genes]
        return options

    def move(self, codes: np.ndarray, parents: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """The canonical codes after `moves` of `codes[parents]`; both of shape (n,), the result of shape (n, genes)."""
        space = self.space
        moved = codes[parents]
        option, slot = np.divmod(moves, self._n_slots)
        others = self._n_options * self._n_slots
        rows = np.flatnonzero((moves < others) & (slot < space.n_blocks))
        for genes, choice in self._choices:
            moved[rows, genes.start + slot[rows]] = choice[option[rows]]
        rows = np.flatnonzero((moves < others) & (slot >= space.n_blocks))
        stage, depth = (of[slot[rows] - space.n_blocks] for of in self._depths)
        before = space.active(moved[rows])
        moved[rows, 1 + stage] = depth
        after = space.active(moved[rows])
        for genes, choice in self._choices:
            moved[rows, genes] = np.where(after & ~before, choice[option[rows], None], moved[rows, genes] * after)
        (stream, choice), of_resolution = self._channels, others + len(self._channels[0])
        rows = np.flatnonzero((moves >= others) & (moves < of_resolution))
        moved[rows, space.channel_genes.start + stream[moves[rows] - others]] = choice[moves[rows] - others]
        rows = np.flatnonzero(moves >= of_resolution)
        moved[rows, 0] = self.resolutions[moves[rows] - of_resolution]
        return space.canonical(moved) if space.coupled else moved

    def neighbours(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every arch one move away.

        Returns:
            Codes of shape (neighbours, genes), the row of `codes` that each comes from, and its group.
        """
        parents, moves = np.nonzero(np.isfinite(self.move_loads(codes)))
        return self.move(codes, parents, moves), parents, self.groups[moves]

    @cached_property
    def _relative_costs(self) -> list[tuple["_Shares", "_Shares | None"]]:
        """Per budget, shares of its limit: of what adds up over blocks, and of the part of which the largest counts."""
        return [
            (self._shares(costs.sums, limit), None if costs.peaks is None else self._shares(costs.peaks, limit))
            for costs, limit in ((budget.costs, budget.limit) for budget in self.budgets)
        ]

    def _shares(self, costs: ArchCosts, limit: float) -> "_Shares":
        """Costs over a limit.

        Returns:
            Those of the fixed blocks, of shape (resolutions, choices of channels at the ends), and the others, of shape
            (resolutions, pairs of channels, options, blocks), with 0 for what cannot be chosen.
        """
        n_resolutions, shape = len(self.space.resolutions), (self.space.n_blocks, -1, self._n_options, self._index.n**2)
        elastic = costs.elastic.reshape(shape).transpose(1, 3, 2, 0) / limit
        elastic = np.ascontiguousarray(np.where(np.isfinite(elastic), elastic, 0.0))
        return costs.fixed.reshape(n_resolutions, -1) / limit, elastic

    @cached_property
    def _index(self) -> ChannelIndex:
        return ChannelIndex(self.space)

    @cached_property
    def _used_at(self) -> tuple[np.ndarray, np.ndarray]:
        """1 where a block is used at a depth of a stage, and where it is of that stage: of shape (blocks, depths)."""
        stage, depth = self._depths
        n_used = np.array([self.space.stages[s].depths[d] for s, d in zip(stage, depth, strict=True)])
        own = np.array(self.space.block_stages)[:, None] == stage
        used = own & (np.array(self.space.block_positions)[:, None] < n_used)
        return used.astype(np.float32), own.astype(np.float32)

    @cached_property
    def _bounds(self) -> "Problem":
        """The budgets of `within` as a problem of their own."""
        return Problem(self.space, self.score_codes, self.within, self.resolutions)

    def move_loads(self, codes: np.ndarray) -> np.ndarray:
        """The loads after each move, without making it: shape (archs, moves), infinite where it changes nothing.

        They are added up in another order than by `load`, so they may differ in the last digits.
        """
        foretold = self._foretell(codes)
        if self.within:
            foretold[self._bounds._foretell(codes) > 1 + ROUNDING] = np.inf
        return foretold

    def _foretell(self, codes: np.ndarray) -> np.ndarray:
        """The loads after each move, by the budgets that make it."""
        n, n_blocks, (stage, depth) = len(codes), self.space.n_blocks, self._depths
        active, option = self.space.active(codes), self._options(codes)
        pairs, ends = (self._index.pairs(codes), self._index.ends(codes)) if self._index.n > 1 else (0, 0)
        place = (pairs * self._n_options + option) * n_blocks + np.arange(n_blocks)
        of_slots = np.zeros((n, self._n_options, self._n_slots))
        of_resolutions = np.zeros((n, len(self.resolutions)))
        for sums, peaks in self._relative_costs:
            fixed, of_blocks, values = self._spread(sums, codes, active, place, pairs, ends)
            everywhere = fixed + of_blocks.sum(2).T
            here = everywhere[codes[:, :1] == self.resolutions]
            changes = self._changes(values, active, option)
            changes += here[:, None, None]
            if peaks is not None:
                fixed, of_blocks, values = self._spread(peaks, codes, active, place, pairs, ends)
                everywhere = everywhere + np.maximum(fixed, of_blocks.max(2).T)
                changes += self._peaks_after(values, active, option, fixed[codes[:, :1] == self.resolutions])
            np.maximum(of_slots, changes, out=of_slots)
            np.maximum(of_resolutions, everywhere, out=of_resolutions)
        barred = np.inf  # what changes nothing, or is another move again; sums are faster than masks
        of_slots += self._barred
        of_slots[..., :n_blocks] += np.where(active, 0, barred)[:, None]
        of_slots[np.arange(n)[:, None], option, np.arange(n_blocks)] = barred
        deeper = depth - codes[:, 1 + stage]
        if self.space.coupled:
            of_slots[:, :, n_blocks:] += np.where(deeper == 0, barred, 0)[:, None]
        else:
            of_slots[:, 0, n_blocks:] += np.where(deeper == 0, barred, 0)
            of_slots[:, 1:, n_blocks:] += np.where(deeper <= 0, barred, 0)[:, None]
        of_resolutions[codes[:, :1] == self.resolutions] = barred
        return np.concatenate([of_slots.reshape(n, -1), self._channel_loads(codes), of_resolutions], axis=1)

    def _spread(
        self,
        shares: "_Shares",
        codes: np.ndarray,
        active: np.ndarray,
        place: np.ndarray,
        pairs: np.ndarray | int,
        ends: np.ndarray | int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shares of a limit for archs, at every resolution and for every option.

        Returns:
            Those of the fixed blocks at each resolution that is searched, shape (archs, resolutions); of each block at
            each of them, 0 where it is not used, shape (resolutions, archs, blocks); and of every option of each block
            at the arch's own, shape (archs, options, blocks).
        """
        fixed, elastic = shares
        known = elastic[self.resolutions].reshape(len(self.resolutions), -1)
        of_blocks = known.take(place, axis=1) * active
        at_ends = np.broadcast_to(fixed[self.resolutions].T[ends], (len(codes), len(self.resolutions)))
        return at_ends, of_blocks, self._at_channels(elastic, codes[:, 0], pairs)

    def _peaks_after(self, values: np.ndarray, active: np.ndarray, option: np.ndarray, fixed: np.ndarray) -> np.ndarray:
        """The largest of what single blocks need after each move of a block or a depth: (archs, options, slots).

        Args:
            values: what each option of each block needs, shape (archs, options, blocks).
            active: which blocks are in use, shape (archs, blocks).
            option: of each block, shape (archs, blocks).
            fixed: the largest of the blocks that are not elastic, shape (archs,).
        """
        n, n_blocks, rows = len(values), self.space.n_blocks, np.arange(len(values))
        used, own = (of.astype(bool).T for of in self._used_at)
        now = values[rows[:, None], option, np.arange(n_blocks)] * active
        highest, rest = now.argmax(1), now.copy()
        rest[rows, highest] = 0
        others = np.where(np.arange(n_blocks) == highest[:, None], rest.max(1)[:, None], now.max(1)[:, None])
        after = np.empty((n, self._n_options, self._n_slots), values.dtype)
        after[..., :n_blocks] = np.maximum(values, np.maximum(others, fixed[:, None])[:, None])
        added = values if self.space.coupled else values * ~active[:, None]  # a deeper stage gives new blocks an option
        for slot, (stays, of_stage) in enumerate(zip(used, own, strict=True), n_blocks):
            kept = now[:, ~of_stage] if self.space.coupled else now[:, ~of_stage | stays]
            least = np.maximum(kept.max(1, initial=0), fixed)
            after[..., slot] = np.maximum(added[..., stays].max(2), least[:, None])
        return after

    @staticmethod
    def _at_channels(elastic: np.ndarray, resolutions: np.ndarray, pairs: np.ndarray | int) -> np.ndarray:
        """Costs of every option of each block, with the channels of each arch: shape (archs, options, blocks)."""
        if isinstance(pairs, int):
            return elastic[resolutions, pairs]
        return elastic[resolutions[:, None], pairs, :, np.arange(pairs.shape[1])].transpose(0, 2, 1)

    def _channel_loads(self, codes: np.ndarray) -> np.ndarray:
        """The loads after each move of channels, infinite where it changes nothing: shape (archs, such moves)."""
        stream, choice = self._channels
        moves = self._n_options * self._n_slots + np.arange(len(stream))
        parents = np.repeat(np.arange(len(codes)), len(moves))
        moved = self.load(self.move(codes, parents, np.tile(moves, len(codes)))).reshape(len(codes), -1)
        return np.where(codes[:, self.space.channel_genes][:, stream] == choice, np.inf, moved)

    def move_gains(self, codes: np.ndarray, *slopes: np.ndarray) -> np.ndarray:
        """What each move adds to the score by its slopes: shape (archs, moves without those of the resolution)."""
        n, space, n_dimensions = len(codes), self.space, len(self.space.block_dimensions)
        others = [[1 + axis for axis in range(n_dimensions) if axis != own] for own in range(n_dimensions)]
        each = zip(slopes[:n_dimensions], others, strict=True)
        values = reduce(
            lambda total, of: np.add(total, of, order="C"),
            [np.expand_dims(of.swapaxes(1, 2), axes) for of, axes in each],
        )  # (archs, *sizes, blocks)
        of_options = values.reshape(n, self._n_options, space.n_blocks)
        gains = self._changes(of_options, space.active(codes), self._options(codes)).reshape(n, -1)
        if not space.elastic_streams:
            return gains
        stream, choice = self._channels
        now = codes[:, space.channel_genes][:, stream]
        of_channels = slopes[n_dimensions][:, stream, choice] - slopes[n_dimensions][np.arange(n)[:, None], stream, now]
        return np.concatenate([gains, of_channels], axis=1)

    def _changes(self, values: np.ndarray, active: np.ndarray, option: np.ndarray) -> np.ndarray:
        """What the moves of blocks and depths change in a sum over the blocks in use.

        Args:
            values: what each option of each block adds, shape (archs, options, blocks).
            active: which blocks are in use, shape (archs, blocks).
            option: of each block, shape (archs, blocks).

        Returns:
            Shape (archs, options, slots).
        """
        n, n_blocks, (used, own) = len(values), self.space.n_blocks, self._used_at
        now = values[np.arange(n)[:, None], option, np.arange(n_blocks)] * active
        changes = np.empty((n, self._n_options, self._n_slots), values.dtype)
        np.subtract(values, now[:, None], out=changes[..., :n_blocks])
        if self.space.coupled:  # every block of the stage takes the option of the depth
            added, removed = values.reshape(-1, n_blocks) @ used, now @ own
        else:
            idle = (~active).astype(values.dtype)
            added, removed = (values * idle[:, None]).reshape(-1, n_blocks) @ used, now @ (own - used)
        np.subtract(added.reshape(n, self._n_options, -1), removed[:, None], out=changes[..., n_blocks:])
        return changes
