"""What a subnet may cost, and whether anything meets it.

Several budgets act as one: the load of an arch is the largest of its costs over their limits, and an arch is within
budget when its load is at most 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from ofa_tf.costs import ArchCosts
from ofa_tf.errors import InfeasibleError, OfaError
from ofa_tf.peaks import Costs, PeakCosts
from ofa_tf.space import SearchSpace

ABOVE = np.nextafter(1.0, 2.0)
BALANCE_STEPS = 200


@dataclass(frozen=True)
class Budget:
    """A limit on a cost that adds up over blocks or, as peak memory, also has a part of which the largest counts.

    Args:
        name: what is limited, such as "latency" or "MACs"; messages use it.
        unit: unit of the costs and of the limit, such as "ms".
        costs: the cost of every arch; infinite at resolutions that are not known, which are not searched.
        limit: the largest cost allowed, above 0.

    Raises:
        OfaError: the limit is not a finite number above 0.

    Examples:
        >>> from ofa_tf.costs import arch_costs
        >>> macs = arch_costs(ofa.get_space("tiny"), lambda block: block.n_macs, n_classes=10)
        >>> ofa.Budget("MACs", "", macs, 1e6).show(637504)
        '637,504'
    """

    name: str
    unit: str
    costs: Costs = field(repr=False)
    limit: float

    def __post_init__(self):
        number = isinstance(self.limit, int | float | np.number) and not isinstance(self.limit, bool)
        if not number or not 0 < self.limit < inf:
            raise OfaError(f"The budget for {self.name} (={self.limit!r} {self.unit}) must be a finite number above 0.")

    def show(self, cost: float) -> str:
        """A cost with its unit, such as `12.3 ms` or `1,234,567 bytes`."""
        number = f"{cost:.4g}" if cost < 1e4 else f"{cost:,.0f}"
        return f"{number} {self.unit}".rstrip()


def check_budgets(space: SearchSpace, budgets: Sequence[Budget]) -> None:
    """Refuses an empty list, costs of another space, and more than one budget on a peak.

    Raises:
        OfaError: says which.
    """
    if not budgets:
        raise OfaError("A search needs at least one budget.")
    for budget in budgets:
        _check_costs(space, budget.costs, budget.name)
    if len(peaks := [budget.name for budget in budgets if budget.costs.peaks is not None]) > 1:
        raise OfaError(f"Only one budget may be on a peak, not {' and '.join(peaks)}: give the smaller one.")


def _check_costs(space: SearchSpace, costs: Costs, name: str) -> None:
    if costs.space != space:
        raise OfaError(f"The costs for {name} are of the space `{costs.space.name}`, not of `{space.name}`.")


def loads(budgets: Sequence[Budget], codes: np.ndarray) -> np.ndarray:
    """Loads of codes of shape (archs, genes): float64 of shape (archs,); at most 1 exactly when within every budget."""
    total = np.zeros(len(codes))
    for budget in budgets:
        costs = budget.costs(codes)
        load = costs / budget.limit
        np.maximum(total, np.where(costs > budget.limit, np.maximum(load, ABOVE), load), out=total)
    return total


def known_resolutions(space: SearchSpace, costs: Sequence[Costs]) -> np.ndarray:
    """Indices of the resolutions whose every cost is known.

    Raises:
        OfaError: there is none.
    """
    known = np.all([cost.known for cost in costs], axis=0)
    if not known.any():
        raise OfaError(f"No resolution of the space `{space.name}` is covered by the costs of every budget.")
    return np.flatnonzero(known)


def _mixed(space: SearchSpace, budgets: Sequence[Budget], shares: Sequence[float]) -> Costs:
    """The costs of all budgets times their shares, added up."""
    each = list(zip(shares, (budget.costs for budget in budgets), strict=True))
    fixed, elastic = (sum(share * getattr(costs.sums, part) for share, costs in each) for part in ("fixed", "elastic"))
    sums = ArchCosts(space, np.asarray(fixed), np.asarray(elastic))
    for share, costs in each:
        if costs.peaks is not None:
            peaks = ArchCosts(space, share * costs.peaks.fixed, share * costs.peaks.elastic)
            return PeakCosts(sums, peaks)
    return sums


def lightest(space: SearchSpace, budgets: Sequence[Budget], resolution: int) -> tuple[np.ndarray, float]:
    """The arch of the lowest load at a resolution, and that load.

    With one budget it is exact. With several, the block costs are added with weights, whose cheapest arch is exact,
    and the weights move towards the budget that is exceeded, until an arch meets all or none can.

    Returns:
        The code, shape (genes,), and its load.
    """
    best, best_load = np.zeros(space.n_genes, np.int32), inf
    weights = np.full(len(budgets), 1 / len(budgets))
    for _ in range(BALANCE_STEPS if len(budgets) > 1 else 1):
        shares = [weight / budget.limit for weight, budget in zip(weights, budgets, strict=True)]
        mixed = _mixed(space, budgets, shares)
        code = mixed.cheapest_at(resolution)
        load = float(loads(budgets, code[None])[0])
        if load < best_load:
            best, best_load = code, load
        lower_bound = float(mixed(code[None])[0])
        if best_load <= 1 or lower_bound > 1:
            break
        each = np.array([budget.costs(code[None])[0] / budget.limit for budget in budgets])
        weights = np.maximum(weights * np.exp(each - each.max()), 1e-9)
        weights /= weights.sum()
    return best, best_load


def starts(space: SearchSpace, budgets: Sequence[Budget]) -> np.ndarray:
    """One arch within budget for every resolution that has one: codes of shape (resolutions, genes).

    Raises:
        OfaError: costs of another space, or no resolution whose costs are all known.
        InfeasibleError: no arch meets the budgets; the message names the cheapest for each, and which exclude each
            other.
    """
    check_budgets(space, budgets)
    resolutions = known_resolutions(space, [budget.costs for budget in budgets])
    found = [lightest(space, budgets, resolution) for resolution in resolutions]
    good = [code for code, load in found if load <= 1]
    if not good:
        raise _infeasible(space, budgets, min(found, key=lambda item: item[1])[0])
    return np.stack(good)


def _infeasible(space: SearchSpace, budgets: Sequence[Budget], nearest: np.ndarray) -> InfeasibleError:
    """Why no arch of the space meets the budgets: the least of each, the arch that comes nearest, and what binds."""
    reachable, alone = [], []
    least: list[dict[str, Any]] = []
    for budget in budgets:
        code = budget.costs.cheapest()
        cost, arch = float(budget.costs(code[None])[0]), space.decode_one(code)
        alone += [budget.name] if cost > budget.limit else []
        reachable.append(
            f"the least {budget.name} is {budget.show(cost)} ({arch}), the budget is {budget.show(budget.limit)}"
        )
        least.append(
            {"name": budget.name, "unit": budget.unit, "limit": budget.limit, "least": cost, "arch": arch.to_document()}
        )
    costs = [(budget, float(budget.costs(nearest[None])[0])) for budget in budgets]
    binds = alone or [max(costs, key=lambda item: item[1] / item[0].limit)[0].name]
    details = {
        "budgets": least,
        "binds": binds,
        "nearest": {
            "arch": space.decode_one(nearest).to_document(),
            "costs": {budget.name: cost for budget, cost in costs},
        },
    }
    shown = ", ".join(f"{budget.name} {budget.show(cost)}" for budget, cost in costs)
    ending = f"; the nearest subnet has {shown} ({space.decode_one(nearest)})" if len(budgets) > 1 else ""
    if alone:
        sentence = f"No subnet of `{space.name}` meets the budget for {' and '.join(alone)}: "
        return InfeasibleError(f"{sentence}{'; '.join(reachable)}{ending}.", details)
    return InfeasibleError(
        f"The budgets exclude each other in `{space.name}`, though each can be met on its own: {'; '.join(reachable)}"
        f"{ending}, where the budget for {binds[0]} binds.",
        details,
    )
