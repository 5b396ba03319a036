"""The registry of backends: from the name of a device to everything that is specific to it."""

from collections.abc import Iterable
from importlib import import_module

import numpy as np

from ofa_tf.errors import DeviceError
from ofa_tf.latency.backend import Backend, MemoryLimit
from ofa_tf.latency.device import Device
from ofa_tf.latency.settings import DEFAULT, Settings
from ofa_tf.latency.table import LatencyTable
from ofa_tf.space import SearchSpace

# A row for each kind of device: its class, or where it is, to be loaded when it is first asked for. Later rooms of the
# library have kinds of their own, which this one must not import.
BACKENDS: dict[str, str | type[Backend]] = {
    "host": "ofa_tf.latency.host:HostBackend",
    "adb": "ofa_tf.latency.adb:AdbBackend",
    "edgetpu": "ofa_tf.edgetpu.backend:EdgeTpuBackend",
    "mcu": "ofa_tf.micro.backend:MicroBackend",
    "ethos-u55-128": "ofa_tf.ethosu.backend:EthosUBackend",
}


class TableOnly(Backend):
    """A device of which only its table is known, which was imported."""

    usage = ""
    precisions = ()
    measurable = False

    def recognises(self, name: str) -> bool:
        """It recognises no name."""
        return False

    def open(self, name: str, settings: Settings = DEFAULT, host: Device | None = None) -> Device:
        """There is no device to open.

        Raises:
            DeviceError: says which devices can be measured.
        """
        raise cannot_be_measured(name)


TABLE_ONLY = TableOnly()


def all_backends() -> Iterable[Backend]:
    """One of each kind."""
    for row in BACKENDS.values():
        if isinstance(row, str):
            module, _, name = row.partition(":")
            row = getattr(import_module(module), name)
        yield row()


def backend_of(name: str) -> Backend:
    """The backend of a device; for a name that none recognises, one that knows only tables."""
    return next((backend for backend in all_backends() if backend.recognises(name)), TABLE_ONLY)


def is_reserved(name: str) -> bool:
    """Whether a name belongs to a kind of device, so that no other device's table can have it."""
    return any(backend.recognises(name) for backend in all_backends())


def cannot_be_measured(name: str) -> DeviceError:
    """The error for a device that cannot be measured; it lists those that can."""
    *some, last = [
        f"`{backend.usage}`" for backend in all_backends() if backend.measurable and backend.source == "measured"
    ]
    return DeviceError(f"The device {name!r} cannot be measured from here; {', '.join(some)} and {last} can.")


def open_device(name: str, settings: Settings = DEFAULT, host: Device | None = None) -> Device:
    """The device of a name: `host`, `adb`, `adb:SERIAL`, `edgetpu`, `ethos-u55-128`.

    Args:
        name: its name.
        settings: how it runs files.
        host: this machine, with a way of measuring that is kept if it is the device; None for a fresh one.

    Raises:
        DeviceError: there is no such device, it is not at hand, or it lacks one of the settings.
    """
    return backend_of(name).open(name, settings, host)


def memory_limits(table: LatencyTable, space: SearchSpace, n_classes: int) -> list[MemoryLimit]:
    """The memories that archs have to fit into for a table to hold.

    Every backend is asked, because a table may have a name that says nothing about its device.
    """
    return [limit for backend in all_backends() for limit in backend.memory_limits(table, space, n_classes)]


def fits_memory(table: LatencyTable, space: SearchSpace, n_classes: int, codes: np.ndarray) -> np.ndarray:
    """Whether archs fit into the memories of a table's device, where its latencies hold: bool of shape (archs,)."""
    fits = [limit.fits(codes) for limit in memory_limits(table, space, n_classes)]
    return np.logical_and.reduce([np.ones(len(codes), bool), *fits])
