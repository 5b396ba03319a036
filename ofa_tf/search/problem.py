"""The problem that every step of a search works on: scores, loads, and the moves from an arch to its neighbours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ofa_tf.errors import OfaError
from ofa_tf.search.budget import Budget, loads
from ofa_tf.space import SearchSpace

Score = Callable[[np.ndarray], np.ndarray]
"""Codes of shape (archs, genes) to predicted scores of shape (archs,); more is better."""


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
        block, option = self._block_moves
        of_block = self.space.active(codes)[:, block] & (self._options(codes)[:, block] != option)
        stage, depth, option = self._depth_moves
        exists = depth < self.space.gene_sizes[1 + stage]
        now = codes[:, 1 + stage]
        of_depth = exists & ((depth > now) | ((depth < now) & (option == 0)))
        return np.concatenate([of_block, of_depth, codes[:, :1] != self.resolutions], axis=1)

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
    def relative_costs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per budget, shares of its limit: of the fixed blocks and of (blocks, resolutions, options)."""
        shape = (self.space.n_blocks, len(self.space.resolutions), self._n_options)
        return [(b.costs.fixed / b.limit, b.costs.elastic.reshape(shape) / b.limit) for b in self.budgets]

    @cached_property
    def used_at(self) -> np.ndarray:
        """1 where a block is used at a depth of its stage: shape (blocks, stages * depths)."""
        space = self.space
        used = np.zeros((space.n_blocks, space.n_stages, self.n_depths))
        for block, (stage, position) in enumerate(zip(space.block_stages, space.block_positions, strict=True)):
            depths = space.stages[stage].depths
            used[block, stage, : len(depths)] = position < np.array(depths)
        return used.reshape(space.n_blocks, -1)

    def move_loads(self, codes: np.ndarray) -> np.ndarray:
        """The loads after each move, without making it: shape (archs, moves), infinite where it changes nothing.

        They are added up in another order than by `load`, so they may differ in the last digits.
        """
        n, space = len(codes), self.space
        blocks, stages = np.arange(space.n_blocks), list(space.block_stages)
        active, option, resolution = space.active(codes), self._options(codes), codes[:, 0]
        result = np.zeros((n, len(self.groups)))
        for fixed, elastic in self.relative_costs:
            choices = elastic[:, resolution].transpose(1, 0, 2)
            costs = np.where(active, elastic[blocks, resolution[:, None], option], 0.0)
            total = fixed[resolution] + costs.sum(1)
            of_block = (total[:, None, None] - costs[:, :, None] + choices).reshape(n, -1)
            kept_or_new = np.where(active[:, :, None], costs[:, :, None], choices)
            stage_after = np.tensordot(kept_or_new, self.used_at, (1, 0)).transpose(0, 2, 1)
            stage_before = np.add.reduceat(costs, np.unique(stages, return_index=True)[1], axis=1)
            n_depths = stage_after.shape[1] // space.n_stages
            rest = np.repeat(total[:, None] - stage_before, n_depths, axis=1)
            of_depth = (rest[:, :, None] + stage_after).reshape(n, -1)
            elsewhere = elastic[blocks[:, None], self.resolutions, option[:, :, None]]
            of_resolution = fixed[self.resolutions] + np.where(active[:, :, None], elsewhere, 0.0).sum(1)
            np.maximum(result, np.concatenate([of_block, of_depth, of_resolution], axis=1), out=result)
        result[~self._moves_from(codes)] = np.inf
        return result
