"""Where tables lie: in the workdir, and those that come with the package."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ofa_tf.lut
from ofa_tf.errors import DeviceError
from ofa_tf.latency.device import HostDevice
from ofa_tf.latency.table import LatencyTable

FOLDER = "lut"  # of a workdir
SHIPPED = Path(ofa_tf.lut.__file__).parent


def table_name(device: str, runtime: Mapping[str, Any], precision: str) -> str:
    """File name of a table: `<device>__<runtime>__<precision>.json`."""
    settings = f"{runtime['name']}-{runtime['version']}-{runtime['threads']}t-{runtime['delegate']}"
    return "__".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part) for part in (device, settings, precision)) + ".json"


def list_tables(folder: Path) -> list[tuple[Path, LatencyTable]]:
    """The tables of a workdir's folder and of the package, by path."""
    paths = [*sorted(folder.glob("*.json")), *sorted(SHIPPED.glob("*.json"))]
    return [(path, LatencyTable.load(path)) for path in paths]


def find_table(folder: Path, device: str, precision: str, host: HostDevice) -> LatencyTable | None:
    """The table of a device, or None where it has to be measured first, which only the host can be.

    Args:
        folder: tables of the workdir; they win over those of the package.
        device: its name.
        precision: of the files.
        host: this machine; its table must be of the same runtime and settings.

    Raises:
        DeviceError: no table has that name.
    """
    if device == "host":
        path = folder / table_name("host", host.runtime(), precision)
        return LatencyTable.load(path) if path.exists() else None
    tables = [table for _, table in list_tables(folder)]
    for table in tables:
        if table.device["name"] == device and table.precision == precision:
            return table
    known = sorted({"host"} | {table.device["name"] for table in tables if table.precision == precision})
    raise DeviceError(f"There is no table of a device {device!r} in {precision}; there are: {', '.join(known)}.")
