"""From the name of a device to the device."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ofa_tf.errors import DeviceError
from ofa_tf.latency.adb import PROGRAM_VARIABLE, AdbDevice, choose_phone
from ofa_tf.latency.device import DELEGATES, Device, Workload
from ofa_tf.latency.host import HostDevice
from ofa_tf.progress import SILENT, Progress

ADB = "adb"
HOST = "host"


@dataclass(frozen=True)
class Settings:
    """How a device runs files; None leaves it to the device.

    Args:
        threads: of the interpreter.
        delegate: "none" or "xnnpack".
        cores: of the host, those that may be used.
        benchmark_model: the program for phones, or the app with it; its default is in the environment.
    """

    threads: int | None = None
    delegate: str | None = None
    cores: tuple[int, ...] = ()
    benchmark_model: str | None = None

    def chosen(self) -> dict:
        """Threads and delegate, where they are given."""
        given = {"threads": self.threads, "delegate": self.delegate}
        return {name: value for name, value in given.items() if value is not None}


DEFAULT = Settings()


def is_measurable(name: str) -> bool:
    """Whether a device of that name can be measured from here, if it is attached."""
    return name == HOST or is_phone(name)


def is_phone(name: str) -> bool:
    """Whether a device of that name is a phone behind adb."""
    return name == ADB or name.startswith(f"{ADB}:")


def open_device(name: str, settings: Settings = DEFAULT, host: HostDevice | None = None) -> Device:
    """The device of a name: `host`, `adb` or `adb:SERIAL`.

    Args:
        name: its name.
        settings: how it runs files.
        host: the host with other settings kept; None for a fresh one.

    Raises:
        DeviceError: no such device, it is not attached, or a setting that it does not have.
    """
    if name == HOST:
        return dataclasses.replace(host or HostDevice(), **settings.chosen(), cores=settings.cores)
    if not is_measurable(name):
        raise DeviceError(f"The device {name!r} cannot be measured from here; `host` and `adb:SERIAL` can.")
    if settings.cores:
        raise DeviceError("`cores` are those of the host; on a phone the fastest are used.")
    program = settings.benchmark_model or os.environ.get(PROGRAM_VARIABLE)
    if not program:
        raise DeviceError(
            "Phones are measured with TFLite's benchmark_model for their processor: name the file with "
            f"--benchmark-model or the variable {PROGRAM_VARIABLE}."
        )
    return AdbDevice(choose_phone(name.removeprefix(ADB).removeprefix(":")), Path(program), **settings.chosen())


def fastest(
    open_with: Callable[[Settings], Device],
    settings: Settings,
    files: Sequence[bytes],
    threads: Sequence[int],
    progress: Progress = SILENT,
) -> Settings:
    """Tries every delegate and number of threads on whole subnets.

    Args:
        open_with: makes the device.
        settings: what is kept; its threads and delegate are tried alone where they are given.
        files: of subnets.
        threads: numbers to try.
        progress: told what came of it.

    Returns:
        The settings with the least time for all the files, each at its 10th percentile.
    """
    tried: dict[Settings, float] = {}
    for count in [settings.threads] if settings.threads else threads:
        for delegate in [settings.delegate] if settings.delegate else DELEGATES:
            candidate = dataclasses.replace(settings, threads=count, delegate=delegate)
            timings = open_with(candidate).measure([Workload(content) for content in files])
            tried[candidate] = sum(timing.percentile_ms(10) for timing in timings) / len(files)
    shown = ", ".join(f"{s.threads} threads, delegate {s.delegate}: {ms:.3g} ms" for s, ms in tried.items())
    progress.note(f"Mean of {len(files)} subnets with {shown}.")
    return min(tried, key=lambda candidate: tried[candidate])
