"""The best subnet within budgets, and the front of the best at every cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

from ofa_tf.errors import InfeasibleError, OfaError
from ofa_tf.peaks import Costs
from ofa_tf.search.budget import Budget, check_budgets, known_resolutions, starts
from ofa_tf.search.evolution import evolve, first_population, survivors
from ofa_tf.search.local import Points, improve, tabu
from ofa_tf.search.problem import Problem, Score
from ofa_tf.space import SearchSpace

Progress = Callable[[int, int], None]
FRONT = "cost of the front"
NEAR = 1.03  # load up to which random archs may start a search
FIRST, TURNS = 2048, 2  # random archs, turns of the tabu search
CHAINS, EXPLORED = 40, 24  # chains of a turn, archs explored in each of its steps
CLIMBS, CLIMBS_APART = 8, 3
HEAD = 4096  # of archs by score, in which the best that lie apart are looked for first
APART = 8  # genes in which the starts of chains differ, so that they end in different optima
FRONT_TURNS, FRONT_CHAINS, FRONT_EXPLORED = 4, 50, 75  # at least this many chains, and one for each limit
FRONT_STARTS = 8  # of the best that lie apart, in turn
KEPT_ON_FRONT = 16
# The products are so small that threads of BLAS mostly wait for each other: minutes for seconds on a busy machine.
ONE_THREAD = threadpool_limits.wrap(limits=1, user_api="blas")


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        code: code of the best arch within the budgets, shape (genes,).
        score: its predicted score.
        costs: its cost under each budget, in the order given.
        candidates: the best distinct archs within the budgets, best first, `code` included: shape (archs, genes).
        candidate_scores: their predicted scores.
        resolutions: the resolutions that were searched, in pixels: those whose every cost is known.
    """

    code: np.ndarray
    score: float
    costs: tuple[float, ...]
    candidates: np.ndarray = field(repr=False)
    candidate_scores: np.ndarray = field(repr=False)
    resolutions: tuple[int, ...]


@dataclass(frozen=True)
class Front:
    """Subnets, by ascending cost, none of which is beaten by another in both score and cost.

    Args:
        codes: shape (archs, genes).
        scores: predicted scores, ascending.
        costs: costs, ascending.
    """

    codes: np.ndarray = field(repr=False)
    scores: np.ndarray
    costs: np.ndarray


def _best(merits: np.ndarray, codes: np.ndarray, n: int, apart: int = 1) -> np.ndarray:
    """Rows of the best `n` codes, best first, any two of which differ in at least `apart` genes."""
    order = np.argsort(-merits, kind="stable")
    for head in (HEAD, len(order)):
        best = codes[order[:head]]
        keep: list[int] = []
        far = np.ones(len(best), bool)
        while far.any() and len(keep) < n:
            keep.append(int(far.argmax()))
            far &= (best != best[keep[-1]]).sum(1) >= apart
        if len(keep) == n:
            break
    return order[keep]


def _distinct(points: Points, n: int, apart: int = 1) -> Points:
    """The best `n` points, best first, any two of which differ in at least `apart` genes."""
    return points[_best(points.scores, points.codes, n, apart)]


def _price(points: Points) -> float:
    """What exceeding a limit by all of it costs at first, in score."""
    finite = points.scores[np.isfinite(points.scores)]
    return max(float(np.ptp(finite)) if len(finite) else 0.0, 1e-12)


@ONE_THREAD
def search(
    space: SearchSpace,
    score: Score,
    budgets: Sequence[Budget],
    *,
    seed: int = 0,
    steps: int = 90,
    top: int = 8,
    progress: Progress | None = None,
) -> Found:
    """The arch of the highest score within every budget.

    A tabu search starts from random archs, and its next turns from the best that it has seen. It ends with an exact
    climb: no change of a single gene improves the result within the budgets. Equal seeds give equal results.

    Args:
        space: the space.
        score: predicted scores of codes, (archs, genes) -> (archs,); higher is better. A `Differentiable` one, such as
            an accuracy predictor, leads to better archs.
        budgets: one or more; resolutions whose cost is unknown under one of them are left out.
        seed: seed of the search.
        steps: steps of each turn of the tabu search.
        top: number of candidates to return.
        progress: called with the steps done and the steps in all.

    Raises:
        OfaError: the budgets are of another space, no resolution is known under all, or scores are not numbers.
        InfeasibleError: no arch meets the budgets; the message says what is possible.

    Examples:
        >>> from ofa_tf.costs import arch_costs
        >>> space = ofa.get_space("tiny")
        >>> macs = arch_costs(space, lambda block: block.n_macs, n_classes=10)
        >>> params = arch_costs(space, lambda block: block.n_params, n_classes=10)
        >>> found = ofa.search(space, params, [ofa.Budget("MACs", "", macs, 1e6)])
        >>> bool(macs(found.code[None])[0] <= 1e6)
        True
    """
    rng = np.random.default_rng(seed)
    first = starts(space, budgets)
    resolutions = known_resolutions(space, [budget.costs for budget in budgets])
    problem = Problem(space, score, budgets, resolutions)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, TURNS + 1)

    points = Points.of(problem, first_population(problem, first, NEAR, FIRST, rng))
    price = _price(points)
    for _ in range(TURNS):
        merits = points.scores - price * np.maximum(points.loads - 1, 0)
        chains = points[_best(merits, points.codes, CHAINS, APART)]
        found = tabu(problem, chains, np.ones(len(chains)), steps=steps, explore=EXPLORED, price=price, rng=rng)
        points = Points.join([points, found])
        step()
    within = points[points.loads <= 1]
    climbed = [improve(problem, code, 1.0) for code in _distinct(within, CLIMBS, CLIMBS_APART).codes]
    within = _distinct(Points.join([*climbed, within]), max(top, 1))
    step()
    return Found(
        code=within.codes[0],
        score=float(within.scores[0]),
        costs=tuple(float(budget.costs(within.codes[:1])[0]) for budget in budgets),
        candidates=within.codes,
        candidate_scores=within.scores,
        resolutions=tuple(space.resolutions[index] for index in resolutions),
    )


