"""The search: within the budgets, at least as good as luck, optimal where everything can be tried."""

import dataclasses
from functools import cache, cached_property
from itertools import product

import numpy as np
import pytest
from rich_spaces import COUPLED, LAST, RESNET, RICH, RICH_SPACES

from ofa_tf.accuracy.predictor import Predictor, n_features
from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.errors import InfeasibleError, OfaError
from ofa_tf.search import Budget, pareto, search
from ofa_tf.search.local import BestScores, Points, Seen, improve, tabu
from ofa_tf.search.problem import Problem
from ofa_tf.space import Dimension, SearchSpace
from ofa_tf.spaces import MOBILENET_V3, PROXYLESS, TINY

# Small enough to try everything: 3 resolutions times 6,084 subnets.
SMALL = dataclasses.replace(
    TINY, stages=TINY.stages[:2], kernels=(3, 5), expands=(3, 4, 6), resolutions=(24, 28, 32), name="small"
)


def _score(space, seed=0):
    """A random two-layer network on the genes: interactions included, nothing separable."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(space.n_genes, 24)) / np.sqrt(space.n_genes)
    second = rng.normal(size=24)

    def score(codes):
        genes = codes / np.maximum(space.gene_sizes - 1, 1) + 0.3 * space.active(codes).sum(1, keepdims=True)
        return np.tanh(genes @ first) @ second + 0.05 * genes.sum(1)

    return score


@cache
def _macs(space):
    return arch_costs(space, lambda block: block.n_macs / 1e6, 10)


@cache
def _params(space):
    return arch_costs(space, lambda block: block.n_params / 1e3, 10)


def _everything(space):
    ranges = [range(size) for size in space.gene_sizes]
    return np.unique(space.canonical(np.array(list(product(*ranges)), np.int32)), axis=0)


def _macs_budget(space, share):
    costs = _macs(space)
    low, high = costs(costs.cheapest()[None])[0], costs(space.encode([space.largest()]))[0]
    return Budget("MACs", "M", costs, float(low + share * (high - low)))


@pytest.mark.parametrize("seed", range(6))
def test_finds_the_optimum_where_everything_can_be_tried(seed):
    score, budget, everything = _score(SMALL, seed), _macs_budget(SMALL, 0.4), _everything(SMALL)
    assert len(everything) == SMALL.size() * len(SMALL.resolutions)
    best = score(everything[budget.costs(everything) <= budget.limit]).max()
    assert search(SMALL, score, [budget], seed=seed).score == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3], ids=lambda space: space.name)
def test_result_is_within_the_budget_and_beats_random_archs(space):
    score, budget = _score(space), _macs_budget(space, 0.3)
    found = search(space, score, [budget])
    assert budget.costs(found.code[None])[0] <= budget.limit
    assert found.costs == (pytest.approx(budget.costs(found.code[None])[0]),)
    assert found.score == pytest.approx(score(found.code[None])[0])
    luck = space.sample(np.random.default_rng(1), 20_000)
    luck = luck[budget.costs(luck) <= budget.limit]
    assert found.score >= score(luck).max()
    assert (space.canonical(found.code[None]) == found.code).all()


def test_no_change_of_a_single_gene_helps():
    score, budget = _score(MOBILENET_V3), _macs_budget(MOBILENET_V3, 0.3)
    found = search(MOBILENET_V3, score, [budget], steps=0)
    changed = []
    for gene, size in enumerate(MOBILENET_V3.gene_sizes):
        for value in range(size):
            code = found.code.copy()
            code[gene] = value
            changed.append(code)
    changed = MOBILENET_V3.canonical(np.array(changed))
    within = changed[budget.costs(changed) <= budget.limit]
    assert score(within).max() <= found.score + 1e-12


def test_candidates_are_distinct_within_the_budget_and_sorted():
    score, budget = _score(TINY), _macs_budget(TINY, 0.5)
    found = search(TINY, score, [budget], top=5)
    assert len(np.unique(found.candidates, axis=0)) == len(found.candidates) == 5
    assert (np.diff(found.candidate_scores) <= 0).all()
    assert (budget.costs(found.candidates) <= budget.limit).all()
    assert (found.candidates[0] == found.code).all()


def test_several_budgets_bind_together():
    score, macs = _score(TINY), _macs_budget(TINY, 0.6)
    alone = search(TINY, score, [macs])
    params = Budget("parameters", "k", _params(TINY), float(_params(TINY)(alone.code[None])[0] * 0.8))
    found = search(TINY, score, [macs, params])
    for budget, cost in zip([macs, params], found.costs, strict=True):
        assert cost <= budget.limit
        assert cost == pytest.approx(budget.costs(found.code[None])[0])
    assert found.score <= alone.score


def test_equal_seeds_give_equal_results():
    score, budget = _score(MOBILENET_V3), _macs_budget(MOBILENET_V3, 0.3)
    first, second = (search(MOBILENET_V3, score, [budget], seed=3) for _ in range(2))
    assert (first.candidates == second.candidates).all()


def test_unreachable_budget_says_what_is_reachable():
    costs = _macs(TINY)
    least = costs(costs.cheapest()[None])[0]
    with pytest.raises(InfeasibleError, match=r"MACs.*24 px \| 3x3 \| 3x3 \| 3x3") as caught:
        search(TINY, _score(TINY), [Budget("MACs", "M", costs, least * 0.99)])
    assert f"{least:.4g}" in str(caught.value)
    assert search(TINY, _score(TINY), [Budget("MACs", "M", costs, least)]).costs[0] == least


def test_unknown_resolutions_are_left_out():
    full = _macs(TINY)
    known = np.array(TINY.resolutions) == 28
    partial = ArchCosts(TINY, np.where(known, full.fixed, np.inf), full.elastic)
    found = search(TINY, _score(TINY), [Budget("MACs", "M", partial, 1e6)])
    assert found.resolutions == (28,)
    assert (found.candidates[:, 0] == 1).all()


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), float("inf"), "5", True, None])
def test_a_limit_must_be_a_positive_number(limit):
    with pytest.raises(OfaError):
        Budget("MACs", "M", _macs(TINY), limit)


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(OfaError):
        search(TINY, lambda codes: np.full(len(codes), np.nan), [_macs_budget(TINY, 0.5)])


@pytest.mark.filterwarnings("error")
def test_archs_can_be_ruled_out_by_a_score_of_minus_infinity():
    score, budget, everything = _score(SMALL), _macs_budget(SMALL, 0.4), _everything(SMALL)

    def ruled(codes):
        return np.where(codes[:, 1] == 1, -np.inf, score(codes))

    best = ruled(everything[budget.costs(everything) <= budget.limit]).max()
    assert search(SMALL, ruled, [budget]).score == pytest.approx(best, abs=1e-12)


@pytest.mark.filterwarnings("error")
def test_archs_can_be_ruled_out_by_a_score_that_knows_its_slopes():
    predictor = _predictor(TINY)

    class Ruled:
        """Leaves out what the first stage has at its second depth."""

        def __call__(self, codes):
            return np.where(codes[:, 1] == 1, -np.inf, predictor(codes))

        def linearize(self, codes):
            return self(codes), predictor.linearize(codes)[1]

    found = search(TINY, Ruled(), [_macs_budget(TINY, 0.7)])
    front = pareto(TINY, Ruled(), _macs(TINY))
    assert np.isfinite(found.candidate_scores).all()
    assert np.isfinite(front.scores).all()
    assert (found.candidates[:, 1] != 1).all()
    assert (front.codes[:, 1] != 1).all()


def test_a_budget_of_another_space_is_refused():
    with pytest.raises(OfaError):
        search(MOBILENET_V3, _score(MOBILENET_V3), [_macs_budget(TINY, 0.5)])


def test_front_is_undominated_and_as_good_as_single_searches():
    score, costs = _score(TINY), _macs(TINY)
    front = pareto(TINY, score, costs)
    assert (np.diff(front.costs) > 0).all()
    assert (np.diff(front.scores) > 0).all()
    assert front.costs == pytest.approx(costs(front.codes))
    assert front.scores == pytest.approx(score(front.codes))
    for share in (0.2, 0.5, 0.9):
        budget = _macs_budget(TINY, share)
        best_of_front = front.scores[front.costs <= budget.limit].max()
        assert best_of_front >= search(TINY, score, [budget]).score - 0.02 * np.ptp(front.scores)


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3, PROXYLESS, *RICH_SPACES.values()], ids=lambda space: space.name)
def test_moves_reach_every_change_of_a_gene_and_foretell_its_load(space):
    budgets = [Budget("MACs", "M", _macs(space), 50.0), Budget("parameters", "k", _params(space), 900.0)]
    problem = Problem(space, _score(space), budgets, np.arange(len(space.resolutions)))
    codes = space.sample(np.random.default_rng(0), 5)
    loads = problem.move_loads(codes)
    parents, moves = np.nonzero(np.isfinite(loads))
    moved = problem.move(codes, parents, moves)
    assert (space.canonical(moved) == moved).all()
    assert loads[parents, moves] == pytest.approx(problem.load(moved), rel=1e-12)
    assert problem.groups.shape == (loads.shape[1],)
    for row, code in enumerate(codes):
        reached = set(map(tuple, moved[parents == row].tolist()))
        assert len(reached) == (parents == row).sum()
        changed = np.repeat(code[None], space.gene_sizes.sum(), axis=0)
        genes = np.repeat(np.arange(space.n_genes), space.gene_sizes)
        changed[np.arange(len(changed)), genes] = np.concatenate([np.arange(size) for size in space.gene_sizes])
        changed = space.canonical(changed)
        assert set(map(tuple, changed[(changed != code).any(1)].tolist())) <= reached


def test_budgets_that_exclude_each_other_say_so():
    macs, params = _macs(TINY), _params(TINY)
    # The second cost falls where the first rises.
    mirrored = ArchCosts(TINY, params.fixed, params.elastic.max() - params.elastic)
    first = Budget("MACs", "M", macs, float(macs(macs.cheapest()[None])[0]) * 1.001)
    second = Budget("other", "k", mirrored, float(mirrored(mirrored.cheapest()[None])[0]) * 1.001)
    with pytest.raises(InfeasibleError, match=r"exclude each other.*binds"):
        search(TINY, _score(TINY), [first, second])


@pytest.mark.parametrize("limits", [[], [0.0, 1.0], [1.0, float("nan")], [float("inf")]])
def test_limits_of_a_front_must_be_positive_numbers(limits):
    with pytest.raises(OfaError, match="limits"):
        pareto(TINY, _score(TINY), _macs(TINY), limits)


# --- channels, and depths that set the expand ratio -------------------------------------------------------------------

rich_spaces = pytest.mark.parametrize("space", RICH_SPACES.values(), ids=list(RICH_SPACES))


@rich_spaces
def test_costs_of_channels_are_those_of_the_walk(space):
    codes = space.sample(np.random.default_rng(0), 200)
    walks = [walk(space, arch, 10) for arch in space.decode(codes)]
    assert _macs(space)(codes) == pytest.approx([count_macs(blocks) / 1e6 for blocks in walks])
    assert _params(space)(codes) == pytest.approx([count_params(blocks) / 1e3 for blocks in walks])


@pytest.mark.parametrize("space", [RICH, COUPLED, LAST], ids=lambda space: space.name)
@pytest.mark.parametrize("seed", range(5))
def test_the_cheapest_is_exact_whatever_channels_cost(space, seed):
    rng, known = np.random.default_rng(seed), _macs(space)
    costs = ArchCosts(
        space, known.fixed * rng.uniform(size=known.fixed.shape), known.elastic * rng.uniform(size=known.elastic.shape)
    )
    assert costs(costs.cheapest()[None])[0] == costs(_everything(space)).min()


@pytest.mark.parametrize("space", [RICH, COUPLED, LAST], ids=lambda space: space.name)
@pytest.mark.parametrize("seed", range(3))
def test_finds_the_optimum_among_channels(space, seed):
    everything, predictor, budget = _everything(space), _predictor(space, seed), _macs_budget(space, 0.3)
    best = predictor(everything)[budget.costs(everything) <= budget.limit].max()
    found = search(space, predictor, [budget], seed=seed)
    assert found.costs[0] <= budget.limit
    assert found.score == pytest.approx(best, rel=1e-6)
    front = pareto(space, predictor, budget.costs, [budget.limit], seed=seed)
    assert front.scores[-1] == pytest.approx(best, rel=1e-6)


def test_a_space_of_bottlenecks_is_searched_without_slopes():
    budget = _macs_budget(RESNET, 0.4)
    found = search(RESNET, _score(RESNET), [budget])
    everything = _everything(RESNET)
    assert found.score == pytest.approx(_score(RESNET)(everything[budget.costs(everything) <= budget.limit]).max())


# --- one more dimension -----------------------------------------------------------------------------------------------


class ThreeDimensional(SearchSpace):
    """A space with one more thing to choose for each block."""

    @cached_property
    def dimensions(self):
        *_, last = before = super().dimensions
        genes = slice(last.genes.stop, last.genes.stop + self.n_blocks)
        return (*before, Dimension("groups", genes, ((1, 2, 4),) * self.n_blocks, per_block=True))


@pytest.fixture(scope="module")
def third():
    """A space of three block dimensions, with made-up costs for each option of each block."""
    fields = {field.name: getattr(SMALL, field.name) for field in dataclasses.fields(SMALL)}
    space = ThreeDimensional(**{**fields, "expands": (3, 6), "resolutions": (24,)})
    rng = np.random.default_rng(0)
    return space, ArchCosts(space, np.ones(1), rng.uniform(1, 2, (space.n_blocks, 1, 2, 2, 3)))


def test_costs_count_one_more_dimension(third):
    space, costs = third
    everything = _everything(space)
    assert space.size() == len(everything) == (12 + 12**2) ** 2
    assert costs(costs.cheapest()[None])[0] == costs(everything).min()
    code = everything[-1]
    choices = (code[dimension.genes] for dimension in space.block_dimensions)
    by_hand = 1 + sum(costs.elastic[block, 0, k, e, g] for block, (k, e, g) in enumerate(zip(*choices, strict=True)))
    assert costs(code[None])[0] == pytest.approx(by_hand, rel=1e-12)


def test_one_more_dimension_is_searched(third):
    space, costs = third
    everything = _everything(space)
    predictor = _predictor(space)
    limit = float(np.quantile(costs(everything), 0.2))
    best = predictor(everything)[costs(everything) <= limit].max()
    found = search(space, predictor, [Budget("cost", "", costs, limit)])
    assert found.score == pytest.approx(best, rel=1e-6)
    front = pareto(space, predictor, costs, [limit])
    assert front.scores[-1] == pytest.approx(best, rel=1e-6)


def test_every_change_of_a_gene_is_a_move_with_its_load_and_its_gain(third):
    space, costs = third
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(n_features(space, space.resolutions), 1)).astype(np.float32)
    linear = Predictor(space, space.resolutions, (((weights, np.zeros(1, np.float32)),),))
    problem = Problem(space, linear, [Budget("cost", "", costs, 10.0)], np.arange(1))
    codes = space.sample(rng, 4)
    promised, true = _single_moves(problem, codes)
    np.testing.assert_allclose(promised, true, atol=1e-4)
    loads = problem.move_loads(codes)
    parents, moves = np.nonzero(np.isfinite(loads))
    np.testing.assert_allclose(loads[parents, moves], problem.load(problem.move(codes, parents, moves)), rtol=1e-12)
    neighbours, parents, _ = problem.neighbours(codes)
    reached = {(parent, *code) for parent, code in zip(parents.tolist(), neighbours.tolist(), strict=True)}
    for parent, code in enumerate(codes):
        for gene, size in enumerate(space.gene_sizes):
            for value in range(size):
                changed = code.copy()
                changed[gene] = value
                changed = space.canonical(changed[None])[0]
                assert (changed == code).all() or (parent, *changed.tolist()) in reached


# --- gradients --------------------------------------------------------------------------------------------------------


def _predictor(space, seed=0, members=2):
    """An ensemble of random networks."""
    rng = np.random.default_rng(seed)
    n_inputs = n_features(space, space.resolutions)

    def layer(n_in, n_out):
        weights = rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out)).astype(np.float32)
        return weights, rng.normal(0, 0.1, n_out).astype(np.float32)

    networks = tuple((layer(n_inputs, 32), layer(32, 24), layer(24, 1)) for _ in range(members))
    return Predictor(space, space.resolutions, networks)


def _single_moves(problem, codes):
    """Moves of blocks and depths: what each promises by the slopes, and what it truly gains."""
    scores, slopes_at = problem.linearize(codes)
    np.testing.assert_allclose(scores, problem.score(codes), rtol=1e-5)
    promised = problem.move_gains(codes, *slopes_at(np.arange(len(codes))))
    parents, moves = np.nonzero(np.isfinite(problem.move_loads(codes)[:, : promised.shape[1]]))
    true = problem.score(problem.move(codes, parents, moves)) - problem.score(codes)[parents]
    return promised[parents, moves], true


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3, PROXYLESS, *RICH_SPACES.values()], ids=lambda space: space.name)
def test_slopes_tell_exactly_what_moves_gain_where_the_predictor_is_linear(space):
    rng = np.random.default_rng(0)
    n_inputs = n_features(space, space.resolutions)
    linear = [((rng.normal(size=(n_inputs, 1)).astype(np.float32), np.ones(1, np.float32)),) for _ in range(2)]
    predictor = Predictor(space, space.resolutions, tuple(linear))
    problem = Problem(space, predictor, [_macs_budget(space, 0.5)], np.arange(len(space.resolutions)))
    promised, true = _single_moves(problem, space.sample(rng, 5))
    np.testing.assert_allclose(promised, true, atol=1e-4)


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3], ids=lambda space: space.name)
def test_slopes_tell_about_what_moves_gain(space):
    predictor = _predictor(space)
    problem = Problem(space, predictor, [_macs_budget(space, 0.5)], np.arange(len(space.resolutions)))
    promised, true = _single_moves(problem, space.sample(np.random.default_rng(1), 50))
    assert np.corrcoef(promised, true)[0, 1] > 0.8
    assert np.abs(promised - true).mean() < 0.7 * np.abs(true).mean()


def test_slopes_do_not_depend_on_the_other_archs():
    predictor, codes = _predictor(TINY), TINY.sample(np.random.default_rng(0), 30)
    _, slopes_at = predictor.linearize(codes)
    _, slopes_of_one = predictor.linearize(codes[7:8])
    for some, one in zip(slopes_at(np.array([3, 7])), slopes_of_one(np.zeros(1, int)), strict=True):
        np.testing.assert_allclose(some[1:], one, rtol=1e-5, atol=1e-6)


def test_a_tabu_search_leaves_local_optima_and_gives_true_scores_and_loads():
    predictor, budget = _predictor(MOBILENET_V3, members=1), _macs_budget(MOBILENET_V3, 0.2)
    problem = Problem(MOBILENET_V3, predictor, [budget], np.arange(len(MOBILENET_V3.resolutions)))
    luck = MOBILENET_V3.sample(np.random.default_rng(2), 4000)
    optima = [improve(problem, code, 1.0) for code in luck[problem.load(luck) <= 1][:8]]
    left = 0
    for optimum in optima:
        found = tabu(problem, optimum, np.ones(1), steps=60, explore=1, price=1, rng=np.random.default_rng(3))
        left += found.scores[found.loads <= 1].max() > optimum.scores[0]
        assert len(np.unique(found.codes, axis=0)) == len(found)
        np.testing.assert_allclose(found.scores, predictor(found.codes), rtol=1e-5)
        assert (found.loads == problem.load(found.codes)).all()
        assert found.loads.max() <= 1.05 + 1e-9
    assert left >= len(optima) / 2


def test_records_are_the_best_known_within_each_limit():
    codes = TINY.sample(np.random.default_rng(0), 3)
    records = BestScores(np.array([20.0, 10.0, 10.0]))
    assert records.at(np.array([5.0, 15.0])).tolist() == [-np.inf, -np.inf]
    records.add(Points(codes, np.array([0.5, 0.7, 0.9]), np.array([10.0, 15.0, 21.0])))
    records.add(Points(codes[:1], np.array([0.4]), np.array([2.0])))
    at = records.at(np.array([0.0, 10.0, 10.1, 20.0, 20.1, np.inf]))
    assert at == pytest.approx([0.5, 0.5, 0.7, 0.7, np.inf, np.inf])


def test_archs_are_new_once():
    seen, hashes = (
        Seen(),
        Problem(TINY, _score(TINY), [], np.arange(1)).hashes(TINY.sample(np.random.default_rng(0), 9)),
    )
    assert seen.new(np.concatenate([hashes, hashes])).tolist() == [True] * 9 + [False] * 9
    assert seen.new(hashes).all()
    seen.add(hashes[:4])
    assert seen.new(hashes).tolist() == [False] * 4 + [True] * 5


@pytest.mark.parametrize("sloped", [True, False])
def test_no_change_of_one_gene_betters_a_front(sloped):
    predictor, costs = _predictor(TINY), _macs(TINY)
    limits = np.linspace(1.2, 3, 6) * costs(costs.cheapest()[None])[0]
    front = pareto(TINY, predictor if sloped else predictor.__call__, costs, limits, steps=3)
    problem = Problem(TINY, predictor, [_macs_budget(TINY, 1.0)], np.arange(len(TINY.resolutions)))
    around, _, _ = problem.neighbours(front.codes)
    for limit in limits:
        best = front.scores[front.costs <= limit].max()
        assert predictor(around[costs(around) <= limit]).max() <= best + 1e-6


def test_slopes_are_used_where_there_are_any():
    """With them a search does better in the space of 10^19, over several budgets, than the same search without."""
    predictor = _predictor(MOBILENET_V3, members=1)
    gains = []
    for share in (0.2, 0.4, 0.6):
        budget = _macs_budget(MOBILENET_V3, share)
        with_slopes = search(MOBILENET_V3, predictor, [budget], steps=10)
        without = search(MOBILENET_V3, predictor.__call__, [budget], steps=10)
        gains.append(with_slopes.score - without.score)
    assert np.mean(gains) > 0


def test_a_climb_finds_two_moves_of_which_each_alone_is_a_loss():
    start = TINY.encode(TINY.smallest())
    pair = TINY.kernel_genes.start + np.flatnonzero(TINY.active(start[None])[0])[:2]

    def score(codes):
        changed = codes != start
        of_pair = changed[:, pair].sum(1)
        return np.choose(of_pair, [0.0, -0.1, 1.0]) - (changed.sum(1) - of_pair)

    problem = Problem(TINY, score, [_macs_budget(TINY, 1.0)], np.arange(len(TINY.resolutions)))
    found = improve(problem, start, 1.0)
    assert found.scores[0] == 1.0
    assert (found.codes[0, pair] != start[pair]).all()
