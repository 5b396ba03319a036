"""Latency tables as files: listed, shown, imported, merged. No device is needed."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ofa_tf.errors import TableError
from ofa_tf.formatting import visible
from ofa_tf.latency.app_results import results_of_app, tables_of
from ofa_tf.latency.backends import backend_of
from ofa_tf.latency.merge import merge_tables
from ofa_tf.latency.shares import time_shares
from ofa_tf.latency.store import add_table, list_tables, refuse_existing, renamed, seen_from_here, table_name
from ofa_tf.latency.table import LatencyTable
from ofa_tf.progress import SILENT, Progress
from ofa_tf.project.published_tables import import_published
from ofa_tf.project.tables import find_named_table
from ofa_tf.project.workdir import Workdir
from ofa_tf.spaces import SPACES
from ofa_tf.zoo.note10 import is_published

YAML = (".yaml", ".yml")  # of published tables, including damaged ones


@dataclass(frozen=True)
class TableFile:
    """A latency table in a file.

    Args:
        path: path of the file.
        table: as it is seen from this machine.
        shares: where the time goes, as from `time_shares`; None if it covers no space in full or they are not wanted.
    """

    path: Path
    table: LatencyTable
    shares: Mapping[str, Mapping[str, float]] | None = None

    @property
    def of_this_machine(self) -> bool:
        """Whether the device is the machine that this runs on."""
        return backend_of(self.table.device["name"]).always_at_hand


def list_files(workdir: str | Path = ".") -> list[TableFile]:
    """The tables of a workdir and those that come with ofa-tf."""
    return [TableFile(path, table) for path, table in list_tables(Workdir(workdir).tables)]


def show(
    table: str | Path, workdir: str | Path = ".", plot: str | Path | None = None, precision: str | None = None
) -> TableFile:
    """Describes a table, and where the time goes in networks of the workdir's space.

    Args:
        table: a device, the name of a table's file, or any file, as for `find_named_table`.
        workdir: the project; without one, the first registered space that the table covers.
        plot: where to draw the shares: a `.png` or `.svg` file.
        precision: of a device's table; None for int8, or for the first of the others that it has.

    Raises:
        FormatError: not a table.
        TableError: there is no such table, or nothing to draw.
    """
    path, found = find_named_table(table, Workdir(workdir), precision)
    shares = table_shares(found, Workdir(workdir))
    if plot is not None:
        if shares is None:
            raise TableError(f"--plot: {path} covers no space in full, so there is nothing to draw.")
        from ofa_tf.report.plot import plot_shares

        plot_shares(plot, found.label, shares)
    return TableFile(path, found, shares)


def import_any(
    source: str | Path,
    workdir: str | Path = ".",
    force: bool = False,
    name: str | None = None,
    progress: Progress = SILENT,
) -> TableFile:
    """Imports a table into a workdir: one of ours, or tables in the format of the published ones.

    Args:
        source: a file, recognised by its content (a table, a published one, or results of the Android app), or a folder
            of published tables.
        workdir: the project.
        force: whether a table of the same device, runtime and precision may be replaced.
        name: new name of the device.
        progress: where to report progress.

    Raises:
        OfaError: as for `import_table`, `tables_of` and `import_published`.
    """
    if Path(source).is_dir() or Path(source).suffix in YAML or is_published(source):
        return TableFile(*import_published(str(source), workdir, force, name, progress))
    if (results := results_of_app(source)) is not None:
        tables = tables_of(results, str(source))
        if lost := results["errors"]:
            first = lost[0].get("error") if isinstance(lost[0], dict) else lost[0]
            progress.note(
                f"{source}: the app could not measure {len(lost)} of the files; the first, because: "
                f"{visible(str(first)[:300])}"
            )
        return _import_results(tables, Workdir(workdir), force, name, progress)
    return TableFile(*import_table(source, Workdir(workdir), force, name))


def merge(files: Sequence[str | Path], out: str | Path) -> TableFile:
    """Merges tables of one device and runtime, of several resolutions or spaces, into one file.

    Raises:
        TableError: they are of different devices or runtimes.
        FormatError: one is no table.
    """
    table = merge_tables([LatencyTable.load(file) for file in files])
    table.save(out)
    return TableFile(Path(out), table)


def import_table(
    source: str | Path, workdir: Workdir, force: bool = False, name: str | None = None
) -> tuple[Path, LatencyTable]:
    """Copies a table of another workdir or machine into this one.

    Args:
        source: its file.
        workdir: for whose space it must have something.
        force: whether a table of the same device, runtime and precision may be replaced.
        name: new name of the device; None for the one that the table says, or, of the `host` of another machine, one
            after its processor.

    Raises:
        FormatError: not a table.
        DeviceError: a name that no table can be given.
        TableError: it covers no resolution of the workdir's space.
        WorkdirError: the workdir has such a table.
    """
    config, table = workdir.config(), LatencyTable.load(source)
    table = seen_from_here(table) if name is None else renamed(table, name)
    table.require_resolutions(config.space, config.n_classes)
    with workdir.lock():
        return add_table(workdir.tables, table, force), table


def _import_results(
    tables: Sequence[LatencyTable], workdir: Workdir, force: bool, name: str | None, progress: Progress
) -> TableFile:
    """Imports the tables of one run of the app, which differ in threads and delegate, all or none; returns the last."""
    config = workdir.config()
    seen = [seen_from_here(table) if name is None else renamed(table, name) for table in tables]
    for table in seen:
        table.require_resolutions(config.space, config.n_classes)
    names = Counter(table_name(table.device, table.runtime, table.precision) for table in seen)
    for file_name, count in names.items():
        if count > 1:
            raise TableError(f"The results hold {count} tables for one file, {file_name}: measure again.")
    with workdir.lock():
        if not force:
            for table in seen:
                refuse_existing(workdir.tables, table)
        files = [TableFile(add_table(workdir.tables, table, replace=True), table) for table in seen]
    for file in files[:-1]:
        progress.note(f"{file.path}: {file.table.label}, too.")
    return files[-1]


def table_shares(table: LatencyTable, workdir: Workdir) -> dict[str, dict[str, float]] | None:
    """Where the time goes in networks of the workdir's space; of the first registered one that fits if there is none.

    Returns:
        As `time_shares`; None where the table covers no resolution of a space.
    """
    if workdir.exists:
        config = workdir.config()
        candidates = [(config.space, config.n_classes)]
    else:
        classifiers = [re.search(r"^linear .*out=1x1x(\d+) .*bias=1$", key) for key in table.entries]
        sizes = {int(found[1]) for found in classifiers if found}
        candidates = [(space, size) for space in SPACES.values() for size in sorted(sizes)]
    for space, n_classes in candidates:
        if table.resolutions(space, n_classes):
            return time_shares(table, space, n_classes)
    return None
