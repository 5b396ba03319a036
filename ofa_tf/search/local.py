"""Search in the neighbourhood of good archs: first with a memory, to leave local optima, then to the exact optimum."""

from dataclasses import dataclass

import numpy as np

from ofa_tf.search.problem import Problem

MARGIN = 1.05  # how far over its limit a chain may go
TENURE = (2, 6)  # for how many steps what was changed stays
PROMISING, STALE = 16, 4  # neighbours that are scored in each step
PAIRS = 128
FORBIDDEN = -1e300


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


def _largest(values: np.ndarray, n: int) -> np.ndarray:
    """Where the `n` largest values of each row are, bool of the shape of `values`."""
    if n >= values.shape[1]:
        return np.ones(values.shape, bool)
    where = np.zeros(values.shape, bool)
    np.put_along_axis(where, np.argpartition(values, -n, axis=1)[:, -n:], True, axis=1)
    return where


def tabu(
    problem: Problem, start: Points, limits: np.ndarray, steps: int, slope: float, rng: np.random.Generator
) -> Points:
    """Tabu search with candidate lists (Glover, 1989), a chain from each start, all in step.

    A chain goes to the best neighbour even when that is worse, and then leaves what it changed alone for a few
    steps. It may exceed its limit a little, at a price per load that rises while it does and falls while it does not.
    Scores are what costs time, loads are not: each step scores only the moves that promise most, by what they gained
    when they were last scored, and a few that were not scored for long.

    Args:
        problem: the problem.
        start: one point per chain.
        limits: the largest load of each chain, shape (chains,).
        steps: moves per chain.
        slope: what a unit of load is worth in score, roughly.
        rng: the source of randomness.

    Returns:
        Every point that was scored, once.
    """
    n, groups = len(start), problem.groups
    chains, here, limit = np.arange(n), start, limits[:, None]
    gain, scored = np.full((n, len(groups)), np.inf), np.zeros((n, len(groups)))
    until = np.zeros((n, problem.n_groups), np.int64)
    price, best = np.full(n, slope), np.where(start.loads <= limits, start.scores, -np.inf)
    seen = [start]
    for step in range(1, steps + 1):
        loads = problem.move_loads(here.codes)
        near = loads <= limit * MARGIN
        excess = np.where(near, np.maximum(loads - limit, 0), 0)
        forbidden = (until >= step)[:, groups]
        promise = here.scores[:, None] + gain - price[:, None] * excess
        promise[~near | (forbidden & ((excess > 0) | (promise <= best[:, None])))] = -np.inf
        listed = _largest(promise, PROMISING) | _largest(np.where(near, -scored, -np.inf), STALE) | np.isinf(gain)
        chain, move = np.nonzero(listed & near)
        if not len(chain):
            break
        found = Points.of(problem, problem.move(here.codes, chain, move))
        gain[chain, move], scored[chain, move] = found.scores - here.scores[chain], step
        over = found.loads - limits[chain]

        dense = np.full(gain.shape, -np.inf)
        row = np.zeros(gain.shape, np.int64)
        row[chain, move] = np.arange(len(chain))
        dense[chain, move] = np.where(over <= 0, found.scores, -np.inf)
        top = dense.argmax(1)
        top_score = dense[chains, top]
        seen.append(found)
        record = (over <= 0) & (found.scores > best[chain])
        best = np.maximum(best, top_score)

        merit = found.scores - price[chain] * np.maximum(over, 0)
        dense[chain, move] = np.where(forbidden[chain, move] & ~record, FORBIDDEN, merit)
        chosen = dense.argmax(1)
        moved = np.flatnonzero(dense[chains, chosen] > -np.inf)
        rows, group = row[moved, chosen[moved]], groups[chosen[moved]]
        difference = found.scores[rows] - here.scores[moved]
        gain[moved] -= np.where(groups == group[:, None], difference[:, None], 0)
        until[moved, group] = step + rng.integers(*TENURE, len(moved))
        here = Points(here.codes.copy(), here.scores.copy(), here.loads.copy())
        here.codes[moved], here.scores[moved], here.loads[moved] = (
            found.codes[rows], found.scores[rows], found.loads[rows],
        )  # fmt: skip
        price = np.clip(price * np.where(here.loads <= limits, 1 / 1.5, 1.5), slope / 10, slope * 10)
    points = Points.join(seen)
    return points[np.unique(problem.hashes(points.codes), return_index=True)[1]]


def improve(problem: Problem, code: np.ndarray, limit: float) -> Points:
    """Climbs until no single move helps, nor any of the most promising pairs of moves.

    The gains of two moves are added to guess the gain of both, and the best guesses are scored, also those of a loss:
    what two moves are worth together often differs from the sum by more than what is left to gain.

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
        pairs = Points.of(problem, _pairs(problem, here, around, group, limit))
        within = Points.join([here, around, pairs])
        within = within[within.loads <= limit]
        best = int(within.scores.argmax())
        if not within.scores[best] > here.scores[0]:
            return here
        here = within[best : best + 1]


def _pairs(problem: Problem, here: Points, around: Points, group: np.ndarray, limit: float) -> np.ndarray:
    """Codes of the PAIRS pairs of moves that promise most within the limit."""
    own = np.flatnonzero(group < problem.n_groups - 1)
    gain, extra = around.scores[own] - here.scores[0], around.loads[own] - here.loads[0]
    first, second = np.triu_indices(len(own), 1)
    promise = gain[first] + gain[second]
    room = extra[first] + extra[second] <= limit - here.loads[0] + 1e-9 * limit
    good = np.flatnonzero(room & (group[own[first]] != group[own[second]]))
    good = good[np.argsort(-promise[good], kind="stable")[:PAIRS]]
    steps = around.codes[own] - here.codes
    return problem.space.canonical(here.codes + steps[first[good]] + steps[second[good]])
