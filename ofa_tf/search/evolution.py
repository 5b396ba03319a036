"""Evolution under a limit (Cai et al., ICLR 2020, section 3.4; Real et al., AAAI 2019), all archs at once.

Differences from the paper's: the population is kept at several limits at once, since what is good a little above the
budget often leads to what is best below it, and the archs of one set of depths may not take it over.
"""

from collections.abc import Callable

import numpy as np

from ofa_tf.search.local import Points, Seen
from ofa_tf.search.problem import Problem

PER_DEPTHS = 16
MUTATED_GENES = 3


def first_population(
    problem: Problem, starts: np.ndarray, limit: float, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Random archs, each mixed with the start of its resolution in a random proportion so that most meet the limit.

    Returns:
        Codes of shape (at least the starts, at most starts + n; genes), the starts first.
    """
    space = problem.space
    start = starts[rng.integers(0, len(starts), 8 * n)]
    mixed = np.where(rng.random(start.shape) < rng.random((8 * n, 1)), space.sample(rng, 8 * n), start)
    mixed[:, 0] = start[:, 0]
    mixed = space.canonical(mixed)
    return np.concatenate([starts, mixed[problem.load(mixed) <= limit][:n]])


def survivors(problem: Problem, points: Points, limits: np.ndarray, n: int) -> np.ndarray:
    """Rows of the best `n` points within each limit, at most PER_DEPTHS of them of the same depths and resolution."""
    depths = problem.structures(points.codes)
    best = np.argsort(-points.scores, kind="stable")
    keep = np.zeros(len(points), bool)
    for limit in limits:
        rows = best[points.loads[best] <= limit][: n * 8]
        order = np.argsort(depths[rows], kind="stable")
        _, first, count = np.unique(depths[rows][order], return_index=True, return_counts=True)
        rank = np.empty(len(rows), np.int64)
        rank[order] = np.arange(len(rows)) - np.repeat(first, count)
        keep[rows[rank < PER_DEPTHS][:n]] = True
    return np.flatnonzero(keep)


def _offspring(problem: Problem, codes: np.ndarray, first: np.ndarray, second: np.ndarray, rng) -> np.ndarray:
    """Children of the parents `codes[first]`, half of them crossed with `codes[second]`, all mutated."""
    space, half = problem.space, len(first) // 2
    children = codes[first]
    other = rng.integers(0, 2, (half, space.n_genes), dtype=bool)
    other[:, 0] = False
    children[:half] = np.where(other, codes[second[:half]], children[:half])
    rows = np.arange(len(children))
    for gene in rng.integers(1, space.n_genes, (rng.integers(1, MUTATED_GENES + 1), len(children))):
        children[rows, gene] = rng.integers(0, space.gene_sizes[gene])
    return space.canonical(children)


def evolve(
    problem: Problem,
    codes: np.ndarray,
    limits: np.ndarray,
    *,
    generations: int,
    offspring: int,
    keep: int,
    rng: np.random.Generator,
    progress: Callable[[], None] = lambda: None,
) -> Points:
    """Evolves a population.

    Args:
        problem: the problem.
        codes: the first population, shape (archs, genes).
        limits: the loads at which the best are kept, ascending.
        generations: how many.
        offspring: archs that are scored in each.
        keep: archs kept per limit.
        rng: the source of randomness.
        progress: called after each generation.

    Returns:
        The last population, with duplicates removed.
    """
    points = Points.of(problem, codes)
    seen = Seen()
    seen.add(problem.hashes(codes))
    for _ in range(generations):
        points = points[survivors(problem, points, limits, keep)]
        first, second = rng.integers(0, len(points), (2, 2 * offspring))
        children = _offspring(problem, points.codes, first, second, rng)
        hashes = problem.hashes(children)
        fresh = np.flatnonzero(seen.new(hashes))
        loads = problem.load(children[fresh])
        good = np.flatnonzero(loads <= limits[-1])[:offspring]
        fresh, loads = fresh[good], loads[good]
        seen.add(hashes[fresh])
        born = Points(children[fresh], problem.score(children[fresh]), loads)
        points = Points.join([points, born])
        progress()
    return points[np.unique(problem.hashes(points.codes), return_index=True)[1]]
