"""What a device is: something that runs files and reports how long they took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from ofa_tf.errors import DeviceError
from ofa_tf.progress import SILENT, Progress

DELEGATES = ("none", "xnnpack")
STEADY = 1.25  # largest median over p10 of runs without a warning; on a quiet machine it was 1.02 to 1.06


@dataclass(frozen=True)
class Workload:
    """A file to time.

    Args:
        content: the `.tflite` file.
        in_size: height and width to resize its input to, or None to leave it.
    """

    content: bytes = field(repr=False)
    in_size: int | None = None


@dataclass(frozen=True)
class Timing:
    """The result of timing a file.

    Args:
        runs_ms: duration of each run, or of each call of a program that reports only its average; shape (runs,).
    """

    runs_ms: np.ndarray

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the runs, in milliseconds."""
        return float(np.percentile(self.runs_ms, percent))

    @property
    def caution(self) -> str | None:
        """A warning that the device was busy; None if the runs agree well enough."""
        quick_ms, median_ms = self.percentile_ms(10), self.percentile_ms(50)
        if median_ms <= STEADY * quick_ms:
            return None
        return (
            f"The device was busy, or changed its speed: half of the runs took {median_ms:.3g} ms or more, the "
            f"fastest tenth {quick_ms:.3g} ms or less. Measure again when it is quiet."
        )


def check_settings(threads: int, delegate: str) -> None:
    """Refuses settings that no runtime has.

    Raises:
        DeviceError: names the setting.
    """
    if delegate not in DELEGATES:
        raise DeviceError(f"`delegate` (={delegate!r}) must be one of {list(DELEGATES)}.")
    if threads < 1:
        raise DeviceError(f"`threads` (={threads}) must be at least 1.")


class Device(Protocol):
    """What a device must be able to do. `resizes` says whether a file may be run at another input size."""

    resizes: ClassVar[bool]

    def facts(self) -> Mapping[str, Any]:
        """`name`, and what else is known: model, processor, operating system."""
        ...

    def runtime(self) -> Mapping[str, Any]:
        """`name`, `version`, `threads` and `delegate` of what runs the files."""
        ...

    def measure(self, workloads: Sequence[Workload], seed: int = 0, progress: Progress = SILENT) -> list[Timing]:
        """Times files, in shuffled rounds over all of them.

        Raises:
            DeviceError: the device is not there, refuses a file, or cannot be measured as it is.
        """
        ...
