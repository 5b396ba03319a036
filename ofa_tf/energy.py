"""What work costs: time, processor time, energy and CO2e."""

import logging
import math
import os
import time
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from ofa_tf.errors import ArgumentError, FormatError
from ofa_tf.formatting import shown

POWER, GRID = "OFA_TF_POWER_W", "OFA_TF_GRID_G"  # variables of the environment
WORLD_GRID_G = 473.0  # per kWh, the world's mean of 2024 (Ember, "Global Electricity Review 2025")
MOST = 1e6  # of power and grid
MOST_COST = 1e15


@dataclass(frozen=True)
class Cost:
    """What a piece of work has cost.

    Args:
        seconds: wall time.
        processor_seconds: of all cores together, those of finished child processes included.
        kwh: energy of the machine meanwhile, in kWh; None where nobody knows it.
        co2e_kg: what the grid emitted for it, in kg of CO2 equivalents.
    """

    seconds: float
    processor_seconds: float
    kwh: float | None = None
    co2e_kg: float | None = None

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in ("kwh", "co2e_kg"):
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= MOST_COST:
                raise FormatError(f"`{field.name}` (={shown(value)}) must be a number from 0 to {MOST_COST:g}.")

    def __add__(self, other: "Cost") -> "Cost":
        """Both together; energy that is not known of one of them is not known of both."""

        def total(name: str) -> Any:
            one, two = getattr(self, name), getattr(other, name)
            return None if one is None or two is None else one + two

        return Cost(**{field.name: total(field.name) for field in fields(self)})

    def to_document(self) -> dict[str, float]:
        """The cost as JSON values; what is not known is left out."""
        return {name: value for name, value in self.__dict__.items() if value is not None}


@dataclass(frozen=True)
class Assumptions:
    """What energy and emissions are computed with.

    Args:
        power_w: what the machine draws while it works, in W; None to have codecarbon measure or estimate it.
        grid_g: what the grid emits, in g of CO2 equivalents per kWh.
    """

    power_w: float | None
    grid_g: float

    @classmethod
    def from_environment(cls) -> "Assumptions":
        """What `OFA_TF_POWER_W` and `OFA_TF_GRID_G` say.

        Raises:
            ArgumentError: one of them is not a positive number.
        """
        return cls(_number(POWER), _number(GRID) or WORLD_GRID_G)

    @property
    def known(self) -> bool:
        """Whether there is a power to compute energy with."""
        return self.power_w is not None or find_spec("codecarbon") is not None

    def __str__(self) -> str:
        if self.power_w is not None:
            power = f"{self.power_w:g} W, as {POWER} says"
        elif self.known:
            power = "measured or estimated by codecarbon"
        else:
            power = f"not known; install ofa-tf[energy] to have it measured, or set {POWER}"
        return f"power {power}; grid {self.grid_g:g} g CO2e per kWh ({GRID} sets another)"


def _number(variable: str) -> float | None:
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= MOST:
        raise ArgumentError(f"{variable} (={shown(text)}) must be a number above 0 and at most {MOST:g}.")
    return value


@lru_cache
def _tracker(grid_g: float) -> Any:
    """A running tracker of codecarbon, one for the process since each takes seconds to start; None without it."""
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        return None
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    tracker = OfflineEmissionsTracker(
        output_methods=[],
        log_level="critical",
        allow_multiple_runs=True,
        force_carbon_intensity_g_co2e_kwh=grid_g,
    )
    tracker.start()
    return tracker


class Meter:
    """Measures what work costs from when it is made.

    Energy is the given power times the wall time, or what codecarbon measures of the whole machine (RAPL) or, where it
    cannot, estimates from the processor's load and thermal design power.

    Raises:
        ArgumentError: power or grid in the environment are no positive numbers.
    """

    def __init__(self):
        self.assumptions = Assumptions.from_environment()
        self._before = self._read()

    def lap(self) -> Cost:
        """What the work since the last lap has cost."""
        before, self._before = self._before, self._read()
        seconds, processor, kwh = self._before
        if kwh is None or before[2] is None:
            return Cost(seconds - before[0], processor - before[1])
        kwh = max(kwh - before[2], 0.0)
        return Cost(seconds - before[0], processor - before[1], kwh, kwh * self.assumptions.grid_g / 1000)

    def _read(self) -> tuple[float, float, float | None]:
        """Seconds, processor seconds and kWh since some moment."""
        tracker = None if self.assumptions.power_w is not None else _tracker(self.assumptions.grid_g)
        emitted_kg = None if tracker is None else tracker.flush()
        kwh = None if emitted_kg is None else emitted_kg * 1000 / self.assumptions.grid_g
        seconds, times = time.monotonic(), os.times()
        if self.assumptions.power_w is not None:
            kwh = self.assumptions.power_w * seconds / 3.6e6
        return seconds, times.user + times.system + times.children_user + times.children_system, kwh
