"""What a backend is: everything that is specific to one kind of device.

A new kind of device is a subclass of `Backend`, in a new module, and a row in `latency/backends.py`. Code that has the
name of a device asks its backend; no other module compares names.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ofa_tf.costs import ArchCosts
from ofa_tf.latency.device import Device
from ofa_tf.latency.settings import DEFAULT, Settings
from ofa_tf.latency.table import LatencyTable
from ofa_tf.precision import table_precisions
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import SearchSpace

THREADS = (1, 2, 4, 8)  # that are tried where the fastest settings are wanted


@dataclass(frozen=True)
class MemoryLimit:
    """A memory of a device, beyond which the latencies of its table are not valid.

    Args:
        name: what has to fit, such as "parameters in on-chip memory".
        costs: bytes that every arch of a space takes there.
        limit_bytes: size of the memory.
    """

    name: str
    costs: ArchCosts = field(repr=False)
    limit_bytes: int

    def fits(self, codes: np.ndarray) -> np.ndarray:
        """Whether archs, codes of shape (archs, genes), fit: bool of shape (archs,)."""
        return self.costs(codes) <= self.limit_bytes


@dataclass(frozen=True)
class Finished:
    """What a backend made from a finished file.

    Args:
        files: content by name, put beside the file in the export's folder.
        manifest: fields of the export's manifest and their values.
        notes: what to tell the user.
        content: the file itself, where it had to be completed; None where it stays as it is.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Memories:
    """What a device's memories leave to a network.

    Args:
        ram_bytes: for the interpreter and the activations.
        flash_bytes: for the file.
    """

    ram_bytes: int
    flash_bytes: int


@dataclass(frozen=True)
class Exported:
    """What is known of a file that a backend finishes.

    Args:
        classes: labels, in the order of the outputs.
        resolution: height and width of its input, in pixels.
        dtype: element type of its input, such as "int8".
        raw_pixels: whether its input takes pixels as they are (uint8), or minus 128 (int8).
        mean: `(pixel - mean) / std` is what the input stands for, before it is quantised; one number for each colour.
        std: standard deviation in it.
        scale: scale of the input's quantisation.
        zero_point: zero point of the input's quantisation.
        answers: validation images, at most as many as asked for, as the input stores them, and what LiteRT answers, as
            the output stores it: shapes (images, 1, size, size, 3) and (images, classes).
    """

    classes: Sequence[str]
    resolution: int
    dtype: str
    raw_pixels: bool
    mean: Sequence[float]
    std: Sequence[float]
    scale: float
    zero_point: int
    answers: Callable[[int], tuple[np.ndarray, np.ndarray]] = field(repr=False)


NOTHING_TO_FINISH = Finished()


