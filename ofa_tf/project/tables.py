"""Which latency table a step goes by, and the device that it is of."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ofa_tf.blocks import count_macs, walk
from ofa_tf.errors import FormatError, TableError
from ofa_tf.latency.backends import backend_of, is_reserved
from ofa_tf.latency.device import Device
from ofa_tf.latency.host import HostDevice
from ofa_tf.latency.settings import DEFAULT, Settings
from ofa_tf.latency.store import find_table, find_table_file, list_tables, seen_from_here
from ofa_tf.latency.table import LatencyTable
from ofa_tf.precision import table_precisions
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.workdir import Workdir
from ofa_tf.space import SearchSpace


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
    try:
        return find_table(
            project.workdir.tables, device, precision, lambda table: _ms_per_mac(table, space, n_classes), shipped
        )
    except FormatError as error:
        raise FormatError(f"{error} Remove it, or measure it again: `ofa-tf lut build`.") from None


def find_named_table(name: str | Path, workdir: Workdir, precision: str | None = None) -> tuple[Path, LatencyTable]:
    """The table that a user names, and its file.

    Args:
        name: a device: its table is the one that a search goes by; or a table of the workdir or of the package by the
            name of its file; or any file.
        workdir: the project; need not be set up.
        precision: of a device's table; None for int8, or for the first of the others that it has.

    Raises:
        TableError: there is no such device, table or file.
        DeviceError: it may be one of several phones.
        FormatError: the file of a table is damaged.
    """
    name = str(name)
    if (os.sep in name or name.endswith(".json")) and os.path.isfile(name):
        return Path(name), seen_from_here(LatencyTable.load(name))
    tables = list_tables(workdir.tables)
    for path, table in tables:
        if name in (path.name, path.stem):
            return path, table
    names = {table.device["name"] for _, table in tables}
    if name in names or is_reserved(name):
        return _find_device(name, workdir, tables, (precision,) if precision else table_precisions())
    if os.path.isfile(name):
        return Path(name), seen_from_here(LatencyTable.load(name))
    if os.path.isdir(name):
        raise TableError(f"{name!r} is a directory: name a device or the file of a table.")
    known = f"there are {', '.join(sorted(names))}" if names else "there are none yet"
    if os.sep in name or name.endswith(".json"):
        raise TableError(f"The file {name!r} does not exist; of the devices that have a table, {known}.")
    raise TableError(f"{name!r} is neither a device that has a table ({known}) nor the file of one.")


def _find_device(
    device: str, workdir: Workdir, tables: Sequence[tuple[Path, LatencyTable]], precisions: Sequence[str]
) -> tuple[Path, LatencyTable]:
    """The table of a device in the first of some precisions in which it has one, of all that there are."""
    config = workdir.config() if workdir.exists else None

    def slowness(table: LatencyTable) -> float:
        return 0.0 if config is None else _ms_per_mac(table, config.space, config.n_classes)

    backend = backend_of(device)
    for precision in precisions:
        names = {table.device["name"] for _, table in tables if table.precision == precision}
        if backend.whose_table(device, names) in names:
            found = find_table_file(workdir.tables, device, precision, slowness)
            if found is not None:
                return found
    kind, option = "", backend.option(device)
    if len(precisions) == 1:
        kind, option = f"{precisions[0]} ", f"{option} --precision {precisions[0]}"
    raise TableError(
        f"There is no {kind}table of {backend.describe(device)} yet: measure one with `ofa-tf lut build{option}`, or "
        "choose another from `ofa-tf lut list`."
    )


def _ms_per_mac(table: LatencyTable, space: SearchSpace, n_classes: int) -> float:
    """Of the largest subnet that a table knows, so that tables of other resolutions compare."""
    try:
        arch = space.largest(table.resolutions(space, n_classes)[-1])
    except (IndexError, TableError):
        return np.inf
    return table.costs(space, n_classes)(space.encode([arch]))[0] / count_macs(walk(space, arch, n_classes))
