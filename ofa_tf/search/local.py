"""Search in the neighbourhood of good archs: first with a memory, to leave local optima, then to the exact optimum."""

from dataclasses import dataclass

import numpy as np

from ofa_tf.search.problem import Problem

MARGIN = 1.05  # how far over its limit a chain may go
TENURE = (2, 6)  # for how many steps what was changed stays
SCORED, SCORED_BY_MEMORY = 2, 20  # neighbours of each chain that are scored in a step, with slopes and without
LEADING, LEADING_ON_AVERAGE = 3, 2  # neighbours per chain and explored arch scored for the records they promise
CELLS = 4096  # of the load, each with one record to beat
SEEN_BITS = 22  # of the hash that tells known archs
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
    columns, largest = np.empty((len(values), n), np.int64), np.empty((len(values), n), values.dtype)
    for place in range(n):  # so few that this is faster than a partition
        columns[:, place] = values.argmax(1)
        largest[:, place] = values[rows, columns[:, place]]
        values[rows, columns[:, place]] = -np.inf
    return columns, largest


class Seen:
    """Which archs are known: by a hash so short that a rare collision costs a candidate, nothing else."""

    def __init__(self) -> None:
        self._seen = np.zeros(1 << SEEN_BITS, bool)

    @staticmethod
    def _places(hashes: np.ndarray) -> np.ndarray:
        return hashes >> np.uint64(64 - SEEN_BITS)

    def new(self, hashes: np.ndarray) -> np.ndarray:
        """Which of these are not known, each only where it is first: bool of shape (archs,)."""
        places, first = np.unique(self._places(hashes), return_index=True)
        new = np.zeros(len(hashes), bool)
        new[first] = ~self._seen[places]
        return new

    def add(self, hashes: np.ndarray) -> None:
        """From now on these are known."""
        self._seen[self._places(hashes)] = True


class BestScores:
    """The best score known within each of some limits.

    Args:
        limits: loads, shape (n,); equal ones count once.
    """

    def __init__(self, limits: np.ndarray):
        self._limits = np.unique(limits)
        self._scores = np.append(np.full(len(self._limits), -np.inf), np.inf)
        self._per_load = np.float32(CELLS / self._limits[-1])
        self._limit_of_cell = np.searchsorted(self._limits, np.arange(CELLS + 2) / self._per_load)
        self._limit_of_cell[CELLS:] = len(self._limits) - 1, len(self._limits)

    def at(self, loads: np.ndarray) -> np.ndarray:
        """What archs of these loads must beat to be the best within a limit: float32, infinite beyond all limits.

        An arch that exceeds a limit by less than a cell may count as within it.
        """
        cells = np.minimum(loads * self._per_load, CELLS + 1).astype(np.int32)
        return self._scores.astype(np.float32)[self._limit_of_cell].take(cells)

    def add(self, points: Points) -> None:
        """Takes over what is better than what was known."""
        np.maximum.at(self._scores, np.searchsorted(self._limits, points.loads), points.scores)
        np.maximum.accumulate(self._scores, out=self._scores)


