"""The best subnets of a workdir for a budget."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.blocks import ArchCosts, arch_costs, count_macs, count_params, walk
from ofa_tf.latency.table import LatencyTable
from ofa_tf.pipeline.measuring import get_table
from ofa_tf.pipeline.predicting import fit, load_predictor, require_labels
from ofa_tf.project import Project
from ofa_tf.search import Budget, pareto, search
from ofa_tf.space import Arch


@dataclass(frozen=True)
class Choice:
    """A subnet found for a budget; latency and accuracy are predictions.

    Args:
        arch: the subnet.
        device: label of the table, with its precision and source.
        budget_ms: the latency asked for; None on a front.
        predicted_ms: by the table.
        table_source: "measured", "modelled" or "imported".
        predicted_ms_error: mean error of the table on whole subnets, as a share; None if it was not validated.
        predicted_accuracy: by the predictor (0 to 1).
        n_macs: multiply-accumulates for one image.
        n_params: trainable parameters.
        predictor_origin: "fitted" in this workdir, or "imported".
    """

    arch: Arch
    device: str
    budget_ms: float | None
    predicted_ms: float
    table_source: str
    predicted_ms_error: float | None
    predicted_accuracy: float
    n_macs: int
    n_params: int
    predictor_origin: str = "fitted"


def find(
    project: Project,
    device: str,
    budget_ms: float,
    precision: str = "int8",
    most_macs: float | None = None,
    most_params: float | None = None,
) -> Choice:
    """Searches the best subnet for a latency budget; a missing table of the host or predictor is made first.

    Args:
        project: the workdir.
        device: whose latency is limited.
        budget_ms: the most milliseconds.
        precision: of the files that the table is of.
        most_macs: the most multiply-accumulates for one image, too; None for any number.
        most_params: the most trainable parameters, too; None for any number.

    Raises:
        InfeasibleError: no subnet is within all budgets; the message has the nearest.
        OfaError: no such device, or nothing trained yet.
    """
    table, fitted = _search_parts(project, device, precision)
    choice = find_with(project, table, fitted.predictor, budget_ms, most_macs, most_params)
    return dataclasses.replace(choice, predictor_origin=fitted.origin)


def find_front(project: Project, device: str, precision: str = "int8", points: int = 20) -> list[Choice]:
    """The best subnets at so many latencies from the fastest to the largest one's, in one search.

    Raises:
        OfaError: no such device, or nothing trained yet.
    """
    table, fitted = _search_parts(project, device, precision)
    space, costs = project.config.space, _known_costs(project, table, fitted.predictor)
    largest = space.largest(space.resolutions[int(np.flatnonzero(np.isfinite(costs.fixed))[-1])])
    fastest_ms, slowest_ms = costs(np.stack([costs.cheapest(), space.encode(largest)]))
    limits = np.geomspace(fastest_ms, slowest_ms, points)
    front = pareto(space, fitted.predictor, costs, limits, seed=project.config.seed)
    return [
        dataclasses.replace(
            _choice(project, table, code, None, float(cost), float(score)), predictor_origin=fitted.origin
        )
        for code, cost, score in zip(front.codes, front.costs, front.scores, strict=True)
    ]


def _search_parts(project: Project, device: str, precision: str) -> tuple[LatencyTable, FittedPredictor]:
    """Table and predictor, made if they are missing."""
    fitted = load_predictor(project)
    if fitted is None:
        require_labels(project)  # before a table is measured for nothing
    table = get_table(project, device, precision)
    if fitted is None:
        project.progress.note("There is no accuracy predictor yet: fitting one.")
        fitted = fit(project)
    return table, fitted


def find_with(
    project: Project,
    table: LatencyTable,
    predictor: Predictor,
    budget_ms: float,
    most_macs: float | None = None,
    most_params: float | None = None,
) -> Choice:
    """Searches with a table and a predictor at hand, at the resolutions that both know; arguments as for `find`."""
    space, n_classes = project.config.space, len(project.config.classes)
    costs = _known_costs(project, table, predictor)
    budgets = [Budget("latency", "ms", costs, budget_ms)]
    if most_macs is not None:
        budgets.append(Budget("MACs", "", arch_costs(space, lambda block: block.n_macs, n_classes), most_macs))
    if most_params is not None:
        budgets.append(
            Budget("parameters", "", arch_costs(space, lambda block: block.n_params, n_classes), most_params)
        )
    found = search(space, predictor, budgets, seed=project.config.seed)
    return _choice(project, table, found.code, budget_ms, float(costs(found.code[None])[0]), float(found.score))


def _known_costs(project: Project, table: LatencyTable, predictor: Predictor) -> ArchCosts:
    """Latencies, infinite at the resolutions that the predictor does not know."""
    costs = table.costs(project.config.space, len(project.config.classes))
    return costs.limited_to(predictor.resolutions)


def _choice(
    project: Project, table: LatencyTable, code: np.ndarray, budget_ms: float | None, latency_ms: float, accuracy: float
) -> Choice:
    space = project.config.space
    arch = space.decode_one(code)
    blocks = walk(space, arch, len(project.config.classes))
    return Choice(
        arch=arch,
        device=table.label,
        budget_ms=budget_ms,
        predicted_ms=latency_ms,
        table_source=table.source,
        predicted_ms_error=None if table.validation is None else table.validation["mape"],
        predicted_accuracy=min(max(accuracy, 0.0), 1.0),
        n_macs=count_macs(blocks),
        n_params=count_params(blocks),
    )
