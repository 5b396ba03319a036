"""The best subnets of a workdir within budgets, and its fronts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.arena import ALIGNMENT, arena_costs, arena_size
from ofa_tf.atomic import check_place
from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.errors import ArgumentError, InfeasibleError, TableError
from ofa_tf.jsonio import write_json
from ofa_tf.latency.backends import fits_memory, memory_limits
from ofa_tf.latency.table import LatencyTable
from ofa_tf.peaks import Costs, PeakCosts
from ofa_tf.precision import get_precision
from ofa_tf.project.choice import Budgets, Choice, Fronts, Latency
from ofa_tf.project.lut import get_table
from ofa_tf.project.memories import with_memories
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.predictor import fit, load_predictor
from ofa_tf.project.requirements import require_labels, require_trained, require_useful
from ofa_tf.report.plot import Series, check_picture, plot_fronts
from ofa_tf.search import Budget, pareto, search
from ofa_tf.search.file_size import size_costs
from ofa_tf.space import SearchSpace

NO_BUDGETS = Budgets()


@dataclass(frozen=True)
class Finder:
    """What searches in a workdir use.

    Args:
        project: the workdir.
        tables: latency tables by the name of their device.
        fitted: the accuracy predictor.
        precision: of the files whose size is predicted.
    """

    project: OpenedWorkdir
    tables: Mapping[str, LatencyTable]
    fitted: FittedPredictor
    precision: str = "int8"

    @classmethod
    def of(cls, project: OpenedWorkdir, devices: Iterable[str], precision: str) -> "Finder":
        """Reads the tables of the devices and the predictor; a missing table of the host or predictor is made first.

        Raises:
            OfaError: no such device, nothing trained yet, no labels to fit a predictor with, or no resolution that
                the predictor and every table know.
        """
        fitted = load_predictor(project)
        if fitted is None:
            require_trained(project)  # before the work of measuring a table is wasted
            require_labels(project)
        tables = {device: get_table(project, device, precision) for device in devices}
        if fitted is None:
            project.progress.note("There is no accuracy predictor yet: fitting one.")
            fitted = fit(project)
        finder = cls(project, tables, require_useful(fitted), precision)
        space, searched = project.config.space, finder.resolutions
        if not searched:
            raise TableError(f"No resolution of the space `{space.name}` is covered by the predictor and every table.")
        if len(searched) < len(space.resolutions):
            left_out = [resolution for resolution in space.resolutions if resolution not in searched]
            project.progress.note(
                f"Only {_pixels(searched)} are searched: the tables or the predictor do not cover {_pixels(left_out)}."
            )
        return finder

    @property
    def space(self) -> SearchSpace:
        return self.project.config.space

    @cached_property
    def _tabulated(self) -> Mapping[str, ArchCosts]:
        n_classes = self.project.config.n_classes
        return {device: table.costs(self.space, n_classes) for device, table in self.tables.items()}

    @cached_property
    def _known(self) -> np.ndarray:
        """Which resolutions the predictor and every table know, bool of shape (resolutions,)."""
        known = np.isin(self.space.resolutions, self.fitted.predictor.resolutions)
        return np.logical_and.reduce([known, *(costs.known for costs in self._tabulated.values())])

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions that are searched, in pixels."""
        return tuple(np.array(self.space.resolutions)[self._known].tolist())

    @cached_property
    def _rams(self) -> PeakCosts:
        """Peak RAM of int8 files in bytes."""
        return arena_costs(self.space, self.project.config.n_classes)

    def _at_known(self, costs: ArchCosts) -> ArchCosts:
        return costs.limited_to(self.resolutions)

    def latencies(self, device: str) -> ArchCosts:
        """Milliseconds on a device, infinite at the resolutions that are not searched."""
        return self._at_known(self._tabulated[device])

    def limits(self, budgets: Budgets) -> list[Budget]:
        """Budgets as a search takes them, with the memories of the devices."""
        space, n_classes = self.space, self.project.config.n_classes
        several = sum(limit is not None for limit in budgets.latency_ms.values()) > 1
        limits = [
            Budget(f"latency on {device}" if several else "latency", "ms", self.latencies(device), limit)
            for device, limit in budgets.latency_ms.items()
            if limit is not None
        ]
        additive: list[tuple[str, str, float | None, Callable[[], ArchCosts]]] = [
            ("MACs", "", budgets.n_macs, lambda: arch_costs(space, lambda block: block.n_macs, n_classes)),
            ("parameters", "", budgets.n_params, lambda: arch_costs(space, lambda block: block.n_params, n_classes)),
            ("file size", "bytes", budgets.size_bytes, lambda: size_costs(space, n_classes, self.precision)),
        ]
        for name, unit, limit, costs in additive:
            if limit is not None:
                limits.append(Budget(name, unit, self._at_known(costs()), limit))
        if budgets.ram_bytes is not None:
            whole = budgets.ram_bytes // ALIGNMENT * ALIGNMENT  # an arena is rounded up
            limits.append(Budget("peak RAM", "bytes", self._rams.limited_to(self.resolutions), whole))
        for device in budgets.latency_ms:
            limits += memory_budgets(self.tables[device], space, n_classes)
        return limits

    def candidates(self, budgets: Budgets, n: int = 1) -> list[Choice]:
        """The best `n` subnets within budgets, by predicted accuracy; fewer where the search met fewer.

        Raises:
            InfeasibleError: no subnet is within all budgets; the message has the nearest.
        """
        seed = self.project.config.seed
        found = search(self.space, self.fitted.predictor, self.limits(budgets), seed=seed, top=n)
        return self.choices(found.candidates, budgets)

    def front(self, device: str | None, points: int, budgets: Budgets) -> list[Choice]:
        """The best subnets at many latencies or sizes of RAM, from the least on, in one search.

        The last of them is that of the largest subnet, or, with budgets, of the best that meets them.

        Args:
            device: the device of the latencies; None for a front over RAM.
            points: number of latencies or sizes.
            budgets: what all of them must meet, without latencies.

        Raises:
            InfeasibleError: no subnet is within the budgets, or none fits into the memory of the device.
        """
        space, predictor, seed = self.space, self.fitted.predictor, self.project.config.seed
        costs: Costs = self._rams.limited_to(self.resolutions) if device is None else self.latencies(device)
        if budgets.given:
            last = search(space, predictor, self.limits(budgets), seed=seed, top=1).code
        else:
            last = space.encode(space.largest(self.resolutions[-1]))
        least, most = costs(np.stack([costs.cheapest(), last]))
        others = self.limits(budgets if device is not None else replace(budgets, ram_bytes=None))
        limits = np.geomspace(least, max(least, most), points)
        front = pareto(space, predictor, costs, limits, within=others, seed=seed)
        if device is None:
            return self.choices(front.codes, budgets)
        within = fits_memory(self.tables[device], space, self.project.config.n_classes, front.codes)
        if not within.any():
            raise InfeasibleError(
                f"All {len(within)} subnets on the front have more parameters than the memory of {device} holds: "
                "search with --latency, which considers only those that fit."
            )
        if not within.all():
            self.project.progress.note(
                f"{(~within).sum()} of {len(within)} subnets on the front have more parameters than the memory of "
                f"{device} holds, and are left out."
            )
        devices = dict.fromkeys([device, *self.tables])
        return self.choices(front.codes[within], replace(budgets, latency_ms=devices))

    def choices(self, codes: np.ndarray, budgets: Budgets) -> list[Choice]:
        """What is predicted for codes of shape (archs, genes)."""
        space, n_classes = self.space, self.project.config.n_classes
        members = self.fitted.predictor.predict_members(codes)
        latencies_ms = {device: self.latencies(device)(codes) for device in budgets.latency_ms}
        sizes = size_costs(space, n_classes, self.precision)(codes)
        choices = []
        for row, arch in enumerate(space.decode(codes)):
            blocks = walk(space, arch, n_classes)
            choices.append(
                Choice(
                    arch=arch,
                    latencies=tuple(
                        _latency(device, self.tables[device], limit, float(latencies_ms[device][row]))
                        for device, limit in budgets.latency_ms.items()
                    ),
                    predicted_accuracy=min(max(float(members[:, row].mean()), 0.0), 1.0),
                    accuracy_spread=float(members[:, row].std(ddof=1)) if len(members) > 1 else None,
                    predictor_rmse_points=self.fitted.errors.get("rmse_points"),
                    predictor_origin=self.fitted.label,
                    n_macs=count_macs(blocks),
                    n_params=count_params(blocks),
                    precision=self.precision,
                    predicted_bytes=round(float(sizes[row])),
                    predictor_caution=self.fitted.caution,
                    predicted_ram_bytes=arena_size(blocks).total_bytes
                    if get_precision(self.precision).integer
                    else None,
                    target=budgets.target,
                    budget_ram_bytes=budgets.ram_bytes,
                    budget_size_bytes=budgets.size_bytes,
                )
            )
        return choices