class Chains:
    """Where each chain of a tabu search is, and what it remembers.

    Args:
        problem: the problem.
        start: one point per chain.
        limits: the largest load of each chain, shape (chains,).
        price: of exceeding a limit by all of it, in score, at first.
        sloped: whether slopes tell the gains of moves, all but those of the resolution.
    """

    def __init__(self, problem: Problem, start: Points, limits: np.ndarray, price: float, sloped: bool):
        n = len(start)
        self.here, self._limits, self._groups = start[np.arange(n)], limits, problem.groups
        self._gain = np.full((n, len(problem.groups)), np.inf, np.float32)  # by the slopes, or when last scored
        self._remembered = slice(len(problem.groups) - len(problem.resolutions) if sloped else 0, None)
        self._until = np.full((n, problem.n_groups), -1)  # the step until which each group stays
        self._price, self._prices = price, np.full(n, float(price))
        self._best = np.where(start.loads <= limits, start.scores, -np.inf)

    def candidates(
        self, step: int, loads: np.ndarray, gains: np.ndarray | None, n: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The moves that promise most.

        Args:
            step: counted from 0.
            loads: after each move, shape (chains, moves).
            gains: what moves promise by the slopes, shape (chains, moves without those of the resolution), if known.
            n: how many for each chain.

        Returns:
            Chains and moves, both of shape (at most chains * n,).
        """
        self._gain[:, self._remembered] *= FADING
        if gains is not None:
            self._gain[:, : gains.shape[1]] = gains
        shares = (loads / self._limits[:, None]).astype(np.float32)
        far = shares > MARGIN
        excess = np.maximum(shares - 1, 0)
        np.putmask(excess, far, 0)
        promise = self._gain - self._prices[:, None].astype(np.float32) * excess
        forbidden = (self._until >= step).take(self._groups, axis=1)
        to_record = (self._best - self.here.scores)[:, None]
        np.putmask(promise, far | (forbidden & ((excess > 0) | (promise <= to_record))), -np.inf)
        moves, promises = _largest(promise, n)
        chain, rank = np.nonzero(promises > -np.inf)
        return chain, moves[chain, rank]

    def go(
        self, step: int, chain: np.ndarray, move: np.ndarray, found: Points, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes each chain to the best of its candidates.

        Args:
            step: counted from 0.
            chain: chains, as by `candidates`.
            move: their moves.
            found: what the moves lead to.
            rng: the source of randomness.

        Returns:
            The chains that went, and the candidate that each went to.
        """
        groups, gain = self._groups[move], found.scores - self.here.scores[chain]
        shares = found.loads / self._limits[chain]
        self._gain[chain, move] = gain
        record = (shares <= 1) & (found.scores > self._best[chain])
        np.maximum.at(self._best, chain[record], found.scores[record])
        merit = gain - self._prices[chain] * np.maximum(shares - 1, 0)
        merit[(self._until[chain, groups] >= step) & ~record] = FORBIDDEN
        order = np.lexsort((-merit, chain))
        to = order[np.append(True, chain[order][1:] != chain[order][:-1])]
        to = to[merit[to] > -np.inf]
        moved, group = chain[to], groups[to]
        same = self._groups[self._remembered] == group[:, None]
        self._gain[moved, self._remembered] -= np.where(same, gain[to, None], 0).astype(np.float32)
        self._until[moved, group] = step + rng.integers(*TENURE, len(moved))
        here, new = self.here, found[to]
        here.codes[moved], here.scores[moved], here.loads[moved] = new.codes, new.scores, new.loads
        self._prices *= np.where(self.here.loads <= self._limits, 1 / PRICE_STEP, PRICE_STEP)
        np.clip(self._prices, self._price / PRICE_RANGE, self._price * PRICE_RANGE, out=self._prices)
        return moved, to


@np.errstate(invalid="ignore")  # differences of archs that a score of -inf rules out
def tabu(
    problem: Problem,
    start: Points,
    limits: np.ndarray,
    *,
    steps: int,
    explore: int,
    price: float,
    rng: np.random.Generator,
) -> Points:
    """Tabu search with candidate lists (Glover, 1989), a chain from each start, all in step.

    A chain goes to the best neighbour even when that is worse, and then leaves what it changed alone for a few
    steps. It may exceed its limit a little, at a price that rises while it does and falls while it does not.
    Scores are what costs time, loads are not: each step scores only the moves that promise most. What a move promises
    comes from the slopes of the score; for moves of the resolution, which change too much at once, and where the score
    knows no slopes, it is what the move gained when it was last scored.

    With slopes, each step also scores the moves that promise a record within any of the limits, from where the chains
    are and from archs that the last step has scored and that are nearest to the records: these are explored.

    Args:
        problem: the problem.
        start: one point per chain.
        limits: the largest load of each chain, shape (chains,).
        steps: moves per chain.
        explore: how many archs each step explores, if the score knows its slopes.
        price: of exceeding a limit by all of it, in score, at first.
        rng: the source of randomness.

    Returns:
        Every point that was scored, once.
    """
    n = len(start)
    _, slopes_at = problem.linearize(start.codes)
    slopes, explored = slopes_at(np.arange(n)) if slopes_at is not None else None, start[:0]
    chains = Chains(problem, start, limits, price, slopes is not None)
    records, seen, scored = BestScores(limits), Seen(), [start]
    records.add(start)
    seen.add(problem.hashes(start.codes))
    for step in range(steps):
        centres = Points.join([chains.here, explored])
        loads = problem.move_loads(centres.codes)
        gains = problem.move_gains(centres.codes, *slopes) if slopes is not None else None
        n_scored = (SCORED_BY_MEMORY if gains is None else SCORED) + (len(problem.resolutions) if step == 0 else 0)
        chain, move = chains.candidates(step, loads[:n], None if gains is None else gains[:n], n_scored)
        if not len(chain):
            break
        n_candidates, centre, moves = len(chain), chain, move
        if gains is not None:
            lead = centres.scores[:, None].astype(np.float32) + gains - records.at(loads[:, : gains.shape[1]])
            leading, leads = _largest(lead, LEADING)
            n_leads = LEADING_ON_AVERAGE * len(centres)
            least = np.partition(leads, -n_leads, axis=None)[-n_leads]
            leader, rank = np.nonzero((leads >= least) & (leads > -np.inf))
            centre, moves = np.concatenate([chain, leader]), np.concatenate([move, leading[leader, rank]])
        codes = problem.move(centres.codes, centre, moves)
        hashes = problem.hashes(codes)
        new = seen.new(hashes)
        seen.add(hashes)
        kept = np.flatnonzero(new | (np.arange(len(codes)) < n_candidates))
        scores, slopes_at = problem.linearize(codes[kept])
        found = Points(codes[kept], scores, loads[centre[kept], moves[kept]])
        scored.append(found)
        records.add(found)
        moved, to = chains.go(step, chain, move, found[:n_candidates], rng)
        if slopes is not None and slopes_at is not None:
            behind = np.where(new[kept], records.at(found.loads) - scores, np.inf)
            behind[to] = np.inf
            nearest = behind.argsort(kind="stable")[:explore]
            nearest = nearest[behind[nearest] < np.inf]
            explored = found[nearest]
            new_slopes = slopes_at(np.concatenate([to, nearest]))
            slopes = tuple(_follow(old[:n], moved, new) for old, new in zip(slopes, new_slopes, strict=True))
    points = Points.join(scored)
    points = points[np.unique(problem.hashes(points.codes), return_index=True)[1]]
    return Points(points.codes, points.scores, problem.load(points.codes))


def _follow(slopes: np.ndarray, moved: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The slopes of all chains, the first of the new ones for those that moved, and after them the rest of the new."""
    slopes[moved] = new[: len(moved)]
    return np.concatenate([slopes, new[len(moved) :]])


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
