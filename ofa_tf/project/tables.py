"""Which latency table a step goes by, and the device that it is of."""

import numpy as np

from ofa_tf.blocks import count_macs, walk
from ofa_tf.errors import FormatError, TableError
from ofa_tf.latency.backends import backend_of
from ofa_tf.latency.device import Device
from ofa_tf.latency.host import HostDevice
from ofa_tf.latency.settings import DEFAULT, Settings
from ofa_tf.latency.store import find_table
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project.opened import OpenedWorkdir


def device_of(table: LatencyTable, host: HostDevice, settings: Settings = DEFAULT) -> Device:
    """The device that a measured table is of, with the settings that it was measured with.

    Args:
        table: the table.
        host: the host, whose way of measuring is kept.
        settings: what a table does not tell.

    Raises:
        DeviceError: it is not at hand.
    """
    name = table.device["name"]
    backend = backend_of(name)
    return backend.open(name, backend.settings_of(table, settings), host)


def find_device_table(project: OpenedWorkdir, device: str, precision: str, shipped: bool = True) -> LatencyTable | None:
    """The table of a device that a search goes by, as `find_table`; None if it has to be made first.

    Raises:
        DeviceError: no such device.
        FormatError: the file of a table is damaged.
    """
    space, n_classes = project.config.space, project.config.n_classes

    def ms_per_mac(table: LatencyTable) -> float:
        """Of the largest subnet that the table knows, so that tables of other resolutions compare."""
        try:
            arch = space.largest(table.resolutions(space, n_classes)[-1])
        except (IndexError, TableError):
            return np.inf
        return table.costs(space, n_classes)(space.encode([arch]))[0] / count_macs(walk(space, arch, n_classes))

    try:
        return find_table(project.workdir.tables, device, precision, ms_per_mac, shipped)
    except FormatError as error:
        raise FormatError(f"{error} Remove it, or measure it again: `ofa-tf lut build`.") from None