def memory_budgets(table: LatencyTable, space: SearchSpace, n_classes: int) -> list[Budget]:
    """The memories of a table's device that not every subnet of the space fits into, in megabytes."""
    budgets = []
    for limit in memory_limits(table, space, n_classes):
        if not limit.fits(space.encode([space.largest()])).all():
            costs_mb = ArchCosts(space, limit.costs.fixed / 1e6, limit.costs.elastic / 1e6)
            budgets.append(Budget(limit.name, "MB", costs_mb, limit.limit_bytes / 1e6))
    return budgets


def _latency(device: str, table: LatencyTable, budget_ms: float | None, predicted_ms: float) -> Latency:
    error = None if table.validation is None else table.validation["mape"]
    return Latency(table.label, table.source, budget_ms, predicted_ms, error, device, table.validated_on)


def _pixels(resolutions: Sequence[int]) -> str:
    return f"{', '.join(map(str, resolutions))} px"


def find_within(project: OpenedWorkdir, budgets: Budgets, precision: str = "int8") -> Choice:
    """Searches for the best subnet within budgets; a missing table of the host or predictor is made first.

    Args:
        project: the workdir.
        budgets: of latency on devices, by name, and of everything else.
        precision: of the files that the tables are of.

    Raises:
        InfeasibleError: no subnet is within the budgets; the message names the nearest.
        OfaError: no such device, or nothing trained yet.
    """
    limits = with_memories(budgets, project.config.space, precision)
    return Finder.of(project, limits.latency_ms, precision).candidates(limits)[0]


