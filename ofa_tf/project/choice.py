"""The budgets of a search, and what is known about a subnet that it finds: predicted, then verified."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ofa_tf.formatting import milliseconds, percent
from ofa_tf.frames import to_frame
from ofa_tf.space import Arch

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Budgets:
    """The most that a subnet may cost; None for no limit.

    Args:
        latency_ms: milliseconds on each device, all at the same time; None where a device's latency is only shown.
        n_macs: multiply-accumulates for one image.
        n_params: trainable parameters.
        size_bytes: predicted size of the file.
        ram_bytes: predicted RAM of an int8 file in TensorFlow Lite Micro.
        target: the name of a device that has no latencies, only memories; None for none.
    """

    latency_ms: Mapping[str, float | None] = field(default_factory=dict)
    n_macs: float | None = None
    n_params: float | None = None
    size_bytes: float | None = None
    ram_bytes: float | None = None
    target: str | None = None

    @property
    def given(self) -> bool:
        """Whether anything is limited."""
        limits = (*self.latency_ms.values(), self.n_macs, self.n_params, self.size_bytes, self.ram_bytes)
        return any(limit is not None for limit in limits)


@dataclass(frozen=True)
class Latency:
    """A latency predicted by a table.

    Args:
        device: label of the table, with its precision and source.
        table_source: "measured", "modelled" or "imported".
        budget_ms: the budget in milliseconds; None where it was not limited.
        predicted_ms: the latency predicted by the table.
        predicted_ms_error: mean error of the table on whole subnets, as a share; None if it was not validated.
        name: name of the device, as the user gave it.
        validated_on: what the error was found on: "whole subnets" or "published networks".
    """

    device: str
    table_source: str
    budget_ms: float | None
    predicted_ms: float
    predicted_ms_error: float | None
    name: str = ""
    validated_on: str = "whole subnets"

    def to_document(self) -> dict[str, Any]:
        """The latency as JSON values."""
        return {key: value for key, value in self.__dict__.items() if key not in ("name", "validated_on")}


@dataclass(frozen=True, repr=False)
class Choice:
    """A subnet found for budgets or on a front; latency, accuracy and file size are predictions.

    Args:
        arch: the subnet.
        latencies: the latency on each device; on a front, the front's own device comes first.
        predicted_accuracy: accuracy given by the predictor (0 to 1).
        accuracy_spread: standard deviation over the predictor's networks; None if it has only one.
        predictor_rmse_points: the predictor's error on subnets that it had not seen, in points; None if not known.
        predictor_origin: "fitted" in this workdir, "fitted int8" to the accuracies of int8 files, or "imported".
        n_macs: multiply-accumulates for one image.
        n_params: trainable parameters.
        precision: precision of the file.
        predicted_bytes: predicted size of the file.
        verified: the candidates that it was chosen from, evaluated and measured, best first; may be empty.
        predictor_caution: a sentence, if the predictor cannot rank subnets.
        predicted_ram_bytes: predicted RAM of an int8 file in TensorFlow Lite Micro; None of other precisions.
        target: the name of the device that it was searched for, if that has no latencies.
        budget_ram_bytes: budget of RAM; None for none.
        budget_size_bytes: budget of the file's size; None for none.
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
    verified: tuple["Verified", ...] = ()
    predictor_caution: str | None = None
    predicted_ram_bytes: int | None = None
    target: str | None = None
    budget_ram_bytes: float | None = None
    budget_size_bytes: float | None = None

    def __repr__(self) -> str:
        latencies = [
            f"{milliseconds(found.predicted_ms, found.predicted_ms_error)} on {found.device}"
            for found in self.latencies
        ]
        sizes = f"{self.n_macs / 1e6:.2f} M MACs, {self.predicted_bytes / 1e3:.0f} kB"
        if self.target and self.predicted_ram_bytes is not None:
            sizes += f", {self.predicted_ram_bytes / 1e3:.1f} kB of RAM"
        figures = ", ".join([*latencies, f"{percent(self.predicted_accuracy)} predicted", sizes])
        return f"Choice({self.arch}: {figures})"

    @property
    def device(self) -> str | None:
        """The name of the first device."""
        return self.latencies[0].name if self.latencies else self.target

    @property
    def device_label(self) -> str:
        """The first device, with the precision and the source of its table if it has one."""
        return self.latencies[0].device if self.latencies else str(self.target)

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
        """The choice as JSON values; those of the first device stand beside the rest."""
        latencies = [latency.to_document() for latency in self.latencies]
        facts = {key: value for key, value in self.__dict__.items() if key not in ("verified", "predictor_caution")}
        return {**(latencies[0] if latencies else {}), **facts, "latencies": latencies, "arch": self.arch.to_document()}


