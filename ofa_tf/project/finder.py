"""The best subnets of a workdir within budgets, and its fronts."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.atomic import check_place
from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.edgetpu.latency_model import fits_on_chip
from ofa_tf.edgetpu.table import memory_budgets
from ofa_tf.errors import InfeasibleError, TableError
from ofa_tf.jsonio import write_json
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project.lut import get_table
from ofa_tf.project.opened import Project
from ofa_tf.project.predictor import load_predictor, require_labels, require_trained, require_useful
from ofa_tf.quiet import load_tensorflow
from ofa_tf.report.plot import Series, check_picture, plot_fronts
from ofa_tf.search import Budget, pareto, search
from ofa_tf.search.file_size import size_costs
from ofa_tf.space import Arch, SearchSpace


@dataclass(frozen=True)
class Budgets:
    """What a subnet may cost at most; None for any number.

    Args:
        latency_ms: milliseconds per device, all at the same time; None where a device's latency is only shown.
        n_macs: multiply-accumulates for one image.
        n_params: trainable parameters.
        size_bytes: of the file, as predicted by a rule.
    """

    latency_ms: Mapping[str, float | None] = field(default_factory=dict)
    n_macs: float | None = None
    n_params: float | None = None
    size_bytes: float | None = None


@dataclass(frozen=True)
class Latency:
    """A latency by a table.

    Args:
        device: label of the table, with its precision and source.
        table_source: "measured", "modelled" or "imported".
        budget_ms: the most milliseconds; None where it was not limited.
        predicted_ms: by the table.
        predicted_ms_error: mean error of the table on whole subnets, as a share; None if it was not validated.
    """

    device: str
    table_source: str
    budget_ms: float | None
    predicted_ms: float
    predicted_ms_error: float | None


@dataclass(frozen=True)
class Choice:
    """A subnet found for budgets or on a front; latency, accuracy and file size are predictions.

    Args:
        arch: the subnet.
        latencies: on each device; on a front, first on the front's own.
        predicted_accuracy: by the predictor (0 to 1).
        accuracy_spread: standard deviation over the predictor's networks; None if it has one alone.
        predictor_rmse_points: the predictor's error on subnets that it had not seen, in points; None if not known.
        predictor_origin: "fitted" in this workdir, "fitted int8" to the accuracies of int8 files, or "imported".
        n_macs: multiply-accumulates for one image.
        n_params: trainable parameters.
        precision: of the file.
        predicted_bytes: its size, by a rule.
    """

    arch: Arch
    latencies: tuple[Latency, ...]
    predicted_accuracy: float
    accuracy_spread: float | None
    predictor_rmse_points: float | None
    predictor_origin: str
    n_macs: int
    n_params: int
    precision: str
    predicted_bytes: int

    @property
    def budget_ms(self) -> float | None:
        """The latency budget on the first device."""
        return self.latencies[0].budget_ms if self.latencies else None

    @property
    def predicted_ms(self) -> float | None:
        """The latency on the first device."""
        return self.latencies[0].predicted_ms if self.latencies else None

    @property
    def predicted_ms_error(self) -> float | None:
        """The error of the first device's table."""
        return self.latencies[0].predicted_ms_error if self.latencies else None

    @property
    def table_source(self) -> str | None:
        """The source of the first device's table."""
        return self.latencies[0].table_source if self.latencies else None

    def to_document(self) -> dict[str, Any]:
        """The choice as JSON values, what is of the first device beside the rest."""
        first = dataclasses.asdict(self.latencies[0]) if self.latencies else {}
        return {**first, **dataclasses.asdict(self), "arch": self.arch.to_document()}


