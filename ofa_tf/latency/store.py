"""Where tables are kept: in the workdir and in the package.

A table of the device `host` belongs to the machine that measured it. On another machine, which shares the workdir or
has a copy of it, its device is named after its processor, such as `host-amd-epyc`.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from math import isinf
from pathlib import Path
from typing import Any

from ofa_tf.errors import DeviceError, WorkdirError
from ofa_tf.latency.backends import all_backends, backend_of, is_reserved
from ofa_tf.latency.table import LatencyTable

FOLDER = "lut"  # of a workdir
SHIPPED = Path(str(files("ofa_tf.lut")))


def table_name(device: Mapping[str, Any], runtime: Mapping[str, Any], precision: str) -> str:
    """File name of a table: `<device>__<runtime>__<precision>.json`; it also names cores that were chosen."""
    settings = f"{runtime['name']}-{runtime['version']}-{runtime['threads']}t-{runtime['delegate']}"
    if device.get("cores") and backend_of(device["name"]).cores_are_chosen:
        settings += "-cores-" + "-".join(map(str, device["cores"]))
    parts = device["name"], settings, precision
    return "__".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part) for part in parts) + ".json"


def renamed(table: LatencyTable, device: str) -> LatencyTable:
    """The table under another name of its device.

    Raises:
        DeviceError: no table can have that name.
    """
    if not device.strip() or is_reserved(device):
        raise DeviceError(f"A table cannot be called {device!r}: choose a name such as `pi4`.")
    return dataclasses.replace(table, device={**table.device, "name": device})


def seen_from_here(table: LatencyTable) -> LatencyTable:
    """The table, with its device named after its processor if it is the `host` of another machine."""
    name = name_from_here(table.device)
    return table if name == table.device["name"] else renamed(table, name)


def name_from_here(device: Mapping[str, Any]) -> str:
    """The name, on this machine, of a device with these facts."""
    return backend_of(device["name"]).name_from_here(device)


def add_table(folder: Path, table: LatencyTable, replace: bool = False) -> Path:
    """Writes a table into a folder, under the name of its device, runtime and precision.

    Args:
        folder: made if it is not there.
        table: the table.
        replace: whether a table of the same name may be replaced.

    Raises:
        WorkdirError: the folder has a table of that name.
    """
    if not replace:
        refuse_existing(folder, table)
    path = folder / table_name(table.device, table.runtime, table.precision)
    folder.mkdir(parents=True, exist_ok=True)
    table.save(path)
    return path


def refuse_existing(folder: Path, table: LatencyTable) -> None:
    """Refuses a table where a folder has one of its name.

    Raises:
        WorkdirError: it has.
    """
    path = folder / table_name(table.device, table.runtime, table.precision)
    if path.exists():
        raise WorkdirError(f"{path} exists: replace it with --force.")


def list_tables(folder: Path) -> list[tuple[Path, LatencyTable]]:
    """The tables of a workdir's folder and of the package, by path, as seen from this machine."""
    paths = [*sorted(folder.glob("*.json")), *sorted(SHIPPED.glob("*.json"))]
    return [(path, seen_from_here(LatencyTable.load(path))) for path in paths]


def find_table(
    folder: Path, device: str, precision: str, cost: Callable[[LatencyTable], float], shipped: bool = True
) -> LatencyTable | None:
    """The table of a device, as `find_table_file`."""
    found = find_table_file(folder, device, precision, cost, shipped)
    return None if found is None else found[1]


def find_table_file(
    folder: Path, device: str, precision: str, cost: Callable[[LatencyTable], float], shipped: bool = True
) -> tuple[Path, LatencyTable] | None:
    """The table of a device, and its file; None for a device whose table can be made first.

    A device may have been measured with several settings of its runtime: the fastest is taken, of the tables that its
    backend puts first. Of the host, only tables of the runtime that is installed count; `adb` is the only phone that
    has a table; of an Edge TPU a measured table goes before a modelled one.

    Args:
        folder: tables of the workdir; they win over those of the package.
        device: its name.
        precision: of the files.
        cost: how slow the networks in question are by a table; infinite where it does not cover them.
        shipped: whether those of the package count.

    Raises:
        DeviceError: no table has that name, and none can be made for it; or several phones have one.
    """
    backend = backend_of(device)
    tables = [(path, table) for path, table in list_tables(folder) if table.precision == precision]
    device = backend.whose_table(device, {table.device["name"] for _, table in tables})
    named = [(path, table) for path, table in tables if table.device["name"] == device and backend.counts(table)]
    own = [(path, table) for path, table in named if path.parent == folder]
    if found := own or (named if shipped else []):

        def order(entry: tuple[Path, LatencyTable]) -> tuple[bool, int, float]:
            return isinf(slowness := cost(entry[1])), backend.rank(entry[1]), slowness

        return min(found, key=order)
    if precision in backend.precisions:
        return None
    at_hand = {backend.usage for backend in all_backends() if backend.always_at_hand}
    known = sorted(at_hand | {table.device["name"] for _, table in tables})
    raise DeviceError(f"There is no table of a device {device!r} in {precision}; there is one of {', '.join(known)}.")