@dataclass(frozen=True)
class Verified:
    """A candidate and its true figures.

    Args:
        choice: the candidate with its predictions.
        accuracy: top-1 on held-out training images, batch norm recalibrated, before quantisation (0 to 1).
        images: number of these images.
        measured_ms: measured latency of its file on this machine, by the table's statistic; None where the host was not
            among the devices.
    """

    choice: Choice
    accuracy: float
    images: int
    measured_ms: float | None

    def to_document(self) -> dict[str, Any]:
        """The candidate as JSON values."""
        facts = {key: value for key, value in self.__dict__.items() if key != "choice"}
        return {**self.choice.to_document(), **facts}


@dataclass(frozen=True)
class Step:
    """What a subnet of a front has over the one before it, and what it costs; both predicted.

    Args:
        gained_points: accuracy, in percentage points.
        extra_ms: latency on the front's device; None on a front over RAM.
        extra_ram_bytes: RAM; None on a front over latency.
    """

    gained_points: float
    extra_ms: float | None
    extra_ram_bytes: int | None = None

    @classmethod
    def between(cls, before: Choice, choice: Choice) -> "Step":
        """The step from one subnet of a front to the next."""
        gained_points = 100 * (choice.predicted_accuracy - before.predicted_accuracy)
        if choice.predicted_ms is not None and before.predicted_ms is not None:
            return cls(gained_points, choice.predicted_ms - before.predicted_ms)
        return cls(gained_points, None, (choice.predicted_ram_bytes or 0) - (before.predicted_ram_bytes or 0))


class Fronts(list[Choice]):
    """The subnets of one or several fronts, by ascending latency on the device of each front, or by ascending RAM."""

    __slots__ = ()

    @property
    def steps(self) -> list[Step | None]:
        """What each subnet has over the one before; None for the first of a front."""
        found: list[Step | None] = [None] * len(self)
        for index, (before, choice) in enumerate(pairwise(self), 1):
            if before.device_label == choice.device_label:
                found[index] = Step.between(before, choice)
        return found

    def to_documents(self) -> list[dict[str, Any]]:
        """The subnets as JSON values, with what each has over the one before."""
        nothing = dict.fromkeys(Step.__dataclass_fields__)
        steps = [nothing if step is None else step.__dict__ for step in self.steps]
        return [{**choice.to_document(), **step} for choice, step in zip(self, steps, strict=True)]

    def __repr__(self) -> str:
        lines = "".join(f"\n  {choice}" for choice in self)
        return f"{len(self)} subnets:{lines}"

    def to_pandas(self) -> "pandas.DataFrame":
        """A row for each subnet, with what it has over the one before: all predicted, accuracy from 0 to 1.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        columns = ("device", "predicted_ms", "predicted_accuracy", "n_macs", "n_params", "predicted_bytes",
                   "predicted_ram_bytes")  # fmt: skip
        rows = []
        for choice, step in zip(self, self.steps, strict=True):
            gained = {name: getattr(step, name, None) for name in Step.__dataclass_fields__}
            rows.append({"arch": choice.arch, **{name: getattr(choice, name) for name in columns}, **gained})
        return to_frame(rows)