class Backend(ABC):
    """A kind of device. It has no state; only `usage` and `open` have no default.

    Attributes:
        usage: how its names are written, such as `adb:SERIAL`.
        precisions: precisions that its tables can have.
        measurable: whether whole subnets are timed on it: to validate its table, and, unless latencies are modelled,
            when they are exported.
        always_at_hand: whether it can be used unasked, to time a search's candidates and exports without a table.
        runs_here: whether its interpreter is that of this machine, in which a child can tell load time and memory.
        cores_are_chosen: whether the user chooses its cores, so that they are part of the name of a table's file.
        tabulated: whether it has latency tables; else only its memories are limited.
        source: of the tables that are made with it: "measured", or "modelled" where a program estimates latencies.
        same_everywhere: whether every machine makes the same table, so that those of the package count as its own.
    """

    usage: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = table_precisions()
    measurable: ClassVar[bool] = True
    always_at_hand: ClassVar[bool] = False
    runs_here: ClassVar[bool] = False
    cores_are_chosen: ClassVar[bool] = True
    tabulated: ClassVar[bool] = True
    source: ClassVar[str] = "measured"
    same_everywhere: ClassVar[bool] = False

    # --- its names ---

    def recognises(self, name: str) -> bool:
        """Whether a device of that name is of this kind."""
        return name == self.usage

    def describe(self, name: str) -> str:
        """How a sentence names a device."""
        return name

    def option(self, name: str) -> str:
        """The option that chooses a device on the command line, with a space before it; empty for the default."""
        return f" --device {name}"

    def name_from_here(self, device: Mapping[str, Any]) -> str:
        """What a device with such facts is called on this machine."""
        return device["name"]

    # --- what runs on it ---

    @abstractmethod
    def open(self, name: str, settings: Settings = DEFAULT, host: Device | None = None) -> Device:
        """The device of a name.

        Args:
            name: a name that `recognises` accepts.
            settings: how it runs files.
            host: this machine, with a way of measuring that is kept if it is the device; None for a fresh one.

        Raises:
            AbsentError: it is not at hand, and `model_table` can stand in for it.
            DeviceError: it is not at hand, or does not have one of the settings.
        """

    def settings_of(self, table: LatencyTable, settings: Settings = DEFAULT) -> Settings:
        """The settings that a table was measured with; what a table does not say comes from `settings`."""
        return dataclasses.replace(settings, threads=table.runtime["threads"], delegate=table.runtime["delegate"])

    def threads_to_try(self) -> Sequence[int]:
        """Numbers of threads to try when looking for the fastest; none for a device without settings."""
        return THREADS

    def require_legal(self, space: SearchSpace, precision: str) -> None:  # noqa: B027 (most devices run everything)
        """Refuses what the device cannot run, before any work is wasted.

        Raises:
            DeviceError: says what of the space, or that it is the precision.
        """

    def with_file(self, device: Device, content: bytes, progress: Progress = SILENT) -> Device:
        """The device made ready for one file, which may come from anywhere.

        Args:
            device: as `open` gives it.
            content: the file.
            progress: where to report what of the file does not run there.

        Raises:
            ExportError: the file cannot be made into one that the device runs.
        """
        return device

    def finish(self, content: bytes, allow_cpu: bool = False, name: str = "") -> Finished:
        """Checks the file of an export, and makes what else the device needs.

        Args:
            content: the file.
            allow_cpu: whether operators that the device does not have may run on the CPU.
            name: name of the device.

        Raises:
            ExportError: an operator would run on the CPU and may not, or a compiler fails.
        """
        return NOTHING_TO_FINISH

    def complete(self, content: bytes, about: Exported) -> Finished:
        """Completes the file of an export before it is finished, and makes what a program for the device needs.

        Args:
            content: the file.
            about: what else is known of it.

        Raises:
            ExportError: the file is not what the device needs.
        """
        return NOTHING_TO_FINISH

    def memories(self, name: str) -> Memories | None:
        """The memories of the device of a name, where they limit a network; None where they are not known.

        Raises:
            DeviceError: there is no such device.
        """
        return None

    # --- its tables ---

    @property
    def takes_shipped(self) -> bool:
        """Whether a table that comes with ofa-tf is gone by: not where one is better made for the space at hand."""
        return not self.precisions or self.same_everywhere

    def in_passes(self, device: Device, passes: int) -> tuple[Device, int]:
        """The device as it measures a table, and in how many passes over all files: `passes`, unless it needs fewer."""
        return device, passes

    def model_table(self, space: SearchSpace, n_classes: int, progress: Progress = SILENT) -> LatencyTable | None:
        """The table of a space where the device is not at hand; None for a device that has to be measured."""
        return None

    def whose_table(self, name: str, tabulated: Collection[str]) -> str:
        """The device whose table a search goes by.

        Args:
            name: name of the device, as the user gives it.
            tabulated: names of all devices that have a table.

        Raises:
            DeviceError: it may be one of several.
        """
        return name

    def counts(self, table: LatencyTable) -> bool:
        """Whether a table still says how fast the device is."""
        return True

    def rank(self, table: LatencyTable) -> int:
        """Which of its tables is preferred: the one with the lowest number, then the fastest."""
        return 0

    def memory_limits(self, table: LatencyTable, space: SearchSpace, n_classes: int) -> Sequence[MemoryLimit]:
        """The memories that archs of a space must fit into, if a table is of this kind of device, whatever its name."""
        return ()


class FixedBackend(Backend):
    """A kind of device that runs files in only one way."""

    def settings_of(self, table: LatencyTable, settings: Settings = DEFAULT) -> Settings:
        """It has none."""
        return settings

    def threads_to_try(self) -> Sequence[int]:
        """It has no settings."""
        return ()
