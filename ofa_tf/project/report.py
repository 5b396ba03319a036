"""A workdir as one HTML page: `ofa-tf report`. Everything is read, nothing in it is changed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from ofa_tf.accuracy.collect import JOURNAL, read_journal
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.atomic import check_place, write_bytes
from ofa_tf.errors import DeviceError, FormatError, InfeasibleError
from ofa_tf.formatting import shown
from ofa_tf.jsonio import read_json
from ofa_tf.latency.backends import backend_of, fits_memory
from ofa_tf.latency.shares import parts_ms
from ofa_tf.latency.store import list_tables
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project.choice import Budgets
from ofa_tf.project.finder import Finder
from ofa_tf.project.memories import with_memories
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.report.contents import Contents, DeviceView, ExportView, MemoryPoint
from ofa_tf.report.curves import read_curves
from ofa_tf.report.page import render
from ofa_tf.report.pictures import CONFUSION, WORST
from ofa_tf.search import Front, pareto
from ofa_tf.space import Arch, SearchSpace

FILE = "report.html"
MOST_SUBNETS = 2000
INT8, POINTS_OF_MEMORY = "int8", 20  # of the front of a microcontroller
MOST_PICTURE_BYTES = 4_000_000  # of all exports together, so that the page can still be passed on
PNG = b"\x89PNG\r\n\x1a\n"  # begins every such file
NUMBERS = ("predicted_ms", "measured_ms", "budget_ms", "predicted_ms_error", "size_bytes", "n_macs", "n_params",
           "float_accuracy", "file_accuracy", "agreement", "validation_images", "predicted_accuracy")  # fmt: skip
ARENAS = ("arena_bytes", "predicted_arena_bytes")  # numbers of `microcontroller`
MOST = 1e18  # that any of them can be


@dataclass(frozen=True)
class Report:
    """A page that was written.

    Args:
        path: the file.
        size_bytes: its size.
        stages: number of stages that are done.
        subnets: number of evaluated subnets.
        devices: number of latency tables with a front.
        exports: number of exported files.
    """

    path: Path
    size_bytes: int
    stages: int
    subnets: int
    devices: int
    exports: int


def write_report(workdir: str | Path, out: str | Path | None = None) -> Report:
    """Writes the page of a workdir; nothing else in it is changed.

    Args:
        workdir: the folder of the project. The page says what it lacks, with the command that makes it.
        out: the file; `report.html` in the workdir by default.

    Raises:
        WorkdirError: there is no workdir, or no folder to write to.
        FormatError: a file of the workdir is damaged; names it.
    """
    return write_page(read_contents(workdir), out)


def write_page(contents: Contents, out: str | Path | None = None) -> Report:
    """Writes the page of what was read of a workdir; arguments and errors as for `write_report`."""
    path = contents.path / FILE if out is None else Path(out)
    check_place(path)
    page = render(contents, datetime.now().astimezone()).encode()
    write_bytes(path, page)
    return Report(
        path=path,
        size_bytes=len(page),
        stages=sum(record.state == "done" for record in contents.stages.values()),
        subnets=contents.n_pairs,
        devices=sum(device.front is not None for device in contents.devices),
        exports=len(contents.exports),
    )


def read_contents(path: str | Path) -> Contents:
    """Reads a workdir and searches the front of each of its devices.

    Raises:
        WorkdirError: there is no workdir.
        FormatError: a file in it is damaged; names it.
    """
    workdir = Workdir(path)
    config, ledger = workdir.config(), workdir.ledger()
    stages = ledger.stages
    fitted = FittedPredictor.load(workdir.accuracy, config.space)
    pairs = read_journal(workdir.accuracy / JOURNAL, config.space)
    exports = _exports(workdir.exports, config.space)
    spread = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_SUBNETS)).round().astype(int))
    return Contents(
        path=workdir.path,
        data=config.data,
        config=config,
        stages=stages,
        curves={stage: read_curves(workdir.logs / stage) for stage in stages},
        pairs=[pairs[index] for index in spread],
        n_pairs=len(pairs),
        fitted=fitted,
        devices=[
            _device(path, table, config, fitted)
            for path, table in list_tables(workdir.tables)
            if path.parent == workdir.tables or table.resolutions(config.space, config.n_classes)
        ],
        exports=exports,
        costs=ledger.costs,
        memory_fronts=_memory_fronts(OpenedWorkdir(workdir, config), exports, fitted),
    )


def _memory_fronts(
    project: OpenedWorkdir, exports: list[ExportView], fitted: FittedPredictor | None
) -> dict[str, list[MemoryPoint]]:
    """The fronts over RAM of the microcontrollers that there are exports for."""
    space, fronts = project.config.space, {}
    if fitted is None or not set(space.resolutions) & set(fitted.predictor.resolutions):
        return {}
    for device in dict.fromkeys(export.manifest["device"]["name"] for export in exports):
        if backend_of(device).tabulated:
            continue
        try:
            budgets = with_memories(Budgets({device: None}), space, INT8, both=False)
            found = Finder(project, {}, fitted, INT8).front(None, POINTS_OF_MEMORY, budgets)
        except (DeviceError, InfeasibleError):  # a board that is not known any more, or too small for this predictor
            continue
        fronts[device] = [
            MemoryPoint(of.arch, of.predicted_ram_bytes or 0, of.predicted_accuracy, of.predicted_bytes) for of in found
        ]
    return fronts


def _device(path: Path, table: LatencyTable, config: Config, fitted: FittedPredictor | None) -> DeviceView:
    space, n_classes = config.space, config.n_classes
    covered = table.resolutions(space, n_classes)
    if not covered:
        return DeviceView(path, table, None, {}, None)
    costs, front = table.costs(space, n_classes), None
    if fitted is not None and set(covered) & set(fitted.predictor.resolutions):
        known = costs.limited_to(fitted.predictor.resolutions)
        found = pareto(space, fitted.predictor, known, seed=config.seed)
        within = fits_memory(table, space, n_classes, found.codes)
        if within.any():
            front = Front(found.codes[within], np.clip(found.scores[within], 0, 1), found.costs[within])
    ends = {"smallest": space.smallest(covered[-1]), "largest": space.largest(covered[-1])}
    breakdown = {
        f"{name} subnet, {covered[-1]} px": _shares(table, space, arch, n_classes) for name, arch in ends.items()
    }
    return DeviceView(path, table, costs, breakdown, front)


def _shares(table: LatencyTable, space: SearchSpace, arch: Arch, n_classes: int) -> dict[str, float]:
    """Where the time of a subnet goes, the first block with the stem."""
    parts = parts_ms(table, space, arch, n_classes)
    parts["stem"] += parts.pop("first")
    return {part: latency_ms for part, latency_ms in parts.items() if latency_ms}


def _exports(folder: Path, space: SearchSpace) -> list[ExportView]:
    views, room = [], MOST_PICTURE_BYTES
    for path in sorted(folder.glob("[!.]*/manifest.json")):
        pictures, left_out = _pictures(path.parent, room)
        room -= sum(map(len, pictures.values()))
        views.append(replace(read_export(path, space), pictures=pictures, left_out=left_out))
    return views


def _pictures(folder: Path, room: int) -> tuple[dict[str, bytes], list[str]]:
    """The pictures of an export that are no larger than `room` bytes together, and the names of the others."""
    pictures, left_out = {}, []
    for name in (CONFUSION, WORST):
        path = folder / name
        if not path.is_file():
            continue
        with open(path, "rb") as file:
            content = file.read(room + 1)
        if not content.startswith(PNG):
            continue
        if len(content) > room:
            left_out.append(name)
            continue
        pictures[name] = content
        room -= len(content)
    return pictures, left_out


def read_export(path: Path, space: SearchSpace) -> ExportView:
    """What a manifest says of an export, as far as the page shows it.

    Raises:
        FormatError: a figure is no figure, or there is no arch or device.
        SpaceError: an arch of another space.
    """
    manifest = read_json(path)
    micro = manifest.get("microcontroller") or {}
    if not isinstance(micro, Mapping):
        raise FormatError(f"{path}: `microcontroller` must be an object, or null.")
    for name, value in [(name, manifest.get(name)) for name in NUMBERS] + [(name, micro.get(name)) for name in ARENAS]:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 <= value <= MOST):
            raise FormatError(f"{path}: `{name}` (={shown(value)}) must be a number from 0 to {MOST:g}, or null.")
    if not isinstance(manifest.get("device"), Mapping) or not isinstance(manifest["device"].get("name"), str):
        raise FormatError(f"{path}: `device` must be an object with a `name`.")
    if "arch" not in manifest:
        raise FormatError(f"{path} lacks the key 'arch'.")
    return ExportView(path.parent.name, space.arch_from_document(manifest["arch"], f"{path}, `arch`,"), manifest)
