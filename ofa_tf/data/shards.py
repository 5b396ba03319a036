"""TFRecord shards that other programs wrote: scanned once, and read by byte position from then on."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from ofa_tf.data.encoded import EncodedImageSet, Parts, Records, in_order
from ofa_tf.data.rules import NEWEST, Rules
from ofa_tf.errors import DataError, FormatError, MissingDependencyError
from ofa_tf.npzio import read_arrays_of, write_arrays
from ofa_tf.progress import SILENT, Progress
from ofa_tf.quiet import quiet

IMAGE, LABEL = "image/encoded", "image/class/label"
HEADER_BYTES, FOOTER_BYTES = 12, 4  # of a TFRecord: its length and a checksum of that, a checksum of its content
Index = tuple[np.ndarray, np.ndarray, np.ndarray]


def find_shards(folder: Path, rules: Rules = NEWEST, progress: Progress = SILENT) -> dict[str, list[Path]]:
    """The shards of each part in a folder; notes those that are of none.

    Raises:
        DataError: there are shards, but none for training.
    """
    shards = sorted(path for path in folder.glob("*.tfrecord*") if path.is_file() and not path.name.startswith("."))
    found = {}
    for part, prefixes in rules.parts.items():
        for prefix in prefixes:
            mine = [path for path in shards if re.match(rf"{prefix}(?![a-z])", path.name)]
            if mine:
                found[part] = mine
                break
    if shards and "train" not in found:
        raise DataError(
            f"{folder} has no train*.tfrecord beside {shards[0].name}: the names must begin with the split."
        )
    for other in sorted(set(shards).difference(*found.values()))[:1]:
        used = " and ".join(paths[0].name for paths in found.values())
        progress.note(f"{folder} has shards that are not used, such as {other.name}, beside {used}.")
    return found


def open_shards(folder: Path, cache: Path | None, progress: Progress, rules: Rules = NEWEST) -> Parts:
    """Classes and images of each part of a folder with shards; the classes are named after the labels.

    Raises:
        DataError: a shard is damaged, or a record lacks a feature or has a negative label.
    """
    parts = {}
    for part, paths in find_shards(folder, rules, progress).items():
        images = scan(paths, IMAGE, LABEL, None, cache, progress)
        labels, indices = np.unique(images.labels, return_inverse=True)
        parts[part] = tuple(str(label) for label in labels), EncodedImageSet(images.records, indices.astype(np.int32))
    return parts


def scan(
    paths: Sequence[Path], image: str, label: str, n_classes: int | None, cache: Path | None, progress: Progress
) -> EncodedImageSet:
    """Finds the images in shards of `tf.train.Example`.

    Args:
        paths: the shards.
        image: the feature with the encoded image.
        label: the feature with the label, an integer.
        n_classes: labels must be less than this; None for any.
        cache: folder to keep the positions in, or None.
        progress: where to report progress.

    Raises:
        DataError: a shard is damaged, or a record lacks a feature or has a label out of range.
    """
    whole = Records.of_files(paths)
    cached = whole.cache_file(cache, f"{image}\n{label}\n{n_classes}")
    if cached is not None:
        with contextlib.suppress(FormatError):
            kinds = {"file_of": np.int32, "offset": np.int64, "length": np.int64, "labels": np.int32}
            kept = read_arrays_of(cached, {name: (kind, (None,)) for name, kind in kinds.items()})
            return EncodedImageSet(
                Records(whole.files, kept["file_of"], kept["offset"], kept["length"]), kept["labels"]
            )
    found: list[Index] = []
    with quiet(), progress.task("scanning shards", len(paths), "shards") as advance:
        for index in in_order(lambda path: _scan_one(path, image, label, n_classes), paths):
            found.append(index)
            advance(1)
    file_of = np.repeat(np.arange(len(paths), dtype=np.int32), [len(index[0]) for index in found])
    offset, length, labels = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    if cached is not None:
        write_arrays(cached, {"file_of": file_of, "offset": offset, "length": length, "labels": labels})
    return EncodedImageSet(Records(whole.files, file_of, offset, length), labels)


def _scan_one(path: Path, image: str, label: str, n_classes: int | None) -> Index:
    offsets: list[int] = []
    lengths: list[int] = []
    labels: list[int] = []
    position = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            here = f"Record {len(labels)} of {path}"
            try:
                features = tf.train.Example.FromString(record).features.feature
            except DecodeError:
                raise DataError(f"{here} is not a tf.train.Example.") from None
            contents, numbers = features[image].bytes_list.value, features[label].int64_list.value
            if len(contents) != 1 or len(numbers) != 1:
                raise DataError(f"{here} must have one image in `{image}` and one integer in `{label}`.")
            check_label(numbers[0], n_classes, here)
            offsets.append(position + HEADER_BYTES + record.index(contents[0]))
            lengths.append(len(contents[0]))
            labels.append(numbers[0])
            position += HEADER_BYTES + len(record) + FOOTER_BYTES
    except tf.errors.OpError:
        raise DataError(f"{path} is damaged or compressed: it cannot be read after record {len(labels)}.") from None
    return np.array(offsets, np.int64), np.array(lengths, np.int64), np.array(labels, np.int32)


def check_label(label: int, n_classes: int | None, where: str) -> None:
    """Refuses a label that is out of range.

    Raises:
        DataError: names the record.
    """
    if not 0 <= label < (1 << 31 if n_classes is None else n_classes):
        known = "labels must not be negative" if n_classes is None else f"there are {n_classes} classes"
        raise DataError(f"{where} has the label {label}: {known}.")


def open_tfds(name: str, cache: Path | None, progress: Progress, rules: Rules = NEWEST) -> Parts:
    """Classes and images of each part of a data set of tensorflow-datasets; prepares it if it is not there yet.

    Raises:
        MissingDependencyError: tensorflow-datasets is not installed.
        DataError: no such data set, it cannot be downloaded, or it is not one of images with one label each.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise MissingDependencyError(
            f"`tfds:{name}` needs tensorflow-datasets, which is not installed: pip install 'ofa-tf[tfds]'."
        ) from None
    try:
        with quiet():
            builder = tfds.builder(name, file_format="tfrecord")
        if not builder.data_path.exists():
            progress.note(f"Downloading and preparing `tfds:{name}` into {builder.data_path}.")
        with quiet():
            builder.download_and_prepare()
    except Exception as error:  # of the network, the disk or the data set's own code
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"`tfds:{name}` cannot be loaded: {reason[0].rstrip('.')}.") from error
    features = builder.info.features
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    pairs = [(image, label) for image in images for label in labels]
    pairs = [builder.info.supervised_keys] if builder.info.supervised_keys in pairs else pairs
    if len(pairs) != 1:
        raise DataError(f"`tfds:{name}` must have images with one label each; it has {', '.join(features)}.")
    ((image, label),) = pairs
    splits = builder.info.splits
    classes = tuple(features[label].names)
    parts = {}
    for part, names in rules.parts.items():
        split = next((split for split in names if split in splits), None)
        if split is not None:
            paths = [Path(path) for path in splits[split].filepaths]
            parts[part] = classes, scan(paths, image, label, len(classes), cache, progress)
    if "train" not in parts:
        raise DataError(f"`tfds:{name}` has no split `train`; it has {', '.join(splits)}.")
    return parts
