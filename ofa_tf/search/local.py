"""Search in the neighbourhood of good archs: first with a memory, to leave local optima, then to the exact optimum."""

from dataclasses import dataclass

import numpy as np

from ofa_tf.search.problem import Problem

MARGIN = 1.04
TENURE = (2, 6)
PAIRS = 128


@dataclass(frozen=True)
class Points:
    """Archs with their scores and loads.

    Args:
        codes: shape (archs, genes).
        scores: shape (archs,).
        loads: shape (archs,).
    """

    codes: np.ndarray
    scores: np.ndarray
    loads: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows) -> "Points":
        return Points(self.codes[rows], self.scores[rows], self.loads[rows])

    @classmethod
    def of(cls, problem: Problem, codes: np.ndarray) -> "Points":
        """Scores the codes."""
        return cls(codes, problem.score(codes), problem.load(codes))

    @classmethod
    def join(cls, parts: list["Points"]) -> "Points":
        """All points of `parts`, in order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "scores", "loads")))


def first_per_owner(owner: np.ndarray, merit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The owners that have a row, and the row of the highest merit of each."""
    order = np.lexsort((-merit, owner))
    owners, first = np.unique(owner[order], return_index=True)
    return owners, order[first]


def tabu(
    problem: Problem, start: Points, limits: np.ndarray, steps: int, slope: float, rng: np.random.Generator
) -> Points:
    """Tabu search (Glover, 1989), a chain from each start, all in step.

    A chain goes to the best neighbour even when that is worse, and then leaves what it changed alone for a few
    steps. It may exceed its limit a little, at a price per load that rises while it does and falls while it does not.

    Args:
        problem: the problem.
        start: one point per chain.
        limits: the largest load of each chain, shape (chains,).
        steps: moves per chain.
        slope: what a unit of load is worth in score, roughly.
        rng: the source of randomness.

    Returns:
        The best points within its limit that each chain saw in each step.
    """
    here, chains = start, np.arange(len(start))
    forbidden = np.zeros((len(start), problem.n_groups), np.int64)
    price, best = np.full(len(start), slope), np.where(start.loads <= limits, start.scores, -np.inf)
    seen = [start]
    for step in range(1, steps + 1):
        codes, parent, group = problem.neighbours(here.codes)
        loads = problem.load(codes)
        near = loads <= limits[parent] * MARGIN
        parent, group = parent[near], group[near]
        around = Points(codes[near], problem.score(codes[near]), loads[near])
        if not len(around):
            break
        excess = around.loads - limits[parent]
        feasible = excess <= 0
        record = feasible & (around.scores > best[parent])
        merit = around.scores - price[parent] * np.maximum(excess, 0)
        merit[(forbidden[parent, group] >= step) & ~record] = -np.inf
        moved, row = first_per_owner(parent, merit)
        codes, scores, loads = here.codes.copy(), here.scores.copy(), here.loads.copy()
        codes[moved], scores[moved], loads[moved] = around.codes[row], around.scores[row], around.loads[row]
        here = Points(codes, scores, loads)
        forbidden[moved, group[row]] = step + rng.integers(*TENURE, len(moved))
        price = np.clip(price * np.where(loads <= limits, 1 / 1.5, 1.5), slope / 10, slope * 10)
        rows = np.flatnonzero(feasible)
        owners, top = first_per_owner(parent[rows], around.scores[rows])
        best[owners] = np.maximum(best[owners], around.scores[rows[top]])
        seen.append(around[rows[top]])
    return Points.join(seen)


def improve(problem: Problem, code: np.ndarray, limit: float) -> Points:
    """Climbs until no single move helps, nor any of the most promising pairs of moves.

    The gains of two moves are added to guess the gain of both; the best guesses are scored.

    Args:
        problem: the problem.
        code: an arch within the limit, shape (genes,).
        limit: the largest load.

    Returns:
        The optimum, as points of length 1.
    """
    here = Points.of(problem, code[None])
    while True:
        codes, _, group = problem.neighbours(here.codes)
        around = Points.of(problem, codes)
        options = [here, around, Points.of(problem, _pairs(problem, here, around, group, limit))]
        all_points = Points.join(options)
        all_points = all_points[all_points.loads <= limit]
        best = int(all_points.scores.argmax())
        if not all_points.scores[best] > here.scores[0]:
            return here
        here = all_points[best : best + 1]


def _pairs(problem: Problem, here: Points, around: Points, group: np.ndarray, limit: float) -> np.ndarray:
    """Codes of the pairs of moves that promise a gain within the limit, the best PAIRS of them."""
    own = np.flatnonzero(group < problem.n_groups - 1)
    gain, extra = around.scores[own] - here.scores[0], around.loads[own] - here.loads[0]
    first, second = np.triu_indices(len(own), 1)
    promise = gain[first] + gain[second]
    room = extra[first] + extra[second] <= (limit - here.loads[0]) * (1 + 1e-9)
    good = np.flatnonzero((promise > 0) & room & (group[own[first]] != group[own[second]]))
    good = good[np.argsort(-promise[good], kind="stable")[:PAIRS]]
    steps = around.codes[own] - here.codes
    return problem.space.canonical(here.codes + steps[first[good]] + steps[second[good]])
