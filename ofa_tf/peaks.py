"""Quantities that are a sum over blocks plus the largest of what single blocks need, such as peak memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from ofa_tf.costs import ArchCosts
from ofa_tf.space import SearchSpace


@dataclass(frozen=True)
class PeakCosts:
    """A sum over blocks and a maximum over blocks, added up, for all archs of a space at once.

    Args:
        sums: what every block adds.
        peaks: what each block needs for itself while it runs, in tables as those of `sums`; only the largest counts.
    """

    sums: ArchCosts
    peaks: ArchCosts

    @property
    def space(self) -> SearchSpace:
        """The space."""
        return self.sums.space

    @property
    def known(self) -> np.ndarray:
        """The resolutions whose costs are known: bool of shape (resolutions,)."""
        return self.sums.known

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Costs of codes of shape (archs, genes): float64 of shape (archs,)."""
        return self.sums(codes) + self.largest(codes)

    def largest(self, codes: np.ndarray) -> np.ndarray:
        """The largest peak of the blocks of each arch: float64 of shape (archs,)."""
        terms = self.peaks.terms(codes)
        largest = next(terms)
        for term in terms:
            np.maximum(largest, term, out=largest)
        return largest

    def limited_to(self, resolutions: Sequence[int]) -> "PeakCosts":
        """The same costs at the given resolutions, infinite at all others."""
        return PeakCosts(self.sums.limited_to(resolutions), self.peaks)

    def cheapest(self) -> np.ndarray:
        """Code of the arch with the lowest cost, exactly."""
        found = [self.cheapest_at(resolution) for resolution in np.flatnonzero(self.known).tolist()]
        return min(found, key=lambda code: self(code[None])[0])

    def cheapest_at(self, resolution: int) -> np.ndarray:
        """Code of the arch with the lowest cost at a resolution, given by its index, exactly.

        The arch of the lowest sum is found among all archs, then among those whose peak is below that of the last
        found, and so on. Of all archs whose peak is no lower than that of the best, none has a lower sum: so the best
        is among those found. The search ends when the sum and the least possible peak exceed what was found.
        """
        least_peak = self.peaks.fixed[resolution].min()
        best, best_cost = self.sums.cheapest_at(resolution), inf
        most = inf
        while True:
            allowed = self._below(most)
            code = allowed.cheapest_at(resolution)
            total = float(allowed(code[None])[0])
            if total + least_peak >= best_cost:
                return best
            most = float(self.largest(code[None])[0])
            if total + most < best_cost:
                best, best_cost = code, total + most

    def _below(self, most: float) -> ArchCosts:
        """The sums, infinite for what has a peak of `most` or more."""
        if most == inf:
            return self.sums
        fixed = np.where(self.peaks.fixed < most, self.sums.fixed, inf)
        return ArchCosts(self.space, fixed, np.where(self.peaks.elastic < most, self.sums.elastic, inf))


Costs = ArchCosts | PeakCosts
