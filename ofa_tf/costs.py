"""Quantities that add up over blocks, tabulated for every arch of a space."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ofa_tf.blocks import Block, walk
from ofa_tf.space import SearchSpace


@dataclass(frozen=True)
class ArchCosts:
    """A quantity that adds up over blocks (MACs, parameters, milliseconds), for all archs of a space at once.

    Args:
        space: the space.
        fixed: cost of the blocks that are not elastic, shape (resolutions,); infinite where unknown.
        elastic: cost of each block slot, shape (blocks, resolutions, *sizes of the space's block dimensions).
    """

    space: SearchSpace
    fixed: np.ndarray
    elastic: np.ndarray

    @cached_property
    def _flat(self) -> np.ndarray:
        """The costs of each block slot in a row, and at its end that of an unused one."""
        return np.pad(self.elastic.reshape(self.space.n_blocks, -1), ((0, 0), (0, 1)))

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Costs of codes of shape (archs, genes): float64 of shape (archs,).

        Blocks are added in order for every arch alike, so that a batch answers to the last bit what single calls do.
        """
        columns = codes.T
        choices = columns[0]
        for dimension in self.space.block_dimensions:
            choices = choices * dimension.size + columns[dimension.genes]
        choices = np.where(self.space.active(codes).T, choices, self._flat.shape[1] - 1)
        total = self.fixed[columns[0]]
        for costs, choice in zip(self._flat, choices, strict=True):
            total += costs.take(choice)
        return total

    def limited_to(self, resolutions: Sequence[int]) -> "ArchCosts":
        """The same costs at the given resolutions, infinite at all others."""
        known = np.isin(self.space.resolutions, resolutions)
        return ArchCosts(self.space, np.where(known, self.fixed, np.inf), self.elastic)

    def cheapest(self) -> np.ndarray:
        """Code of the arch with the lowest cost, exactly: block costs are independent of each other."""
        space, dimensions = self.space, self.space.block_dimensions
        best_code, best_cost = None, np.inf
        for resolution in np.flatnonzero(np.isfinite(self.fixed)):
            per_block = self.elastic[:, resolution].reshape(space.n_blocks, -1)
            choice, cost = per_block.argmin(1), per_block.min(1)
            code = np.zeros(space.n_genes, np.int32)
            code[0] = resolution
            for dimension, index in zip(dimensions, np.unravel_index(choice, self.elastic.shape[2:]), strict=True):
                code[dimension.genes] = index
            start = 0
            for index, stage in enumerate(space.stages):
                sums = [cost[start : start + depth].sum() for depth in stage.depths]
                code[1 + index] = int(np.argmin(sums))
                start += stage.depths[-1]
            code = space.canonical(code[None])[0]
            total = self(code[None])[0]
            if total < best_cost:
                best_code, best_cost = code, total
        assert best_code is not None, "costs of at least one resolution are known"
        return best_code


def arch_costs(
    space: SearchSpace,
    cost: Callable[[Block], float],
    n_classes: int,
    resolutions: Sequence[int] | None = None,
) -> ArchCosts:
    """Tabulates a cost per block over all choices of a space.

    Args:
        space: the space.
        cost: the cost of one block.
        n_classes: number of outputs of the classifier.
        resolutions: the resolutions to tabulate; at all others the costs are infinite. None for all of the space.
    """
    dimensions, code = space.block_dimensions, space.encode(space.largest())
    sizes = [dimension.size for dimension in dimensions]
    fixed = np.full(len(space.resolutions), np.inf)
    elastic = np.full((space.n_blocks, len(space.resolutions), *sizes), np.inf)
    for r, resolution in enumerate(space.resolutions):
        if resolutions is not None and resolution not in resolutions:
            continue
        code[0] = r
        for choice in np.ndindex(*sizes):
            for dimension, index in zip(dimensions, choice, strict=True):
                code[dimension.genes] = index
            blocks = walk(space, space.decode_one(code), n_classes)
            fixed[r] = sum(cost(block) for block in blocks if block.slot < 0)
            for block in blocks:
                if block.slot >= 0:
                    elastic[block.slot, r, *choice] = cost(block)
    return ArchCosts(space, fixed, elastic)
