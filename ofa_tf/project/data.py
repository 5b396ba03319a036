"""Data sets packed as TFRecord shards: `ofa-tf data`."""

from pathlib import Path

from ofa_tf.data.pack import SHARDS, Pack, check_out, write_pack
from ofa_tf.data.source import open_source
from ofa_tf.progress import SILENT, Progress


def pack(
    spec: str,
    out: str | Path,
    shards: int = SHARDS,
    size: int | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Pack:
    """Packs a data set into TFRecord shards, from which it opens at once.

    Args:
        spec: as for `load_data`.
        out: the folder to write.
        shards: files of each part.
        size: larger images become JPEGs whose shorter side is this long, in pixels; None keeps every file as it is.
        force: whether a packed data set that is already there may be replaced.
        progress: where to report progress, and images left out.

    Raises:
        DataError: the data set cannot be read, the folder exists, or the disk is full.

    Examples:
        >>> packed = ofa.pack("digits", "packed", shards=2)
        >>> packed.images
        {'train': 1797}
    """
    folder = Path(out)
    if folder.is_symlink():
        folder = folder.resolve()
    check_out(folder, force)
    classes, parts = open_source(spec, None, progress)
    return write_pack(classes, parts, folder, shards, size, progress, force)
