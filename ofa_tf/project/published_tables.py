"""Importing latency tables in the format that the authors of Once-for-All published, without TensorFlow."""

import dataclasses
import os
from pathlib import Path

from ofa_tf.errors import FormatError, TableError, WorkdirError
from ofa_tf.latency.store import add_table, renamed
from ofa_tf.latency.table import RUNTIME, LatencyTable
from ofa_tf.progress import SILENT, Progress
from ofa_tf.project.workdir import Workdir
from ofa_tf.zoo import catalog, imagenet
from ofa_tf.zoo.note10 import MAX_BYTES, SUFFIXES, is_published, merge_note10, read_note10
from ofa_tf.zoo.sources import get_file, is_address


def import_published(
    source: str, workdir: str | Path = ".", force: bool = False, name: str | None = None, progress: Progress = SILENT
) -> tuple[Path, LatencyTable]:
    """Imports tables of any device in the published format; arguments and errors as for `import_note10`.

    The files do not name their device. Only those at the published address are known to be the Note10's.

    Raises:
        TableError: also if the device is not named.
    """
    if name is None and not source.startswith(catalog.NOTE10.address):
        raise TableError(
            f"{source} does not say which device it was measured on: name it, as in "
            "`ofa-tf lut import SOURCE --as pi4`."
        )
    return import_note10(source, workdir, None, force, progress, name)


def import_note10(
    source: str | None = None,
    workdir: str | Path = ".",
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress = SILENT,
    name: str | None = None,
) -> tuple[Path, LatencyTable]:
    """Imports the latency tables of the Samsung Note10, one per resolution, merged into one.

    Blocks that several of them have were measured for each, and the merged table has the mean. So its sums are not
    quite those of the single tables: over the reference's predictions at 160, 192 and 224 px at most 0.13 % apart.

    Args:
        source: a file or a folder of files; or the address of a file, or of a folder with the files
            `<resolution>_lookup_table.yaml`; None for the published address.
        workdir: the workdir that the table is for.
        out: a folder for the table instead of the workdir.
        force: whether a table of the same name may be replaced.
        progress: where to report progress.
        name: name of the device, if it is another one.

    Returns:
        Where the table is, and the table; its source is "imported".

    Raises:
        WorkdirError: there is no workdir, or it has such a table.
        TableError: the table covers no resolution of the workdir's space.
        DeviceError: the name is not one for a table.
        FormatError: there is no such file, or it is not such a table.
        DownloadError: a file could not be fetched.
    """
    target = Workdir(workdir)
    config = target.config() if out is None else None
    files = _table_files(source)
    paths = []
    with progress.task("reading latency tables", len(files), "files") as advance:
        for file in files:
            paths.append(get_file(file, MAX_BYTES).path)
            advance(1)
    table = merge_note10([read_note10(path) for path in paths])
    if name is not None:  # nothing else is known about another device
        unknown = dict.fromkeys(RUNTIME, "unknown")
        table = dataclasses.replace(renamed(table, name), device={"name": name}, runtime=unknown)
    if config is not None and not table.resolutions(config.space, config.n_classes):
        network = f"`{catalog.NOTE10.space}` of width {catalog.NOTE10.width_mult} with {imagenet.N_CLASSES} classes"
        raise TableError(f"The tables cover no resolution of {target}: they are for {network}.")
    if out is not None:
        return add_table(Path(out), table, force), table
    with target.lock():
        try:
            return add_table(target.tables, table, force), table
        except WorkdirError as error:
            if len(files) > 1:
                raise
            whole = "give the tables of all resolutions together, as a folder"
            raise WorkdirError(f"{str(error).rstrip('.')}, or {whole}.") from None


def _table_files(source: str | None) -> list[str]:
    published = catalog.NOTE10
    if source is None or (is_address(source) and not source.endswith(SUFFIXES)):
        base = (published.address if source is None else source).rstrip("/")
        return [f"{base}/{published.file_name(resolution)}" for resolution in published.resolutions]
    if Path(source).is_dir():
        files = [os.fspath(path) for path in sorted(Path(source).iterdir()) if _is_table(path)]
        if not files:
            example = published.file_name(published.resolutions[0])
            raise FormatError(f"{source} has no files named like {example} and no others in that format.")
        return files
    return [source]


def _is_table(path: Path) -> bool:
    """Whether a file in a folder is a table or is named like one; hidden files are not."""
    if path.suffix not in SUFFIXES or path.name.startswith(".") or not path.is_file():
        return False
    return path.stem.endswith("_lookup_table") or is_published(path)
