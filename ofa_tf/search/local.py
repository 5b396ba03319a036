"""Search in the neighbourhood of good archs: first with a memory, to leave local optima, then to the exact optimum."""

from dataclasses import dataclass

import numpy as np

from ofa_tf.search.problem import Problem

MARGIN = 1.05  # how far over its limit a chain may go
TENURE = (2, 6)  # for how many steps what was changed stays
SCORED, SCORED_BY_MEMORY = 2, 20  # neighbours that are scored in each step, with slopes and without
FADING = 0.95  # of what a move gained, in each step, so that it is tried again
PRICE_STEP, PRICE_RANGE = 1.5, 10
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


def _largest(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the `n` largest values of each row, and those values (-inf: no more), both of shape (rows, n)."""
    values, rows = values.copy(), np.arange(len(values))
    columns, largest = np.empty((len(values), n), np.int64), np.empty((len(values), n))
    for place in range(n):  # so few that this is faster than a partition
        columns[:, place] = values.argmax(1)
        largest[:, place] = values[rows, columns[:, place]]
        values[rows, columns[:, place]] = -np.inf
    return columns, largest


def tabu(
    problem: Problem, start: Points, limits: np.ndarray, steps: int, price: float, rng: np.random.Generator
) -> Points:
    """Tabu search with candidate lists (Glover, 1989), a chain from each start, all in step.

    A chain goes to the best neighbour even when that is worse, and then leaves what it changed alone for a few
    steps. It may exceed its limit a little, at a price that rises while it does and falls while it does not.
    Scores are what costs time, loads are not: each step scores only the moves that promise most. What a move promises
    is told by the slopes of the score; for moves of the resolution, which change too much at once, and where the score
    knows no slopes, by what the move gained when it was last scored.

    Args:
        problem: the problem.
        start: one point per chain.
        limits: the largest load of each chain, shape (chains,).
        steps: moves per chain.
        price: of exceeding a limit by all of it, in score, at first.
        rng: the source of randomness.

    Returns:
        Every point that was scored, once.
    """
    n, groups, sloped = len(start), problem.groups, problem.sloped
    chains, limit = np.arange(n), limits[:, None]
    here = Points(start.codes.copy(), start.scores.copy(), start.loads / limits)  # here loads are shares of the limits
    gain, until = np.full((n, len(groups)), np.inf), np.full((n, problem.n_groups), -1)
    prices, best = np.full(n, float(price)), np.where(start.loads <= limits, start.scores, -np.inf)
    seen = [start]
    for step in range(steps):
        gain *= FADING
        if sloped:
            gains = problem.move_gains(here.codes)
            gain[:, : gains.shape[1]] = gains
        loads = problem.move_loads(here.codes) / limit
        far = loads > MARGIN
        excess = np.maximum(loads - 1, 0)
        np.putmask(excess, far, 0)
        promise = gain - prices[:, None] * excess
        forbidden = (until >= step).take(groups, axis=1)
        hopeless = forbidden & ((excess > 0) | (promise <= (best - here.scores)[:, None]))
        np.putmask(promise, far | hopeless, -np.inf)
        n_scored = (SCORED if sloped else SCORED_BY_MEMORY) + (len(problem.resolutions) if step == 0 else 0)
        listed, promises = _largest(promise, n_scored)
        chain, place = np.nonzero(promises > -np.inf)
        if not len(chain):
            break
        move = listed[chain, place]
        codes = problem.move(here.codes, chain, move)
        found = Points(codes, problem.score(codes), loads[chain, move])
        seen.append(found)
        gain[chain, move] = found.scores - here.scores[chain]

        within = found.loads <= 1
        record = within & (found.scores > best[chain])
        merit = found.scores - prices[chain] * np.maximum(found.loads - 1, 0)
        merits, rows = np.full(listed.shape, -np.inf), np.zeros(listed.shape, np.int64)
        merits[chain, place] = np.where(forbidden[chain, move] & ~record, FORBIDDEN, merit)
        rows[chain, place] = np.arange(len(chain))
        np.maximum.at(best, chain[within], found.scores[within])

        chosen = merits.argmax(1)
        moved = np.flatnonzero(merits[chains, chosen] > -np.inf)
        to = rows[moved, chosen[moved]]
        group = groups[move[to]]
        gain[moved] -= np.where(groups == group[:, None], (found.scores[to] - here.scores[moved])[:, None], 0)
        until[moved, group] = step + rng.integers(*TENURE, len(moved))
        here.codes[moved], here.scores[moved], here.loads[moved] = codes[to], found.scores[to], found.loads[to]
        prices *= np.where(here.loads <= 1, 1 / PRICE_STEP, PRICE_STEP)
        np.clip(prices, price / PRICE_RANGE, price * PRICE_RANGE, out=prices)
    points = Points.join(seen)
    points = points[np.unique(problem.hashes(points.codes), return_index=True)[1]]
    return Points(points.codes, points.scores, problem.load(points.codes))


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
