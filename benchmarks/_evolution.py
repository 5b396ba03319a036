"""The evolutionary search of the published project, on codes, so that `published.py` can compare ours with it.

It is that of Cai et al., ICLR 2020, section 3.4, with the numbers of `ofa/nas/search_algorithm/evolution.py` in
github.com/mit-han-lab/once-for-all: 100 archs, 500 generations, the best quarter are parents, half of the children are
mutations (the resolution is redrawn with a probability of 0.5, every other gene with 0.1), the other half crossovers.
A child above the budget is replaced by a new one of the same parents. As there, the genes of blocks that are left out
are inherited, too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ofa_tf.space import SearchSpace

POPULATION, GENERATIONS = 100, 500
N_PARENTS, N_MUTATIONS = 25, 50
MUTATION_PROBABILITY, RESOLUTION_PROBABILITY = 0.1, 0.5
Make = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Evolution:
    """A search for the highest score within a budget.

    Args:
        space: the space.
        score: from canonical codes of shape (archs, genes) to what is to be as high as possible, of shape (archs,).
        cost: likewise, to what the budget limits.
        limit: the budget.
    """

    space: SearchSpace
    score: Callable[[np.ndarray], np.ndarray]
    cost: Callable[[np.ndarray], np.ndarray]
    limit: float

    def best(self, seed: int, generations: int = GENERATIONS) -> float:
        """The highest score that a parent had in any generation."""
        rng, sizes = np.random.default_rng(seed), self.space.gene_sizes
        probabilities = np.full(len(sizes), MUTATION_PROBABILITY)
        probabilities[0] = RESOLUTION_PROBABILITY

        def fresh(n: int) -> np.ndarray:
            return rng.integers(0, sizes, (n, len(sizes)), dtype=np.int32)

        population = self._within_budget(POPULATION, lambda rows: fresh(len(rows)))
        scores = self._scores(population)
        best = -np.inf
        for _ in range(generations):
            order = np.argsort(-scores, kind="stable")[:N_PARENTS]
            parents, of_parents = population[order], scores[order]
            best = max(best, float(of_parents[0]))
            mutated = parents[rng.integers(N_PARENTS, size=N_MUTATIONS)]
            pairs = parents[rng.integers(N_PARENTS, size=(2, POPULATION - N_MUTATIONS))]

            def mutate(rows: np.ndarray, of: np.ndarray = mutated) -> np.ndarray:
                changed = rng.random((len(rows), len(sizes))) < probabilities
                return np.where(changed, fresh(len(rows)), of[rows])

            def cross(rows: np.ndarray, of: np.ndarray = pairs) -> np.ndarray:
                return np.where(rng.random((len(rows), len(sizes))) < 0.5, of[0, rows], of[1, rows])

            children = [self._within_budget(N_MUTATIONS, mutate), self._within_budget(pairs.shape[1], cross)]
            population = np.concatenate([parents, *children])
            scores = np.concatenate([of_parents, self._scores(population[N_PARENTS:])])
        return best

    def _scores(self, codes: np.ndarray) -> np.ndarray:
        return self.score(self.space.canonical(codes))

    def _within_budget(self, n: int, make: Make) -> np.ndarray:
        """Codes that `make` gives for the rows 0 to n - 1, each made again until it is within the budget."""
        codes, missing = np.zeros((n, self.space.n_genes), np.int32), np.arange(n)
        while len(missing):
            codes[missing] = make(missing)
            missing = missing[self.cost(self.space.canonical(codes[missing])) > self.limit]
        return codes
