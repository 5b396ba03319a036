"""The problem that every step of a search works on: scores, loads, and the neighbours of an arch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ofa_tf.errors import OfaError
from ofa_tf.space import SearchSpace

Score = Callable[[np.ndarray], np.ndarray]
"""Codes of shape (archs, genes) to predicted scores of shape (archs,); more is better."""


@dataclass(frozen=True)
class Problem:
    """Find high scores at low loads.

    Args:
        space: the space.
        score_codes: the scores of codes.
        load: the loads of codes; the limits are loads too.
        resolutions: indices of the resolutions to search.
    """

    space: SearchSpace
    score_codes: Score
    load: Score
    resolutions: Sequence[int]

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

    # --- neighbours ----------------------------------------------------------------------------------------------

    @cached_property
    def _moves(self) -> "_Moves":
        return _Moves.of(self.space, self.resolutions)

    @property
    def n_groups(self) -> int:
        """Groups of moves: a group per block, per stage, and one for the resolution."""
        return self.space.n_blocks + self.space.n_stages + 1

    def neighbours(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every arch that is one move away: a block's kernel and expand ratio, a stage's depth, the resolution.

        A move to a larger depth also chooses kernel and expand ratio of the blocks that it adds, alike for all. So
        all changes of a single gene are among the moves.

        Args:
            codes: canonical, shape (archs, genes).

        Returns:
            Canonical codes of shape (neighbours, genes), the row of `codes` that each comes from, and its group.
        """
        space, moves = self.space, self._moves
        kernel, expand, n_moves = space.kernel_genes.start, space.expand_genes.start, len(moves.group)
        active = space.active(codes)
        valid = np.zeros((len(codes), n_moves), bool)
        chosen = codes[:, space.kernel_genes] * len(space.expands) + codes[:, space.expand_genes]
        block = moves.block
        valid[:, : len(block)] = active[:, block] & (chosen[:, block] != moves.option[: len(block)])
        depth = slice(len(block), len(block) + len(moves.depth))
        now = codes[:, 1 + moves.stage]
        valid[:, depth] = (moves.depth > now) | ((moves.depth < now) & (moves.option[depth] == 0))
        valid[:, depth.stop :] = codes[:, :1] != moves.resolution

        parent, move = np.nonzero(valid)
        found = codes[parent]
        option_kernel, option_expand = np.divmod(moves.option[move], len(space.expands))
        rows = np.flatnonzero(move < depth.start)
        found[rows, kernel + block[move[rows]]] = option_kernel[rows]
        found[rows, expand + block[move[rows]]] = option_expand[rows]
        rows = np.flatnonzero((move >= depth.start) & (move < depth.stop))
        found[rows, 1 + moves.stage[move[rows] - depth.start]] = moves.depth[move[rows] - depth.start]
        after = space.active(found[rows])
        new = after & ~active[parent[rows]]
        for genes, option in ((space.kernel_genes, option_kernel), (space.expand_genes, option_expand)):
            found[rows, genes] = np.where(new, option[rows, None], found[rows, genes] * after)
        rows = np.flatnonzero(move >= depth.stop)
        found[rows, 0] = moves.resolution[move[rows] - depth.stop]
        return found, parent, moves.group[move]


@dataclass(frozen=True)
class _Moves:
    """All moves of a space, as columns: first those of a block, then of a depth, then of the resolution."""

    group: np.ndarray
    option: np.ndarray
    block: np.ndarray
    stage: np.ndarray
    depth: np.ndarray
    resolution: np.ndarray

    @classmethod
    def of(cls, space: SearchSpace, resolutions: Sequence[int]) -> "_Moves":
        n_options = len(space.kernels) * len(space.expands)
        blocks = [(block, option) for block in range(space.n_blocks) for option in range(n_options)]
        depths = [
            (stage, depth, option)
            for stage in range(space.n_stages)
            for depth in range(len(space.stages[stage].depths))
            for option in range(n_options)
        ]
        block, block_option = np.array(blocks).T
        stage, depth, depth_option = np.array(depths).T
        resolution = np.array(resolutions, np.int32)
        last = np.full(len(resolution), space.n_blocks + space.n_stages)
        return cls(
            group=np.concatenate([block, space.n_blocks + stage, last]),
            option=np.concatenate([block_option, depth_option, last * 0]),
            block=block,
            stage=stage,
            depth=depth,
            resolution=resolution,
        )