@ONE_THREAD
def pareto(
    space: SearchSpace,
    score: Score,
    costs: Costs,
    limits: Sequence[float] | np.ndarray | None = None,
    *,
    within: Sequence[Budget] = (),
    seed: int = 0,
    population: int = 1024,
    generations: int = 2,
    steps: int = 110,
    progress: Progress | None = None,
) -> Front:
    """The front of highest scores at lowest costs, in one run: all limits share what is found for any of them.

    Args:
        space: the space.
        score: as in `search`.
        costs: the cost of every arch; resolutions where it is infinite are left out.
        limits: the costs at which the front is wanted; None for 50 from the cheapest arch to the largest.
        within: budgets that every subnet of the front must meet, too.
        seed: seed of the search.
        population: archs scored per generation.
        generations: generations of the evolution.
        steps: steps of each turn of the tabu search.
        progress: called with the steps done and the steps in all.

    Raises:
        OfaError: limits are not finite numbers above 0, or scores are not numbers.
        InfeasibleError: no arch meets the largest limit and the budgets.

    Examples:
        >>> from ofa_tf.costs import arch_costs
        >>> space = ofa.get_space("tiny")
        >>> macs = arch_costs(space, lambda block: block.n_macs, n_classes=10)
        >>> params = arch_costs(space, lambda block: block.n_params, n_classes=10)
        >>> front = ofa.pareto(space, params, macs, limits=[1e6, 2e6])
        >>> bool(front.costs[-1] <= 2e6)
        True
    """
    rng = np.random.default_rng(seed)
    check_budgets(space, [Budget(FRONT, "", costs, 1.0), *within])
    resolutions = known_resolutions(space, [costs, *(budget.costs for budget in within)])
    wanted = _limits(space, costs, resolutions, limits)
    problem = Problem(space, score, [Budget(FRONT, "", costs, 1.0)], resolutions, within)
    first = _front_starts(space, costs, wanted, within)
    wanted = wanted[wanted >= costs(first).min()]
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, generations + FRONT_TURNS + 1)

    codes = first_population(problem, first, wanted[-1], population, rng)
    points = evolve(
        problem, codes, wanted, generations=generations, offspring=population, keep=8, rng=rng,
        progress=step,
    )  # fmt: skip
    price, each = _price(points), -(-FRONT_CHAINS // len(wanted))  # chains for each limit
    for turn in range(FRONT_TURNS):
        points = points[survivors(problem, points, wanted, KEPT_ON_FRONT)]
        chains = []
        for index, limit in enumerate(wanted):
            choices = _distinct(points[points.loads <= limit], FRONT_STARTS, APART)
            chains.append(choices[(index + each * turn + np.arange(each)) % FRONT_STARTS % len(choices)])
        found = tabu(
            problem,
            Points.join(chains),
            np.repeat(wanted, each),
            steps=steps,
            explore=FRONT_EXPLORED,
            price=price,
            rng=rng,
        )
        points = Points.join([points, found])
        step()
    points = _climb(problem, points, wanted)
    step()
    order = np.lexsort((-points.scores, points.loads))
    points = points[order]
    highest = np.maximum.accumulate(points.scores)
    points = points[np.concatenate([[True], points.scores[1:] > highest[:-1]])]
    return Front(points.codes, points.scores, points.loads)


def _front_starts(space: SearchSpace, costs: Costs, limits: np.ndarray, within: Sequence[Budget]) -> np.ndarray:
    """Archs within the largest limit and, as far as the other budgets allow, within each smaller one."""
    first = starts(space, [Budget(FRONT, "", costs, float(limits[-1])), *within])
    for limit in limits[-2::-1] if within else ():  # without budgets these are the cheapest already
        if costs(first).min() > limit:
            try:
                lower = starts(space, [Budget(FRONT, "", costs, float(limit)), *within])
            except InfeasibleError:
                break
            first = np.concatenate([first, lower])
    return first


def _climb(problem: Problem, points: Points, limits: np.ndarray) -> Points:
    """The best point within each limit, once no single move from any of them leads to a better one within any limit."""
    climbed = np.zeros(0, np.uint64)
    while True:
        best = points[np.unique([np.where(points.loads <= limit, points.scores, -np.inf).argmax() for limit in limits])]
        hashes = problem.hashes(best.codes)
        new = ~np.isin(hashes, climbed)
        if not new.any():
            return best
        climbed = np.append(climbed, hashes[new])
        codes, _, _ = problem.neighbours(best.codes[new])
        points = Points.join([best, Points.of(problem, codes[problem.load(codes) <= limits[-1]])])


def _limits(space: SearchSpace, costs: Costs, resolutions: np.ndarray, limits) -> np.ndarray:
    """The limits of a front, ascending."""
    if limits is None:
        low = float(costs(costs.cheapest()[None])[0])
        high = float(costs(space.encode([space.largest(space.resolutions[resolutions[-1]])]))[0])
        return np.geomspace(low, max(high, low), 50)
    wanted = np.unique(np.asarray(limits, np.float64))
    if not len(wanted) or not (np.isfinite(wanted).all() and wanted[0] > 0):
        raise OfaError(f"`limits` (={limits!r}) must be finite numbers above 0.")
    return wanted
