"""A cost that is a sum and a peak: tabulated as the walk says, with the exact cheapest, foretold for every move."""

import dataclasses
from functools import cache
from itertools import product

import numpy as np
import pytest
from rich_spaces import COUPLED, LAST, RICH, RICH_SPACES

from ofa_tf.arena import arena_costs
from ofa_tf.blocks import walk
from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.errors import InfeasibleError, OfaError
from ofa_tf.peaks import PeakCosts
from ofa_tf.search import Budget, pareto, search
from ofa_tf.search.problem import Problem
from ofa_tf.spaces import MOBILENET_V3, TINY

# Small enough to try everything: 3 resolutions times 6,084 subnets.
SMALL = dataclasses.replace(
    TINY, stages=TINY.stages[:2], kernels=(3, 5), expands=(3, 4, 6), resolutions=(24, 28, 32), name="small"
)
SPACES = [TINY, MOBILENET_V3, *RICH_SPACES.values()]


def _kept(block):
    return block.n_params / 40


def _needed(block):
    return max(op.out_size**2 * op.out_channels for op in block.ops) + block.in_size**2 * block.in_channels


@cache
def _memory(space):
    return PeakCosts(arch_costs(space, _kept, 10), arch_costs(space, _needed, 10, combine=max))


def _everything(space):
    ranges = [range(size) for size in space.gene_sizes]
    return np.unique(space.canonical(np.array(list(product(*ranges)), np.int32)), axis=0)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_costs_are_those_of_the_walk(space):
    codes = space.sample(np.random.default_rng(0), 30)
    blocks = [walk(space, arch, 10) for arch in space.decode(codes)]
    expected = [sum(map(_kept, some)) + max(map(_needed, some)) for some in blocks]
    assert _memory(space)(codes) == pytest.approx(expected)


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0, 30.0])
def test_the_cheapest_is_exact_however_much_the_peak_counts(weight):
    memory = _memory(SMALL)
    costs = PeakCosts(memory.sums, ArchCosts(SMALL, weight * memory.peaks.fixed, weight * memory.peaks.elastic))
    assert costs(costs.cheapest()[None])[0] == pytest.approx(costs(_everything(SMALL)).min())


