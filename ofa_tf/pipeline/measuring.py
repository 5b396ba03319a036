"""The latency tables of a workdir: measured, validated, looked up."""

from collections.abc import Sequence
from pathlib import Path

from ofa_tf.errors import DeviceError, FormatError, WorkdirError
from ofa_tf.export.convert import BlockConverter
from ofa_tf.latency import edgetpu
from ofa_tf.latency.measure import build_table, validate_table
from ofa_tf.latency.store import find_table, table_name
from ofa_tf.latency.table import LatencyTable
from ofa_tf.pipeline.edgetpu import build_edgetpu_table, get_edgetpu_table
from ofa_tf.project import Project


def measure_table(
    project: Project, device: str = "host", precision: str = "int8", resolutions: Sequence[int] | None = None
) -> tuple[Path, LatencyTable]:
    """Measures the latency table of a device for the workdir's space and keeps it; an Edge TPU not at hand is modelled.

    Raises:
        DeviceError: the device is not at hand.
    """
    if device not in ("host", edgetpu.NAME):
        raise DeviceError(f"The device {device!r} cannot be measured from here; `host` can.")
    config, host = project.config, project.host
    unknown = sorted(set(resolutions or ()) - set(config.space.resolutions))
    if unknown:
        raise DeviceError(f"`resolution` (={unknown[0]}) must be one of the space's {list(config.space.resolutions)}.")
    if device == edgetpu.NAME:
        return build_edgetpu_table(project, precision, resolutions)
    n_classes = len(config.classes)
    converter = BlockConverter(config.space, n_classes, precision)
    with project.workdir.lock():
        table = build_table(
            config.space,
            n_classes,
            precision,
            host,
            converter,
            resolutions,
            seed=config.seed,
            progress=project.progress,
        )
        path = project.workdir.tables / table_name("host", host.runtime(), precision)
        path.parent.mkdir(exist_ok=True)
        table.save(path)
    return path, table


def validate(
    project: Project, device: str = "host", precision: str = "int8", subnets: int = 40
) -> tuple[Path, LatencyTable]:
    """Measures how wrong a table is on whole subnets that it has not seen, and writes that into it.

    Raises:
        DeviceError: the device is not at hand.
        WorkdirError: it has no table yet.
    """
    if device != "host":
        raise DeviceError(f"The device {device!r} cannot be measured from here; `host` can.")
    config, host = project.config, project.host
    path = project.workdir.tables / table_name("host", host.runtime(), precision)
    if not path.exists():
        raise WorkdirError(
            f"There is no {precision} table of this machine in {project.workdir}: run `ofa-tf lut build`."
        )
    converter = BlockConverter(config.space, len(config.classes), precision)
    with project.workdir.lock():
        table = validate_table(
            LatencyTable.load(path),
            config.space,
            len(config.classes),
            host,
            converter,
            subnets,
            config.seed,
            project.progress,
        )
        table.save(path)
    return path, table


def get_table(project: Project, device: str, precision: str) -> LatencyTable:
    """The table of a device; that of the host is measured if it is missing, that of an Edge TPU modelled.

    Raises:
        DeviceError: no such device.
        FormatError: the file of a table is damaged.
    """
    try:
        if device == edgetpu.NAME:
            return get_edgetpu_table(project, precision)
        table = find_table(project.workdir.tables, device, precision, project.host)
    except FormatError as error:
        raise FormatError(f"{error} Remove it, or measure it again: `ofa-tf lut build`.") from None
    if table is not None:
        return table
    project.progress.note(f"There is no {precision} table of this machine yet: measuring one.")
    return measure_table(project, device, precision)[1]