@dataclass(frozen=True)
class Finder:
    """What searches in a workdir go by.

    Args:
        project: the workdir.
        tables: latency tables by the name of their device.
        fitted: the accuracy predictor.
        precision: of the files whose size is predicted.
    """

    project: Project
    tables: Mapping[str, LatencyTable]
    fitted: FittedPredictor
    precision: str = "int8"

    @classmethod
    def of(cls, project: Project, devices: Iterable[str], precision: str) -> "Finder":
        """Reads the tables of the devices and the predictor; a missing table of the host or predictor is made first.

        Raises:
            OfaError: no such device, nothing trained yet, no labels to fit a predictor with, or no resolution that
                the predictor and every table know.
        """
        fitted = load_predictor(project)
        if fitted is None:
            require_trained(project)  # before a table is measured for nothing
            require_labels(project)
        tables = {device: get_table(project, device, precision) for device in devices}
        if fitted is None:
            project.progress.note("There is no accuracy predictor yet: fitting one.")
            load_tensorflow()
            from ofa_tf.project.predictor_fit import fit

            fitted = fit(project)
        finder = cls(project, tables, require_useful(fitted), precision)
        space, searched = project.config.space, finder.resolutions
        if not searched:
            raise TableError(f"No resolution of the space `{space.name}` is known to the predictor and to every table.")
        if len(searched) < len(space.resolutions):
            left_out = [resolution for resolution in space.resolutions if resolution not in searched]
            project.progress.note(
                f"Only {_pixels(searched)} are searched: the tables or the predictor do not know {_pixels(left_out)}."
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
        return np.logical_and.reduce([known, *(np.isfinite(costs.fixed) for costs in self._tabulated.values())])

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions that are searched, in pixels."""
        return tuple(np.array(self.space.resolutions)[self._known].tolist())

    def _at_known(self, costs: ArchCosts) -> ArchCosts:
        return costs.limited_to(self.resolutions)

    def latencies(self, device: str) -> ArchCosts:
        """Milliseconds on a device, infinite at the resolutions that are not searched."""
        return self._at_known(self._tabulated[device])

    def budgets(self, limits: Budgets) -> list[Budget]:
        """The limits as budgets of a search."""
        space, n_classes = self.space, self.project.config.n_classes
        several = sum(limit is not None for limit in limits.latency_ms.values()) > 1
        budgets = [
            Budget(f"latency on {device}" if several else "latency", "ms", self.latencies(device), limit)
            for device, limit in limits.latency_ms.items()
            if limit is not None
        ]
        additive: list[tuple[str, str, float | None, Callable[[], ArchCosts]]] = [
            ("MACs", "", limits.n_macs, lambda: arch_costs(space, lambda block: block.n_macs, n_classes)),
            ("parameters", "", limits.n_params, lambda: arch_costs(space, lambda block: block.n_params, n_classes)),
            ("file size", "bytes", limits.size_bytes, lambda: size_costs(space, n_classes, self.precision)),
        ]
        for name, unit, limit, costs in additive:
            if limit is not None:
                budgets.append(Budget(name, unit, self._at_known(costs()), limit))
        for device in limits.latency_ms:
            budgets += memory_budgets(self.project, self.tables[device])
        return budgets

    def candidates(self, limits: Budgets, n: int = 1) -> list[Choice]:
        """The best `n` subnets within the limits, by predicted accuracy; fewer where the search met fewer.

        Raises:
            InfeasibleError: no subnet is within all limits; the message has the nearest.
        """
        seed = self.project.config.seed
        found = search(self.space, self.fitted.predictor, self.budgets(limits), seed=seed, top=n)
        return self.choices(found.candidates, limits)

    def front(self, device: str, points: int) -> list[Choice]:
        """The best subnets at latencies from the fastest to the largest one's, in one search."""
        costs, space = self.latencies(device), self.space
        fastest_ms, slowest_ms = costs(np.stack([costs.cheapest(), space.encode(space.largest(self.resolutions[-1]))]))
        limits_ms = np.geomspace(fastest_ms, max(fastest_ms, slowest_ms), points)
        front = pareto(space, self.fitted.predictor, costs, limits_ms, seed=self.project.config.seed)
        within = fits_on_chip(self.tables[device], space, self.project.config.n_classes, front.codes)
        if not within.any():
            raise InfeasibleError(
                f"All {len(within)} subnets on the front have more parameters than the memory of {device} holds: "
                "search with --latency, which keeps to those that fit."
            )
        if not within.all():
            self.project.progress.note(
                f"{(~within).sum()} of {len(within)} subnets on the front have more parameters than the memory of "
                f"{device} holds, and are left out."
            )
        others = [other for other in self.tables if other != device]
        return self.choices(front.codes[within], Budgets(dict.fromkeys([device, *others])))

    def choices(self, codes: np.ndarray, limits: Budgets) -> list[Choice]:
        """What is predicted for codes of shape (archs, genes)."""
        space, n_classes = self.space, self.project.config.n_classes
        members = self.fitted.predictor.predict_members(codes)
        latencies_ms = {device: self.latencies(device)(codes) for device in limits.latency_ms}
        sizes = size_costs(space, n_classes, self.precision)(codes)
        choices = []
        for row, arch in enumerate(space.decode(codes)):
            blocks = walk(space, arch, n_classes)
            choices.append(
                Choice(
                    arch=arch,
                    latencies=tuple(
                        _latency(self.tables[device], limit, float(latencies_ms[device][row]))
                        for device, limit in limits.latency_ms.items()
                    ),
                    predicted_accuracy=min(max(float(members[:, row].mean()), 0.0), 1.0),
                    accuracy_spread=float(members[:, row].std(ddof=1)) if len(members) > 1 else None,
                    predictor_rmse_points=self.fitted.errors.get("rmse_points"),
                    predictor_origin=self.fitted.label,
                    n_macs=count_macs(blocks),
                    n_params=count_params(blocks),
                    precision=self.precision,
                    predicted_bytes=round(float(sizes[row])),
                )
            )
        return choices


def _latency(table: LatencyTable, budget_ms: float | None, predicted_ms: float) -> Latency:
    error = None if table.validation is None else table.validation["mape"]
    return Latency(table.label, table.source, budget_ms, predicted_ms, error)


def _pixels(resolutions: Sequence[int]) -> str:
    return f"{', '.join(map(str, resolutions))} px"


def find(project: Project, device: str, budget_ms: float, precision: str = "int8") -> Choice:
    """Searches the best subnet for a latency budget; a missing table of the host or predictor is made first.

    Args:
        project: the workdir.
        device: whose latency is limited.
        budget_ms: the most milliseconds.
        precision: of the files that the table is of.

    Raises:
        InfeasibleError: no subnet is within the budget; the message has the fastest.
        OfaError: no such device, or nothing trained yet.
    """
    return Finder.of(project, [device], precision).candidates(Budgets({device: budget_ms}))[0]


def find_with(project: Project, table: LatencyTable, predictor: Predictor, budget_ms: float) -> Choice:
    """Searches with a table and a predictor at hand, at the resolutions that both know; arguments as for `find`."""
    device = table.device["name"]
    finder = Finder(project, {device: table}, FittedPredictor(predictor, {}), table.precision)
    return finder.candidates(Budgets({device: budget_ms}))[0]


def find_fronts(
    project: Project,
    devices: Sequence[str],
    precision: str = "int8",
    points: int = 20,
    out: str | Path | None = None,
    plot: str | Path | None = None,
) -> list[Choice]:
    """A front for each device, one search each: the best subnets at so many latencies, with those on the others.

    Args:
        project: the workdir.
        devices: whose fronts.
        precision: of the files that the tables are of.
        points: how many latencies, from the fastest to the largest subnet's.
        out: where to write the fronts as JSON, too.
        plot: where to draw them, too: a `.png` or `.svg` file.

    Returns:
        Front after front, by ascending latency.

    Raises:
        InfeasibleError: no subnet on a front fits into the memory of its device.
        OfaError: no such device, nothing trained yet, a picture of another kind, or a place that cannot be written.
    """
    if plot is not None:
        check_picture(plot)
    for option, place in (("--out", out), ("--plot", plot)):
        if place is not None:
            check_place(place, option)
    finder = Finder.of(project, devices, precision)
    fronts = {device: finder.front(device, points) for device in devices}
    choices = [choice for front in fronts.values() for choice in front]
    if out is not None:
        write_json(out, {"choices": [choice.to_document() for choice in choices]})
    if plot is not None:
        lines = {
            front[0].latencies[0].device: Series(
                [choice.latencies[0].predicted_ms for choice in front], [choice.predicted_accuracy for choice in front]
            )
            for front in fronts.values()
        }
        plot_fronts(plot, lines)
    return choices
