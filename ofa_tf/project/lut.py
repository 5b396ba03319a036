"""The latency tables of a workdir: `ofa-tf lut`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ofa_tf.energy import Meter
from ofa_tf.errors import AbsentError, DeviceError, WorkdirError
from ofa_tf.export.block_files import BlockFiles
from ofa_tf.latency.app_job import AppJob, write_block_job
from ofa_tf.latency.backends import backend_of, cannot_be_measured
from ofa_tf.latency.host import HOST
from ofa_tf.latency.measure import CALIBRATION_SUBNETS, PASSES, build_table, sample_subnets, validate_table
from ofa_tf.latency.settings import DEFAULT, Settings, fastest
from ofa_tf.latency.store import add_table, seen_from_here, table_name
from ofa_tf.latency.table import LatencyTable
from ofa_tf.progress import Progress
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.table_files import TableFile, import_any, list_files, merge, show
from ofa_tf.project.tables import device_of, find_device_table
from ofa_tf.space import SearchSpace

__all__ = [
    "TableFile",
    "get_table",
    "import_any",
    "list_files",
    "measure_table",
    "merge",
    "show",
    "validate",
    "write_job",
]
TRIED_SUBNETS = 5  # for comparing settings of a runtime


def measure_table(
    project: OpenedWorkdir,
    device: str = HOST,
    precision: str = "int8",
    resolutions: Sequence[int] | None = None,
    settings: Settings = DEFAULT,
    auto: bool = False,
    validation_subnets: int = 0,
) -> tuple[Path, LatencyTable]:
    """Measures the latency table of a device for the workdir's space and keeps it.

    That of an absent Edge TPU is modelled, and that of an Ethos-U is made of what its compiler estimates.

    Other resolutions in a table of the same device and settings are kept.

    Args:
        project: the workdir.
        device: `host`, `adb:SERIAL`, `edgetpu`, or an Ethos-U such as `ethos-u55-128`.
        precision: "int8", "fp16" or "fp32".
        resolutions: those to measure, None for all of the space; a modelled table has all.
        settings: how the device runs files.
        auto: whether to try the settings left open on whole subnets first, and keep the fastest.
        validation_subnets: number of held-out subnets to also measure, for the table's error.

    Raises:
        DeviceError: the device is not at hand, or was lost; the passes measured before are kept for the next call. Or
            the space, the precision or a setting is not for the device.
        ExportError: a file cannot be converted or compiled.
    """
    space, workdir, progress = project.config.space, project.workdir, project.progress
    _check_resolutions(space, resolutions)
    backend = backend_of(device)
    backend.require_legal(space, precision)
    try:
        found = backend.open(device, settings, project.host)
    except AbsentError:
        if (table := backend.model_table(space, project.config.n_classes, progress)) is None:
            raise
        return _keep(project, table)
    converter, meter = _converter(project, precision), Meter()
    with workdir.lock():
        if auto and (threads := backend.threads_to_try()):
            codes = sample_subnets(
                space, resolutions or space.resolutions, TRIED_SUBNETS, np.random.default_rng([project.config.seed, 9])
            )
            files = converter.convert(space.decode(codes), progress)
            chosen = fastest(lambda s: backend.open(device, s, project.host), settings, files, threads, progress)
            found = backend.open(device, chosen, project.host)
        path = workdir.tables / table_name(found.facts(), found.runtime(), precision)
        journal = path.with_suffix(".journal")
        path.parent.mkdir(exist_ok=True)
        known = _known_table(path, workdir.tables, progress) if path.exists() else None
        found, passes = backend.in_passes(found, PASSES)
        table = build_table(
            space,
            project.config.n_classes,
            precision,
            found,
            converter,
            resolutions,
            CALIBRATION_SUBNETS,
            validation_subnets=validation_subnets,
            known=known,
            journal=journal,
            passes=passes,
            seed=project.config.seed,
            progress=progress,
            source=backend.source,
        )
        table.save(path)
        journal.unlink(missing_ok=True)
        workdir.ledger().spend(f"latency table {path.stem}", meter.lap())
    return path, table


def write_job(
    project: OpenedWorkdir,
    out: str | Path,
    precision: str = "int8",
    resolutions: Sequence[int] | None = None,
    threads: int = 1,
    delegate: str = "xnnpack",
) -> AppJob:
    """Writes a folder with every block of the workdir's space, which the Android app measures without a computer.

    Args:
        project: the workdir.
        out: a new folder.
        precision: "int8", "fp16" or "fp32".
        resolutions: those to measure, None for all of the space.
        threads: threads of the interpreter.
        delegate: "none" or "xnnpack".

    Raises:
        DeviceError: a setting does not exist, or the space has no such resolution.
        WorkdirError: the folder exists.
        ExportError: a file cannot be converted.
    """
    config = project.config
    _check_resolutions(config.space, resolutions)
    with project.workdir.lock():
        return write_block_job(
            out,
            config.space,
            config.n_classes,
            precision,
            _converter(project, precision),
            resolutions,
            threads,
            delegate,
            config.seed,
            project.progress,
        )


def _check_resolutions(space: SearchSpace, resolutions: Sequence[int] | None) -> None:
    unknown = sorted(set(resolutions or ()) - set(space.resolutions))
    if unknown:
        raise DeviceError(f"`resolution` (={unknown[0]}) must be one of the space's {list(space.resolutions)}.")


def _known_table(path: Path, folder: Path, progress: Progress) -> LatencyTable | None:
    """The table in a file about to be measured; one of another machine, or other cores, is kept under its own name."""
    table = LatencyTable.load(path)
    seen = seen_from_here(table)
    if table_name(seen.device, seen.runtime, seen.precision) == path.name:
        return table
    kept = add_table(folder, seen, replace=True)
    why = "was measured on other cores: it is kept as"
    if seen != table:
        why = "was measured on another machine: it is kept as"
    progress.note(f"{path} {why} {kept}, for the device `{seen.device['name']}`.")
    return None


def validate(
    project: OpenedWorkdir, device: str = HOST, precision: str = "int8", subnets: int = 40, settings: Settings = DEFAULT
) -> tuple[Path, LatencyTable]:
    """Measures how wrong a table is on whole subnets that it has not seen, and writes that into it.

    Raises:
        DeviceError: the device is not at hand, or has another runtime than the table.
        WorkdirError: it has no table yet.
    """
    config = project.config
    backend = backend_of(device)
    if not backend.measurable:
        raise cannot_be_measured(device)
    table = find_device_table(project, device, precision)
    if table is None:
        raise WorkdirError(
            f"There is no {precision} table of {backend.describe(device)} in {project.workdir}: "
            f"run `ofa-tf lut build{backend.option(device)}`."
        )
    found = device_of(table, project.host, settings)
    if found.runtime() != table.runtime:
        raise DeviceError(
            f"The table of {table.label} was measured with another runtime than the device has: {found.runtime()}."
        )
    meter = Meter()
    with project.workdir.lock():
        table = validate_table(
            table,
            config.space,
            config.n_classes,
            found,
            _converter(project, precision),
            subnets,
            config.seed,
            project.progress,
        )
        path = add_table(project.workdir.tables, table, replace=True)
        project.workdir.ledger().spend(f"latency table {path.stem}", meter.lap())
        return path, table


def get_table(project: OpenedWorkdir, device: str, precision: str) -> LatencyTable:
    """The table of a device; one that is missing is measured, modelled, or made with the device's compiler.

    Raises:
        DeviceError: no such device, or the space or the precision is not for it.
        FormatError: the file of a table is damaged.
    """
    space, n_classes, backend = project.config.space, project.config.n_classes, backend_of(device)
    backend.require_legal(space, precision)
    # One that can be made for this very space is not left for one that was shipped, unless that is as good.
    table = find_device_table(project, device, precision, backend.takes_shipped)
    if table is not None and table.resolutions(space, n_classes):
        return table
    modelled = backend.model_table(space, n_classes, project.progress)
    if modelled is not None:
        return _keep(project, modelled)[1]
    if table is not None and not backend.same_everywhere:
        return table
    how = "measuring" if backend.source == "measured" else "making"
    project.progress.note(f"There is no {precision} table of {backend.describe(device)} yet: {how} one.")
    return measure_table(project, device, precision)[1]


def _keep(project: OpenedWorkdir, table: LatencyTable) -> tuple[Path, LatencyTable]:
    with project.workdir.lock():
        return add_table(project.workdir.tables, table, replace=True), table


def _converter(project: OpenedWorkdir, precision: str) -> BlockFiles:
    return BlockFiles(project.config.space, project.config.n_classes, precision, project.workdir.converted)