@pytest.mark.parametrize("space", [SMALL, RICH, COUPLED, LAST], ids=lambda space: space.name)
@pytest.mark.parametrize("seed", range(3))
def test_the_cheapest_is_exact_for_any_costs(space, seed):
    rng, memory = np.random.default_rng(seed), _memory(space)

    def some(costs):
        parts = (costs.fixed, costs.elastic)
        return ArchCosts(space, *(np.where(np.isfinite(of), rng.uniform(1, 2, of.shape), np.inf) for of in parts))

    costs = PeakCosts(some(memory.sums), some(memory.peaks))
    tried = space.sample(rng, 20_000)
    assert costs(costs.cheapest()[None])[0] <= costs(tried).min()


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_moves_foretell_their_loads(space):
    memory = _memory(space)
    macs = arch_costs(space, lambda block: block.n_macs, 10)
    largest = space.encode([space.largest()])
    budgets = [Budget("memory", "bytes", memory, memory(largest)[0] / 3), Budget("MACs", "", macs, macs(largest)[0])]
    problem = Problem(space, lambda codes: np.zeros(len(codes)), budgets, np.arange(len(space.resolutions)))
    codes = space.sample(np.random.default_rng(0), 12)
    foretold = problem.move_loads(codes)
    parents, moves = np.nonzero(np.isfinite(foretold))
    assert foretold[parents, moves] == pytest.approx(problem.load(problem.move(codes, parents, moves)), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_search_finds_the_optimum_within_a_peak_and_sums(seed):
    rng, everything, memory = np.random.default_rng(seed), _everything(SMALL), _memory(SMALL)
    macs = arch_costs(SMALL, lambda block: block.n_macs, 10)
    slopes = rng.normal(1, 1, SMALL.n_genes)

    def score(codes):
        genes = codes + SMALL.active(codes).sum(1, keepdims=True)
        return np.tanh(genes / 4) @ slopes

    budgets = [
        Budget("memory", "bytes", memory, float(np.quantile(memory(everything), 0.4))),
        Budget("MACs", "", macs, float(np.quantile(macs(everything), 0.5))),
    ]
    within = np.logical_and.reduce([budget.costs(everything) <= budget.limit for budget in budgets])
    found = search(SMALL, score, budgets, seed=seed)
    assert found.score == pytest.approx(score(everything[within]).max(), abs=1e-12)


@cache
def _machine():
    """Everything in `SMALL`, its RAM, a latency that grows with the kernels and not with the image, and a score."""
    latency = arch_costs(SMALL, lambda block: 1e-5 * block.n_params * (1 + block.kernel**2), 10)
    slopes = np.random.default_rng(0).uniform(0.5, 2, SMALL.n_genes)

    def score(codes):
        return np.tanh((codes + SMALL.active(codes).sum(1, keepdims=True)) / 4) @ slopes

    return _everything(SMALL), arena_costs(SMALL, 10), latency, score


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_latency_and_ram_each_bind_a_search(share):
    everything, ram, latency, score = _machine()
    budgets = [
        Budget("latency", "ms", latency, float(np.quantile(latency(everything), share))),
        Budget("peak RAM", "bytes", ram, float(np.quantile(ram(everything), share))),
    ]
    kept = np.array([budget.costs(everything) <= budget.limit for budget in budgets])
    for some in ([0], [1], [0, 1]):
        found = search(SMALL, score, [budgets[index] for index in some])
        assert found.score == pytest.approx(score(everything[kept[some].all(0)]).max(), abs=1e-12)
        within = [bool(budget.costs(found.code[None])[0] <= budget.limit) for budget in budgets]
        assert within == [index in some for index in range(2)]


@pytest.mark.parametrize("over", ["RAM", "another cost"])
def test_a_front_within_a_budget_is_the_true_one(over):
    everything, ram, _, score = _machine()
    opposed = arch_costs(SMALL, lambda block: 1e4 / (block.n_params + 100), 10)  # small blocks cost most
    costs, other = (ram, opposed) if over == "RAM" else (opposed, ram)
    budget = Budget("the other", "", other, float(np.quantile(other(everything), 0.05)))
    within = everything[other(everything) <= budget.limit]
    limits = np.geomspace(costs(everything).min(), costs(within).max(), 12)
    front = pareto(SMALL, score, costs, limits, within=[budget])
    assert (other(front.codes) <= budget.limit).all()
    reachable = limits[limits >= costs(within).min()]
    assert len(reachable) < len(limits)  # the cheapest arch of all is not within the budget
    expected = [score(within[costs(within) <= limit]).max() for limit in reachable]
    found = [front.scores[front.costs <= limit].max() for limit in reachable]
    assert found == pytest.approx(expected, abs=1e-12)
    assert front.costs == pytest.approx(costs(front.codes))


@pytest.mark.parametrize("space", [TINY, RICH], ids=lambda space: space.name)
def test_moves_beyond_a_budget_beside_the_load_are_none(space):
    memory, macs = _memory(space), arch_costs(space, lambda block: block.n_macs, 10)
    codes = space.sample(np.random.default_rng(0), 12)
    load, beside = Budget("MACs", "", macs, 1e6), Budget("memory", "bytes", memory, float(np.median(memory(codes))))
    resolutions = np.arange(len(space.resolutions))
    free, bound = (Problem(space, lambda codes: codes[:, 0], [load], resolutions, more) for more in ((), (beside,)))
    parents, moves = np.nonzero(np.isfinite(free.move_loads(codes)))
    loads = bound.load(free.move(codes, parents, moves))
    assert 0 < np.isinf(loads).sum() < len(loads)
    assert bound.move_loads(codes)[parents, moves] == pytest.approx(loads)


def test_what_binds_is_named():
    memory = _memory(TINY)
    macs = arch_costs(TINY, lambda block: block.n_macs, 10)
    least = memory(memory.cheapest()[None])[0]
    budgets = [Budget("peak RAM", "bytes", memory, least * 0.9), Budget("MACs", "", macs, 1e9)]
    with pytest.raises(InfeasibleError, match="meets the budget for peak RAM: the least peak RAM is") as caught:
        search(TINY, lambda codes: np.zeros(len(codes)), budgets)
    assert caught.value.details["binds"] == ["peak RAM"]


def test_two_budgets_on_peaks_are_refused():
    budget = Budget("peak RAM", "bytes", _memory(TINY), 1e6)
    with pytest.raises(OfaError, match="Only one budget may be on a peak, not peak RAM and peak RAM"):
        search(TINY, lambda codes: np.zeros(len(codes)), [budget, budget])


def test_a_front_within_the_budget_of_another_space_is_refused():
    macs, others = (arch_costs(space, lambda block: block.n_macs, 10) for space in (SMALL, MOBILENET_V3))
    with pytest.raises(OfaError, match="space"):
        pareto(SMALL, macs, macs, [1e6], within=[Budget("MACs", "", others, 1e9)])
