"""Quantities that add up over blocks, tabulated for every arch of a space."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ofa_tf.blocks import Block, walk
from ofa_tf.channel_index import ChannelIndex
from ofa_tf.space import SearchSpace


@dataclass(frozen=True)
class ArchCosts:
    """A quantity that adds up over blocks (MACs, parameters, milliseconds), for all archs of a space at once.

    Args:
        space: the space.
        fixed: cost of the blocks that are not elastic, shape (resolutions, *sizes of the space's elastic end streams);
            infinite where unknown.
        elastic: cost of each block slot, shape (blocks, resolutions, *sizes of the space's block dimensions), and where
            the space has elastic streams two more axes: the choices of the channels that the block reads and writes.
            Infinite for what cannot be chosen.
    """

    space: SearchSpace
    fixed: np.ndarray
    elastic: np.ndarray

    @cached_property
    def index(self) -> ChannelIndex:
        """Where the channels of an arch are in the tables."""
        return ChannelIndex(self.space)

    @cached_property
    def _flat(self) -> np.ndarray:
        """The costs of each block slot in a row, and at its end that of an unused one."""
        return np.pad(self.elastic.reshape(self.space.n_blocks, -1), ((0, 0), (0, 1)))

    @cached_property
    def known(self) -> np.ndarray:
        """The resolutions whose costs are known: bool of shape (resolutions,)."""
        return np.isfinite(self.fixed.reshape(len(self.fixed), -1)).all(1)

    @property
    def sums(self) -> "ArchCosts":
        """The part that adds up over blocks: all of it."""
        return self

    @property
    def peaks(self) -> None:
        """The part of which the largest over all blocks counts: none."""

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Costs of codes of shape (archs, genes): float64 of shape (archs,).

        Blocks are added in order for every arch alike, so that a batch answers to the last bit what single calls do.
        """
        terms = self.terms(codes)
        total = next(terms)
        for term in terms:
            total += term
        return total

    def terms(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """The cost of the blocks that are not elastic, then that of each block slot, 0 where it is not used.

        Args:
            codes: shape (archs, genes).

        Yields:
            float64 of shape (archs,).
        """
        space, columns = self.space, codes.T
        choices = columns[0]
        for dimension in space.block_dimensions:
            choices = choices * dimension.size + columns[dimension.genes]
        if self.index.n > 1:
            choices = choices * self.index.n**2 + self.index.pairs(codes).T
        choices = np.where(space.active(codes).T, choices, self._flat.shape[1] - 1)
        ends = self.index.ends(codes) if self.index.end_streams else 0
        yield self.fixed.reshape(-1)[columns[0] * self.index.n_ends + ends]
        for costs, choice in zip(self._flat, choices, strict=True):
            yield costs.take(choice)

    def limited_to(self, resolutions: Sequence[int]) -> "ArchCosts":
        """The same costs at the given resolutions, infinite at all others."""
        fixed = self.fixed.copy()
        fixed[~np.isin(self.space.resolutions, resolutions)] = np.inf
        return ArchCosts(self.space, fixed, self.elastic)

    def cheapest(self) -> np.ndarray:
        """Code of the arch with the lowest cost, exactly.

        With the channels of the streams given, block costs are independent of each other; the channels are found by a
        pass over the stages, which keeps the cheapest way to each choice.
        """
        found = [self.cheapest_at(resolution) for resolution in np.flatnonzero(self.known).tolist()]
        assert found, "costs of at least one resolution are known"
        return min(found, key=lambda code: self(code[None])[0])

    def cheapest_at(self, resolution: int) -> np.ndarray:
        """Code of the arch with the lowest cost at a resolution, given by its index; any where none is finite."""
        space, n = self.space, self.index.n
        per_option = self.elastic[:, resolution].reshape(space.n_blocks, -1, n, n)
        ways, ends = np.where(np.eye(n, dtype=bool), 0.0, np.inf), []  # from the first stream's choice to the last's
        for slots, stage in zip(space.stage_slots, space.stages, strict=True):
            costs, depths = _of_stage(per_option[slots], stage.depths, space.coupled)
            through = ways[:, :, None] + costs  # (first, read, written)
            ends.append((through.argmin(1), depths))
            ways = through.min(1)
        chosen = np.zeros((self.index.n_ends, len(space.streams)), int)
        chosen[:, self.index.end_streams] = np.array(list(np.ndindex(*self.index.end_sizes)))
        first, last = space.first_stage_stream - 1, space.first_stage_stream + space.n_stages - 1
        best = chosen[(self.fixed[resolution].reshape(-1) + ways[chosen[:, first], chosen[:, last]]).argmin()]
        code = np.zeros(space.n_genes, np.int32)
        code[0] = resolution
        for number in reversed(range(space.n_stages)):
            (reads, depths), stream = ends[number], space.first_stage_stream + number
            written = best[stream]
            read = reads[best[first], written] if number else best[first]
            best[stream - 1] = read
            depth = code[space.depth_genes.start + number] = depths[read, written]
            for position, slot in enumerate(range(*space.stage_slots[number].indices(space.n_blocks))):
                costs = per_option[slot, :, read if position == 0 else written, written]
                option = depth if space.coupled else costs.argmin()
                choices = np.unravel_index(option, space.option_sizes)
                for dimension, choice in zip(space.block_dimensions, choices, strict=True):
                    code[dimension.genes.start + slot] = choice
        code[space.channel_genes] = best[[stream.elastic for stream in space.streams]]
        return space.canonical(code[None])[0]


def _of_stage(per_option: np.ndarray, depths: Sequence[int], coupled: bool) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest that a stage can be.

    Args:
        per_option: shape (blocks, options, choices of the channels that the stage reads, choices of those it writes).
        depths: the numbers of blocks to choose from.
        coupled: whether the n-th depth goes with the n-th option.

    Returns:
        Costs, and the indices of the depths, both of shape (choices read, choices written).
    """
    sums = []
    for index, depth in enumerate(depths):
        best = per_option[:depth, index] if coupled else per_option[:depth].min(1)
        sums.append(best[0] + best[1:].diagonal(axis1=1, axis2=2).sum(0))
    costs = np.stack(sums)
    return costs.min(0), costs.argmin(0)


def arch_costs(
    space: SearchSpace,
    cost: Callable[[Block], float],
    n_classes: int,
    resolutions: Sequence[int] | None = None,
    combine: Callable[[Iterable[float]], float] = sum,
) -> ArchCosts:
    """Tabulates a cost per block over all choices of a space.

    Args:
        space: the space.
        cost: the cost of one block.
        n_classes: number of outputs of the classifier.
        resolutions: the resolutions to tabulate; at all others the costs are infinite. None for all of the space.
        combine: what the costs of the blocks that are not elastic make together.
    """
    index, n_resolutions = ChannelIndex(space), len(space.resolutions)
    fixed = np.full((n_resolutions, index.n_ends), np.inf)
    elastic = np.full((space.n_blocks, n_resolutions, *space.option_sizes, index.n**2), np.inf)
    codes = _covering_codes(space, index)
    pairs, ends = index.pairs(codes), index.ends(codes)
    first_genes = [dimension.genes.start for dimension in space.block_dimensions]
    for r, resolution in enumerate(space.resolutions):
        if resolutions is not None and resolution not in resolutions:
            continue
        for row, code in enumerate(codes):
            code[0] = r
            blocks = walk(space, space.decode_one(code), n_classes)
            fixed[r, ends[row]] = combine(cost(block) for block in blocks if block.slot < 0)
            for block in (block for block in blocks if block.slot >= 0):
                option = [code[gene + block.slot] for gene in first_genes]
                elastic[(block.slot, r, *option, pairs[row, block.slot])] = cost(block)
    shape = (*elastic.shape[:-1], *index.pair_sizes)
    return ArchCosts(space, fixed.reshape(n_resolutions, *index.end_sizes), elastic.reshape(shape))


def _covering_codes(space: SearchSpace, index: ChannelIndex) -> np.ndarray:
    """Codes that together have every block in every form that it can take, at the largest depths."""
    largest = space.encode(space.largest())
    codes = []
    for option in np.ndindex(*space.option_sizes):
        code = largest.copy()
        for dimension, choice in zip(space.block_dimensions, option, strict=True):
            code[dimension.genes] = choice
        if space.coupled:
            code[space.depth_genes] = code[space.expand_genes][[slots.start for slots in space.stage_slots]]
        codes += [np.append(code[: space.channel_genes.start], channels) for channels in index.covering()]
    return np.unique(space.canonical(np.minimum(codes, space.gene_sizes - 1)), axis=0)
