"""The problem that every step of a search works on: scores, loads, and the moves from an arch to its neighbours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from ofa_tf.errors import OfaError
from ofa_tf.search.budget import Budget, loads
from ofa_tf.space import SearchSpace

Score = Callable[[np.ndarray], np.ndarray]
"""Codes of shape (archs, genes) to predicted scores of shape (archs,); more is better."""


@runtime_checkable
class Differentiable(Protocol):
    """A score that knows its slopes: it is defined between archs too, as a function of one-hot inputs."""

    def slopes(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How the scores change with the share of each choice.

        Args:
            codes: shape (archs, genes).

        Returns:
            Derivatives with respect to the kernel sizes of each block, shape (archs, blocks, kernels), and its expand
            ratios, shape (archs, blocks, expands); those of blocks that are not in use, too.
        """
        ...


@dataclass(frozen=True)
class Problem:
    """Find high scores at low loads.

    A move changes a block (kernel and expand ratio), the depth of a stage, or the resolution; what it changes is its
    group. A move to a larger depth also chooses kernel and expand ratio of the blocks that it adds, alike for all. So
    every change of a single gene is a move.

    Args:
        space: the space.
        score_codes: the scores of codes.
        budgets: what makes the load.
        resolutions: indices of the resolutions to search.
    """

    space: SearchSpace
    score_codes: Score
    budgets: Sequence[Budget]
    resolutions: np.ndarray

    def load(self, codes: np.ndarray) -> np.ndarray:
        """Loads of codes: float64 of shape (archs,)."""
        return loads(self.budgets, codes)

    def score(self, codes: np.ndarray) -> np.ndarray:
        """Scores of codes: float64 of shape (archs,).

        Raises:
            OfaError: scores of another shape, or a score that is not a number.
        """
        if not len(codes):
            return np.zeros(0)
        scores = np.asarray(self.score_codes(codes), np.float64)
        if scores.shape != (len(codes),):
            raise OfaError(f"The predictor must give one score per arch: {(len(codes),)}, not {scores.shape}.")
        if np.isnan(scores).any():
            arch = self.space.decode_one(codes[np.isnan(scores).argmax()])
            raise OfaError(f"The predictor gives NaN for the arch `{arch}`; fit it again.")
        return scores

    @property
    def sloped(self) -> bool:
        """Whether the score knows its slopes."""
        return isinstance(self.score_codes, Differentiable)

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
    def _n_options(self) -> int:
        return len(self.space.kernels) * len(self.space.expands)

    @cached_property
    def _block_moves(self) -> tuple[np.ndarray, np.ndarray]:
        """Block and option (kernel and expand ratio) of the first moves."""
        block, option = np.indices((self.space.n_blocks, self._n_options)).reshape(2, -1)
        return block, option

    @cached_property
    def _depth_moves(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stage, depth and option of new blocks of the moves after those of blocks."""
        stage, depth, option = np.indices((self.space.n_stages, self.n_depths, self._n_options)).reshape(3, -1)
        return stage, depth, option

    @cached_property
    def groups(self) -> np.ndarray:
        """What each move changes: a block, a stage's depth, or, last, the resolution; shape (moves,)."""
        space = self.space
        resolution = np.full(len(self.resolutions), space.n_blocks + space.n_stages)
        return np.concatenate([self._block_moves[0], space.n_blocks + self._depth_moves[0], resolution])

    @property
    def n_depths(self) -> int:
        """The most choices that a stage has for its depth."""
        return max(len(stage.depths) for stage in self.space.stages)

    @property
    def n_groups(self) -> int:
        return self.space.n_blocks + self.space.n_stages + 1

    def _options(self, codes: np.ndarray) -> np.ndarray:
        """Kernel and expand ratio of each block slot as one index, shape (archs, blocks)."""
        return codes[:, self.space.kernel_genes] * len(self.space.expands) + codes[:, self.space.expand_genes]

    def _moves_from(self, codes: np.ndarray) -> np.ndarray:
        """Which moves change each arch, bool of shape (archs, moves); all lead to different archs."""
        of_block = self._options(codes)[..., None] != np.arange(self._n_options)
        of_block &= self.space.active(codes)[..., None]
        stage, depth, option = self._depth_moves
        now = codes[:, self.space.depth_genes].take(stage, axis=1)
        of_depth = self._depth_exists & ((depth > now) | ((depth < now) & (option == 0)))
        return np.concatenate([of_block.reshape(len(codes), -1), of_depth, codes[:, :1] != self.resolutions], axis=1)

    @cached_property
    def _depth_exists(self) -> np.ndarray:
        """Whether the stage of each move of depths has such a depth, bool of shape (moves of depths,)."""
        stage, depth, _ = self._depth_moves
        return depth < self.space.gene_sizes[1 + stage]

    def move(self, codes: np.ndarray, parents: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """The canonical codes after `moves` of `codes[parents]`; both of shape (n,), the result of shape (n, genes)."""
        space = self.space
        moved = codes[parents]
        first_depth, first_resolution = len(self._block_moves[0]), len(self.groups) - len(self.resolutions)
        rows = np.flatnonzero(moves < first_depth)
        block, option = (column[moves[rows]] for column in self._block_moves)
        kernel, expand = np.divmod(option, len(space.expands))
        moved[rows, space.kernel_genes.start + block] = kernel
        moved[rows, space.expand_genes.start + block] = expand
        rows = np.flatnonzero((moves >= first_depth) & (moves < first_resolution))
        stage, depth, option = (column[moves[rows] - first_depth] for column in self._depth_moves)
        moved[rows, 1 + stage] = depth
        before, after = space.active(codes[parents[rows]]), space.active(moved[rows])
        for genes, choice in zip(
            (space.kernel_genes, space.expand_genes), np.divmod(option, len(space.expands)), strict=True
        ):
            moved[rows, genes] = np.where(after & ~before, choice[:, None], moved[rows, genes] * after)
        rows = np.flatnonzero(moves >= first_resolution)
        moved[rows, 0] = self.resolutions[moves[rows] - first_resolution]
        return moved

    def neighbours(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every arch one move away.

        Returns:
            Codes of shape (neighbours, genes), the row of `codes` that each comes from, and its group.
        """
        parents, moves = np.nonzero(self._moves_from(codes))
        return self.move(codes, parents, moves), parents, self.groups[moves]

    @cached_property
    def _relative_costs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per budget, shares of its limit: of the fixed blocks and of (resolutions, blocks, options)."""
        shape = (self.space.n_blocks, len(self.space.resolutions), self._n_options)
        return [
            (b.costs.fixed / b.limit, np.ascontiguousarray(b.costs.elastic.reshape(shape).swapaxes(0, 1) / b.limit))
            for b in self.budgets
        ]

    @cached_property
    def _used_at(self) -> tuple[np.ndarray, np.ndarray]:
        """1 where a block is used at a depth of a stage, and where it is of that stage: (stages * depths, blocks)."""
        space = self.space
        used, own = np.zeros((2, space.n_stages, self.n_depths, space.n_blocks))
        for block, (stage, position) in enumerate(zip(space.block_stages, space.block_positions, strict=True)):
            depths = space.stages[stage].depths
            used[stage, : len(depths), block] = position < np.array(depths)
            own[stage, :, block] = 1
        return used.reshape(-1, space.n_blocks), own.reshape(-1, space.n_blocks)

    def move_loads(self, codes: np.ndarray) -> np.ndarray:
        """The loads after each move, without making it: shape (archs, moves), infinite where it changes nothing.

        They are added up in another order than by `load`, so they may differ in the last digits.
        """
        n, active, option = len(codes), self.space.active(codes), self._options(codes)
        rows, resolution = np.arange(n), codes[:, 0]
        place = option + np.arange(self.space.n_blocks) * self._n_options
        loads = np.zeros((n, len(self.groups)))
        for fixed, elastic in self._relative_costs:
            known = elastic[self.resolutions].reshape(len(self.resolutions), -1)
            everywhere = fixed[self.resolutions] + (known.take(place, axis=1) * active).sum(2).T
            here = everywhere[rows, np.searchsorted(self.resolutions, resolution)]
            changes = self._changes(elastic[resolution], active, option)
            changes += here[:, None]
            np.maximum(loads, np.concatenate([changes, everywhere], axis=1), out=loads)
        np.putmask(loads, ~self._moves_from(codes), np.inf)
        return loads

    def move_gains(self, codes: np.ndarray) -> np.ndarray:
        """What each move adds to the score by its slopes: shape (archs, moves without those of the resolution)."""
        assert isinstance(self.score_codes, Differentiable)
        by_kernel, by_expand = self.score_codes.slopes(codes)
        values = (by_kernel[..., None] + by_expand[..., None, :]).reshape(len(codes), self.space.n_blocks, -1)
        return self._changes(values, self.space.active(codes), self._options(codes))

    def _changes(self, values: np.ndarray, active: np.ndarray, option: np.ndarray) -> np.ndarray:
        """What the moves of blocks and depths change in a sum over the blocks in use.

        Args:
            values: what each option of each block adds, shape (archs, blocks, options).
            active: which blocks are in use, shape (archs, blocks).
            option: of each block, shape (archs, blocks).

        Returns:
            Shape (archs, moves of blocks and depths).
        """
        n, (used, own) = len(values), self._used_at
        now = values[np.arange(n)[:, None], np.arange(self.space.n_blocks), option] * active
        of_depth = used @ np.where(active[..., None], now[..., None], values)
        of_depth -= (now @ own.T)[..., None]
        of_block = values - now[..., None]
        return np.concatenate([of_block.reshape(n, -1), of_depth.reshape(n, -1)], axis=1)
