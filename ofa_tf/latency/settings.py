"""How a device runs files: what a user may choose, and choosing what is fastest."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ofa_tf.errors import DeviceError
from ofa_tf.latency.device import DELEGATES, Device, Workload
from ofa_tf.progress import SILENT, Progress


@dataclass(frozen=True)
class Settings:
    """How a device runs files; None leaves it to the device.

    Args:
        threads: threads of the interpreter.
        delegate: "none" or "xnnpack".
        cores: processor cores of the host that may be used.
        benchmark_model: the program for phones, or the app that contains it; the default is in the environment.
        app: the benchmark app for phones, which runs files itself; the default is in the environment.
    """

    threads: int | None = None
    delegate: str | None = None
    cores: tuple[int, ...] = ()
    benchmark_model: str | None = None
    app: str | None = None

    def chosen(self) -> dict:
        """Threads and delegate, where they are given."""
        given = {"threads": self.threads, "delegate": self.delegate}
        return {name: value for name, value in given.items() if value is not None}


DEFAULT = Settings()


def refuse_settings(settings: Settings, what: str) -> None:
    """Refuses all settings, for a device that has none.

    Args:
        settings: what the user chose.
        what: the device, as a sentence begins with it.

    Raises:
        DeviceError: something was chosen.
    """
    if settings != DEFAULT:
        raise DeviceError(f"{what} has no settings: leave out threads, delegate, cores, benchmark_model and app.")


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
        settings: what is kept; its threads and delegate are the only ones tried where they are given.
        files: of subnets.
        threads: numbers to try.
        progress: where to report the results.

    Returns:
        The settings with the least time for all the files, each at its 10th percentile.
    """
    tried: dict[Settings, float] = {}
    for count in [settings.threads] if settings.threads else threads:
        for delegate in [settings.delegate] if settings.delegate else DELEGATES:
            candidate = dataclasses.replace(settings, threads=count, delegate=delegate)
            timings = open_with(candidate).measure([Workload(content) for content in files])
            tried[candidate] = sum(timing.percentile_ms(10) for timing in timings) / len(files)
    shown = ", ".join(
        f"{s.threads} thread{'s'[: s.threads != 1]}, delegate {s.delegate}: {ms:.3g} ms" for s, ms in tried.items()
    )
    progress.note(f"Mean latency of {len(files)} subnets with {shown}.")
    return min(tried, key=lambda candidate: tried[candidate])
