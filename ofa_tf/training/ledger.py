"""The ledger of a workdir: which stages are done, how far the others are, and what came out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ofa_tf.energy import Cost
from ofa_tf.errors import FormatError
from ofa_tf.jsonio import check_keys, from_document, read_json, write_json
from ofa_tf.training.recipe import STAGES

STATES = ("running", "done")
OVERRIDES = ("epochs", "batch", "base_lr")


@dataclass(frozen=True)
class StageRecord:
    """Where one stage stands.

    Args:
        state: "running" or "done".
        step: steps done.
        steps: steps in all; 0 before the first.
        metrics: what was measured at its end, by name.
        overrides: what the user has chosen instead of the recipe's values: `epochs`, `batch` or `base_lr`.
        images: number of training images that the steps were planned for; 0 where that is not known.
        source: of an imported stage, the `address` that its weights come from and the `sha256` of the file.
        cost: what it has cost so far, its evaluations included; None where that is not known.
    """

    state: str
    step: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    images: int = 0
    source: Mapping[str, str] | None = None
    cost: Cost | None = field(default=None, compare=False)

    def __post_init__(self):
        whole = all(
            isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in (self.step, self.steps, self.images)
        )
        numbers = (self.metrics, self.overrides)
        if self.state not in STATES or not whole or not all(isinstance(group, Mapping) for group in numbers):
            raise FormatError("its values are not those of a stage.")
        check_keys(self.overrides, set(), set(OVERRIDES), "its `overrides`")
        for name, value in [item for group in numbers for item in group.items()]:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise FormatError(f"`{name}` (={value!r}) must be a number.")
        if self.source is not None:
            check_keys(self.source, {"address", "sha256"}, set(), "its `source`")
        if self.cost is not None and not isinstance(self.cost, Cost):
            object.__setattr__(self, "cost", from_document(Cost, self.cost, "its `cost`"))


class Ledger:
    """The stages of a workdir, kept in `ledger.json`.

    Args:
        path: the file; it need not exist yet.

    Attributes:
        init: of pretrained weights that training began with, `name`, `address` and `sha256`; None for random ones.
        costs: what other work has cost, by what it was, such as "predictor".
    """

    def __init__(self, path: Path):
        self.path = path
        self.stages: dict[str, StageRecord] = {}
        self.init: Mapping[str, str] | None = None
        self.costs: dict[str, Cost] = {}
        if path.exists():
            document = read_json(path)
            check_keys(document, {"stages"}, {"init", "costs"}, str(path))
            self.init = document.get("init")
            if self.init is not None:
                check_keys(self.init, {"name", "address", "sha256"}, set(), f"{path}, `init`,")
            costs = document.get("costs", {})
            check_keys(costs, set(), set(costs), f"{path}, `costs`,")
            self.costs = {name: from_document(Cost, cost, f"{path}, `costs`,") for name, cost in costs.items()}
            check_keys(document["stages"], set(), set(STAGES), f"{path}, `stages`,")
            for stage, record in document["stages"].items():
                try:
                    self.stages[stage] = from_document(StageRecord, record, "it")
                except FormatError as error:
                    raise FormatError(f"{path}, stage {stage!r}: {error}") from None

    def done(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return stage in self.stages and self.stages[stage].state == "done"

    @property
    def source(self) -> Mapping[str, str] | None:
        """Where the weights of an imported network come from; None for one that was trained here."""
        return next((record.source for record in self.stages.values() if record.source is not None), None)

    @property
    def imported(self) -> bool:
        """Whether the network was imported instead of trained."""
        return self.source is not None

    def begin_with(self, init: Mapping[str, str]) -> None:
        """Writes down which weights training begins with."""
        self.init = init
        self._save()

    def record(self, stage: str, record: StageRecord) -> None:
        """Writes down where a stage stands."""
        self.stages[stage] = record
        self._save()

    def spend(self, work: str, cost: Cost) -> None:
        """Writes down what work other than a stage has cost, beside what it has cost before."""
        self.costs[work] = self.costs[work] + cost if work in self.costs else cost
        self._save()

    def forget(self, stages: tuple[str, ...]) -> None:
        """Removes stages, before they are started again; what they have cost stays on record."""
        for stage in stages:
            record = self.stages.pop(stage, None)
            if record is not None and record.cost is not None:
                work = f"stage {stage}, trained before"
                self.costs[work] = self.costs[work] + record.cost if work in self.costs else record.cost
        self._save()

    def _save(self) -> None:
        records: dict[str, Any] = {
            stage: _document(record)
            for stage, record in sorted(self.stages.items(), key=lambda item: STAGES.index(item[0]))
        }
        init = {} if self.init is None else {"init": dict(self.init)}
        costs = {"costs": {work: cost.to_document() for work, cost in self.costs.items()}} if self.costs else {}
        write_json(self.path, {**init, "stages": records, **costs})


def _document(record: StageRecord) -> dict[str, Any]:
    document = {**record.__dict__, "metrics": dict(record.metrics), "overrides": dict(record.overrides)}
    optional = {
        "source": None if record.source is None else dict(record.source),
        "cost": None if record.cost is None else record.cost.to_document(),
    }
    for name, value in optional.items():
        del document[name]
        if value is not None:
            document[name] = value
    return document
