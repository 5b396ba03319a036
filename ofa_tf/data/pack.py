"""Packed data sets: TFRecord shards with an index, so that opening needs no scan and images need no separate files."""

import contextlib
import glob
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ofa_tf.atomic import replacing_folder, restore_folder, sweep
from ofa_tf.data.cache import note_broken, refuse_lost, refuse_many
from ofa_tf.data.decode import check, encode, shrink
from ofa_tf.data.encoded import EncodedImageSet, Parts, Records, in_order
from ofa_tf.data.images import Images, ImageSet
from ofa_tf.data.shards import FOOTER_BYTES, HEADER_BYTES, IMAGE, LABEL, check_label
from ofa_tf.errors import DataError, FormatError
from ofa_tf.jsonio import check_keys, read_json, write_json
from ofa_tf.npzio import read_arrays_of, write_arrays
from ofa_tf.progress import SILENT, Progress

DOCUMENT, INDEX = "data.json", "index.npz"
COLUMNS = {"offset": np.int64, "length": np.int64, "label": np.int32}
SHARDS = 16


@dataclass(frozen=True)
class Pack:
    """What was packed.

    Args:
        folder: where it is.
        images: number of images in each part.
        skipped: number of images in all parts that could not be read.
        size_bytes: size of all shards.
    """

    folder: Path
    images: Mapping[str, int]
    skipped: int
    size_bytes: int


def check_out(folder: Path, force: bool) -> None:
    """Refuses a folder that a pack may not be written to.

    Raises:
        DataError: it exists and `force` is not given, or it is not a packed data set.
    """
    if folder.name in ("", ".."):
        raise DataError(f"--out (={str(folder)!r}) must name a folder, which `.`, `..` and `/` do not.")
    if folder.exists() and not (folder / DOCUMENT).exists():
        raise DataError(f"{folder} exists and is not a packed data set: choose another folder with --out.")
    restore_folder(folder, DOCUMENT)
    sweep(folder.parent, folders=True, name=glob.escape(folder.name))
    if folder.exists() and not force:
        raise DataError(f"{folder} exists: choose another folder with --out, or replace it with --force.")


def write_pack(
    classes: tuple[str, ...],
    parts: Mapping[str, Images],
    folder: Path,
    shards: int = SHARDS,
    size: int | None = None,
    progress: Progress = SILENT,
    force: bool = False,
) -> Pack:
    """Writes images into TFRecord shards, in random order, and their index; the folder appears when it is whole.

    Args:
        classes: names of the classes, in the order of the labels.
        parts: the images of `train` and, if there are any, of `val`.
        folder: the folder to write to.
        shards: files of each part.
        size: larger images become JPEGs whose shorter side is this long, in pixels; None keeps every file as it is.
        progress: where to report progress, and images left out.
        force: whether a folder that is there by the end is replaced.

    Raises:
        WorkdirError: another process has made the folder meanwhile.
        DataError: more than 1 % of a part's images cannot be read, or the disk is full.
    """
    listing: dict[str, list[dict[str, Any]]] = {}
    columns: dict[str, np.ndarray] = {}
    broken: list[str] = []
    with replacing_folder(folder, force) as temporary:
        try:
            with progress.task("packing", sum(map(len, parts.values())), "images") as advance:
                for part, images in parts.items():
                    bad: list[str] = []
                    listing[part], index = _write_part(images, temporary, part, shards, size, bad, advance)
                    columns |= {f"{part}_{name}": array for name, array in index.items()}
                    refuse_many(bad, len(images))
                    refuse_lost(images.labels, index["label"], classes, f"`{part}`")
                    broken += bad
        except tf.errors.OpError as error:
            raise DataError(f"{folder} cannot be written: {error.message.split(';')[-1].strip()}.") from None
        write_arrays(temporary / INDEX, columns)
        write_json(temporary / DOCUMENT, {"classes": list(classes), "parts": listing})
    note_broken(broken, sum(map(len, parts.values())), progress)
    return Pack(
        folder,
        {part: sum(shard["images"] for shard in rows) for part, rows in listing.items()},
        len(broken),
        sum(shard["size_bytes"] for rows in listing.values() for shard in rows),
    )