def find_with(project: OpenedWorkdir, table: LatencyTable, predictor: Predictor, budget_ms: float) -> Choice:
    """Searches with a table and a predictor at hand, at the resolutions that both know."""
    device = table.device["name"]
    finder = Finder(project, {device: table}, FittedPredictor(predictor, {}), table.precision)
    return finder.candidates(Budgets({device: budget_ms}))[0]


def find_fronts(
    project: OpenedWorkdir,
    devices: Sequence[str],
    precision: str = "int8",
    points: int = 20,
    out: str | Path | None = None,
    plot: str | Path | None = None,
    memories: Budgets = NO_BUDGETS,
) -> Fronts:
    """A front for each device, one search each: its best subnets at `points` latencies, with those on the others.

    The front of a microcontroller, which has no latencies, is over RAM.

    Args:
        project: the workdir.
        devices: whose fronts.
        precision: of the files that the tables are of.
        points: number of latencies or sizes of RAM, from the least to that of the largest subnet, or of the best one
            within the memories.
        out: file to also write the fronts to, as JSON.
        plot: `.png` or `.svg` file to also draw them in.
        memories: budgets of RAM and file size that all subnets must meet.

    Returns:
        Front after front, by ascending latency, or by ascending RAM.

    Raises:
        InfeasibleError: no subnet fits into the memories.
        OfaError: no such device, nothing trained yet, a picture of another kind, or a place that cannot be written.
    """
    if not devices:
        raise ArgumentError("`device` is empty: name at least one.")
    if plot is not None:
        check_picture(plot)
    for option, place in (("--out", out), ("--plot", plot)):
        if place is not None:
            check_place(place, option)
    limits = with_memories(
        replace(memories, latency_ms=dict.fromkeys(devices)), project.config.space, precision, both=False
    )
    finder, memories = Finder.of(project, limits.latency_ms, precision), replace(limits, latency_ms={})
    fronted: Sequence[str | None] = [*limits.latency_ms] if limits.target is None else [None]
    fronts = [finder.front(device, points, memories) for device in fronted]
    choices = Fronts(choice for front in fronts for choice in front)
    if out is not None:
        write_json(out, {"choices": choices.to_documents()})
    if plot is not None:
        lines = {
            front[0].device_label: Series(
                [_cost(choice) for choice in front], [choice.predicted_accuracy for choice in front]
            )
            for front in fronts
        }
        plot_fronts(plot, lines, "predicted latency, ms" if limits.latency_ms else "predicted peak RAM, kB")
    return choices


def _cost(choice: Choice) -> float:
    """Where a subnet lies on its front: milliseconds, or kilobytes of RAM."""
    return (choice.predicted_ram_bytes or 0) / 1e3 if choice.predicted_ms is None else choice.predicted_ms
