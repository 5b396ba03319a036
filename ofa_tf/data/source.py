"""From a data spec, such as `digits` or a folder, to the split data set."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ofa_tf.data.arrays import KERAS, SOURCES, STREET_DIGITS, load_digits, load_keras, load_street_digits
from ofa_tf.data.cache import decode_or_stream, refuse_lost
from ofa_tf.data.class_names import class_finder
from ofa_tf.data.encoded import EncodedImageSet, Parts, Records
from ofa_tf.data.folder import find_parts, list_images
from ofa_tf.data.images import GOOD_IMAGES, LEAST_IMAGES, Data, Images, ImageSet, Survey
from ofa_tf.data.in_memory import read_npz
from ofa_tf.data.pack import DOCUMENT, open_pack
from ofa_tf.data.rules import NEWEST, Rules
from ofa_tf.data.shards import find_shards, open_shards, open_tfds
from ofa_tf.data.split import SMALLEST_SPLIT, note_unmeasured, split
from ofa_tf.errors import DataError
from ofa_tf.progress import SILENT, Progress

TFDS = "tfds:"
FOLDER = "a folder with train/<class>/*.jpg or TFRecord shards"
NPZ = ".npz"
SURVEYED = 200  # images whose size is looked up
MOST_IMAGES = 10_000  # for a network that is already trained


def load_data(
    spec: str,
    size: int,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress = SILENT,
    rules: Rules = NEWEST,
) -> Data:
    """Loads and splits a data set.

    Args:
        spec: one of `SOURCES`, `tfds:NAME`, an `.npz` file of arrays, or a folder: with `train/<class>/` and,
            optionally, `val/<class>/` (or another of the names in `Rules.val`), or with TFRecord shards. Without
            validation images, a tenth of the training images takes their place; for `digits`, a fifth.
        size: height and width to hold images in memory at, in pixels: the largest resolution of the space.
        seed: seed of the split. A tenth of the training images (10,000 at most) is held out for the predictor.
        cache: folder for decoded pixels and positions in shards, or None.
        progress: where to report progress.
        rules: how images are found and split.

    Raises:
        DataError: an unknown spec, or one that does not hold usable images.
        MissingDependencyError: the spec needs a package that is not installed.
    """
    classes, parts = open_source(spec, cache, progress, rules)
    held = _hold(spec, classes, parts, size, cache, progress, rules)
    return _split(spec, classes, held, seed, progress, rules)


def split_images(
    spec: str,
    classes: Sequence[str],
    parts: Mapping[str, ImageSet],
    size: int,
    seed: int = 0,
    progress: Progress = SILENT,
    rules: Rules = NEWEST,
) -> Data:
    """Splits images in memory as `load_data` splits those of a data set.

    Args:
        spec: what the data set is called.
        classes: names of the classes, in the order of the labels.
        parts: images by part: `train` and, optionally, `val`.
        size: larger images are reduced to this height and width, in pixels.
        seed: seed of the split.
        progress: where to report classes without images to measure them by.
        rules: how images are split.

    Raises:
        DataError: too few images.
    """
    held = {part: images.resized(min(size, images.images.shape[1])) for part, images in parts.items()}
    return _split(spec, classes, held, seed, progress, rules)


def load_validation(
    spec: str, size: int, seed: int | None = None, progress: Progress = SILENT, rules: Rules = NEWEST
) -> tuple[tuple[str, ...], Images]:
    """Loads images to measure an accuracy on.

    Args:
        spec: as for `load_data`; a folder may have only `val/`. It may also hold only folders of images, one for each
            class: all of them are used.
        size: height and width to hold images in memory at, in pixels.
        seed: seed of the split of a data set that has no validation images, as for `load_data`; None for 0 with a note.
        progress: where to report progress.
        rules: how images are found and split.

    Returns:
        Names of the classes, in the order of the labels, and the images.

    Raises:
        DataError: an unknown spec, or one that does not hold usable images.
        MissingDependencyError: the spec needs a package that is not installed.
    """
    folder = Path(spec)
    bare = _is_folder(spec) and not ((folder / "train").is_dir() or (folder / DOCUMENT).exists())
    if bare and not find_shards(folder, rules):
        place = find_parts(folder, progress, rules).get("val", folder)
        names, paths, labels = list_images(place, progress, rules)
        images = EncodedImageSet(Records.of_files(paths), labels)
        return names, _hold(spec, names, {"val": images}, size, None, progress, rules)["val"]
    classes, parts = open_source(spec, None, progress, rules)
    if "val" in parts:
        return classes, _hold(spec, classes, {"val": parts["val"]}, size, None, progress, rules)["val"]
    if seed is None:
        progress.note(
            f"{spec} has no validation images: those that a training with --seed 0 holds out are used; a training with "
            "another seed has seen some of them."
        )
    held = _hold(spec, classes, parts, size, None, progress, rules)
    return classes, _split(spec, classes, held, seed or 0, progress, rules).val


def load_images(
    spec: str,
    classes: Sequence[str],
    size: int,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress = SILENT,
    aliases: Sequence[str] = (),
    rules: Rules = NEWEST,
) -> Data:
    """Loads images for a network whose classes are given, such as a published one.

    Folders named after some of the classes are those classes; upper and lower case, and "_" for " ", make no difference
    where it is clear which is meant. Where no folder is named after a class, the images have no labels: they are good
    enough for statistics, but not for accuracies.

    Args:
        spec: a folder, as for `load_data`.
        classes: names, in the order of the network's outputs.
        size: height and width to hold images in memory at, in pixels.
        seed: seed of the split.
        cache: folder for decoded pixels and positions in shards, or None.
        progress: where to report progress, and images left out: at most 10,000 of each part are used.
        aliases: other names of the classes, in the same order; empty for none.
        rules: how images are found and split.

    Raises:
        DataError: it is not such a folder, has too few images, or only some of its folders are named after classes.
    """
    find = class_finder((classes, aliases))
    parts = {}
    absent = f"There is no folder {spec!r}: name {FOLDER}."
    for part, (names, encoded) in _require(spec, _open_folder(spec, absent, cache, progress, rules)).items():
        meant = [find(name) for name in names]
        for name, labels in zip(names, meant, strict=True):
            if len(labels) > 1:
                raise DataError(
                    f"`{part}` of {spec} has the class {name!r}, which may be "
                    f"{' or '.join(repr(classes[label]) for label in labels)}: name it exactly as one of them."
                )
        found = [labels[0] if labels else -1 for labels in meant]
        if -1 in found and max(found) >= 0:
            raise DataError(
                f"`{part}` of {spec} has the class {names[found.index(-1)]!r}, which is not a class of the network, "
                "although others are: rename or remove it."
            )
        if len(encoded) > MOST_IMAGES:
            progress.note(f"{MOST_IMAGES} of the {len(encoded)} images in `{part}` of {spec} are used, evenly spread.")
        parts[part] = EncodedImageSet(encoded.records, np.array(found, np.int32)[encoded.labels]).spread(MOST_IMAGES)
    held = _hold(spec, classes, parts, size, cache, progress, rules)
    data = _split(spec, classes, held, seed, progress, rules)
    if len(data.train) < LEAST_IMAGES:
        raise DataError(
            f"{spec} leaves {len(data.train)} training images after the split; at least {LEAST_IMAGES} are needed, "
            f"and {GOOD_IMAGES} are better."
        )
    if not data.train.labelled:
        progress.note(f"No folder in {spec} is named after a class: its images are used without labels.")
    if len(data.train) < GOOD_IMAGES * 0.8:
        progress.note(f"{spec} has {len(data.train)} training images; {GOOD_IMAGES} give better batch norm statistics.")
    return data


def survey(spec: str, cache: Path | None = None, progress: Progress = SILENT) -> Survey:
    """How many images a data set has to train on, and how large they are, without decoding them.

    Raises:
        DataError: an unknown spec, or one that does not hold usable images.
        MissingDependencyError: the spec needs a package that is not installed.
    """
    return survey_images(open_source(spec, cache, progress)[1]["train"])


def survey_images(train: Images) -> Survey:
    """How many images there are to train on, and how large they are, without decoding them."""
    sides = train.spread(SURVEYED).shorter_sides()
    return Survey(len(train), int(np.median(sides)) if len(sides) else 0)


def open_source(
    spec: str, cache: Path | None, progress: Progress, rules: Rules = NEWEST
) -> tuple[tuple[str, ...], dict[str, Images]]:
    """Classes of a data set and the images of its parts: `train` and, if there is one, `val`.

    Raises:
        DataError: an unknown spec, or one that does not hold usable images.
        MissingDependencyError: the spec needs a package that is not installed.
    """
    if spec == "digits":
        classes, images = load_digits()
        return classes, {"train": images}
    if spec == STREET_DIGITS:
        classes, arrays = load_street_digits(cache)
        return classes, {**arrays}
    if spec in KERAS:
        classes, train, test = load_keras(spec)
        return classes, {"train": train, "val": test}
    if spec.endswith(NPZ):
        classes, arrays = read_npz(Path(spec))
        return classes, {**arrays}
    absent = f"There is no data set {spec!r}: give one of {list(SOURCES)}, {TFDS}NAME, or {FOLDER}."
    parts = (
        open_tfds(spec.removeprefix(TFDS), cache, progress, rules)
        if spec.startswith(TFDS)
        else _open_folder(spec, absent, cache, progress, rules)
    )
    classes = _require(spec, parts)["train"][0]
    if len(classes) < 2:
        raise DataError(f"{spec} has only the class {classes[0]!r}; a classifier needs at least two.")
    merged: dict[str, Images] = {}
    for part, (names, encoded) in parts.items():
        unknown = sorted(set(names) - set(classes))
        if unknown:
            raise DataError(f"`{part}` of {spec} has the class {unknown[0]!r}, which `train` does not have.")
        lookup = np.array([classes.index(name) for name in names], np.int32)
        merged[part] = EncodedImageSet(encoded.records, lookup[encoded.labels])
    return classes, merged


def _open_folder(spec: str, absent: str, cache: Path | None, progress: Progress, rules: Rules) -> Parts:
    folder = Path(spec)
    if not os.path.isdir(spec):  # `Path.is_dir` fails for a name that is too long
        raise DataError(absent)
    if (folder / DOCUMENT).exists():
        return open_pack(folder)
    if find_shards(folder, rules):
        return open_shards(folder, cache, progress, rules)
    if not (folder / "train").is_dir():
        raise DataError(f"{folder} has no folder `train`: it must hold train/<class>/*.jpg and, optionally, val/.")
    parts = {}
    for part, place in find_parts(folder, progress, rules).items():
        names, paths, labels = list_images(place, progress, rules)
        parts[part] = names, EncodedImageSet(Records.of_files(paths), labels)
    return parts


def _is_folder(spec: str) -> bool:
    """Whether a spec is a folder and not the name of a data set."""
    return spec not in SOURCES and os.path.isdir(spec)


def _hold(
    spec: str,
    classes: Sequence[str],
    parts: Mapping[str, Images],
    size: int,
    cache: Path | None,
    progress: Progress,
    rules: Rules,
) -> dict[str, Images]:
    encoded = {part: images for part, images in parts.items() if isinstance(images, EncodedImageSet)}
    usable = decode_or_stream(list(encoded.values()), size, cache, progress)
    held: dict[str, Images] = dict(zip(encoded, usable, strict=True))
    for part in encoded if rules.strict else ():
        refuse_lost(encoded[part].labels, held[part].labels, classes, f"`{part}` of {spec}")
    for part, images in parts.items():
        if isinstance(images, ImageSet):
            # Arrays are small enough as they are; digits were enlarged from the first version on, and trainings go on.
            held[part] = images.resized(size if spec == "digits" else min(size, images.images.shape[1]))
    return held


def _split(
    spec: str, classes: Sequence[str], images: Mapping[str, Images], seed: int, progress: Progress, rules: Rules
) -> Data:
    if spec in SOURCES:  # each class has many images
        rules = dataclasses.replace(rules, by_class=False)
    data = split(spec, tuple(classes), images, 5 if spec == "digits" else 10, seed, rules)
    note_unmeasured(data, progress)
    return data


def _require(spec: str, parts: Parts) -> Parts:
    for part, (_, images) in parts.items():
        if len(images) < SMALLEST_SPLIT:
            raise DataError(f"{spec} has {len(images)} images in `{part}`; at least {SMALLEST_SPLIT} are needed.")
    return parts