def _write_part(
    images: Images,
    folder: Path,
    part: str,
    n_shards: int,
    size: int | None,
    broken: list[str],
    advance: Callable[[int], None],
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    order = np.random.default_rng(0).permutation(len(images))
    n_shards = min(n_shards, len(images))
    listing: list[dict[str, Any]] = []
    rows: list[tuple[int, int, int]] = []

    def attempt(index: int) -> bytes | str:
        try:
            return _content(images, index, size)
        except DataError as error:
            return str(error)

    with contextlib.closing(in_order(attempt, order.tolist())) as contents:
        for number, members in enumerate(np.array_split(order, n_shards)):
            path = folder / f"{part}-{number:05}-of-{n_shards:05}.tfrecord"
            position, before = 0, len(rows)
            with tf.io.TFRecordWriter(str(path)) as writer:
                for label in images.labels[members].tolist():
                    content = next(contents)
                    advance(1)
                    if isinstance(content, str):
                        broken.append(content)
                        continue
                    record = _example(content, label)
                    writer.write(record)
                    rows.append((position + HEADER_BYTES + record.index(content), len(content), label))
                    position += HEADER_BYTES + len(record) + FOOTER_BYTES
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            listing.append({"file": path.name, "images": len(rows) - before, "size_bytes": position})
    table = np.array(rows, np.int64).reshape(-1, 3)
    return listing, {name: table[:, i].astype(kind) for i, (name, kind) in enumerate(COLUMNS.items())}


def _content(images: Images, index: int, size: int | None) -> bytes:
    if isinstance(images, ImageSet):
        content, name = encode(images.images[index]), f"Image {index}"
    else:
        assert isinstance(images, EncodedImageSet)
        content, name = images.records.read(index), images.records.name(index)
    if size is not None:
        return shrink(content, size, name)
    check(content, name)
    return content


def _example(content: bytes, label: int) -> bytes:
    image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
    number = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
    return tf.train.Example(features=tf.train.Features(feature={IMAGE: image, LABEL: number})).SerializeToString()


def open_pack(folder: Path) -> Parts:
    """Classes and images of each part of a packed data set.

    Raises:
        FormatError: `data.json` or the index is damaged.
        DataError: a shard is missing or has another size, or a label is out of range.
    """
    path = folder / DOCUMENT
    document = read_json(path)
    check_keys(document, {"classes", "parts"}, set(), str(path))
    classes, listing = document["classes"], document["parts"]
    if not isinstance(classes, list) or not all(isinstance(name, str) and name.isprintable() for name in classes):
        raise FormatError(f"{path}: `classes` must be a list of names.")
    if len(set(classes)) < max(2, len(classes)):
        raise FormatError(f"{path}: `classes` must be at least two different names.")
    check_keys(listing, {"train"}, {"val"}, f"{path}, `parts`,")
    counts = {
        part: [_check_shard(folder, path, shard) for shard in _list(path, rows)] for part, rows in listing.items()
    }
    wanted = {
        f"{part}_{name}": (kind, (sum(row["images"] for row in rows),))
        for part, rows in counts.items()
        for name, kind in COLUMNS.items()
    }
    index = read_arrays_of(folder / INDEX, wanted)
    parts = {}
    for part, rows in counts.items():
        file_of = np.repeat(np.arange(len(rows), dtype=np.int32), [row["images"] for row in rows])
        offset, length, labels = (index[f"{part}_{name}"] for name in COLUMNS)
        sizes = np.array([row["size_bytes"] for row in rows], np.int64)[file_of]
        if (offset < HEADER_BYTES).any() or (length < 0).any() or (length > sizes - offset).any():
            raise FormatError(f"{folder / INDEX} is damaged: it points outside of the shards.")
        for row in np.flatnonzero((labels < 0) | (labels >= len(classes)))[:1]:
            name = rows[file_of[row]]["file"]
            check_label(int(labels[row]), len(classes), f"Record {(file_of[:row] == file_of[row]).sum()} of {name}")
        files = tuple(folder / row["file"] for row in rows)
        parts[part] = tuple(classes), EncodedImageSet(Records(files, file_of, offset, length, checked=True), labels)
    return parts


def _list(path: Path, rows: Any) -> list[Any]:
    if not isinstance(rows, list):
        raise FormatError(f"{path}: each of `parts` must be a list of shards.")
    return rows


def _check_shard(folder: Path, path: Path, row: Any) -> Mapping[str, Any]:
    check_keys(row, {"file", "images", "size_bytes"}, set(), f"{path}, a shard,")
    file = row["file"]
    if not isinstance(file, str) or not file.endswith(".tfrecord") or file != os.path.basename(file) or "\0" in file:
        raise FormatError(f"{path}: `file` (={file!r}) must be the name of a shard.")
    for name in ("images", "size_bytes"):
        if not isinstance(row[name], int) or isinstance(row[name], bool) or not 0 <= row[name] < 1 << 62:
            raise FormatError(f"{path}: `{name}` (={row[name]!r}) must be an integer of at least 0.")
    shard = folder / file
    if not shard.is_file():
        raise DataError(f"{shard} is missing: pack the data set again.")
    if shard.stat().st_size != row["size_bytes"]:
        raise DataError(f"{shard} is damaged: it has {shard.stat().st_size} bytes, not {row['size_bytes']}.")
    return row
