"""The accuracy of a file, ours or not, on real images."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_tf.data import Images, Preprocessing
from ofa_tf.data.centre_crops import centre_crops, larger_size
from ofa_tf.data.class_names import class_finder
from ofa_tf.data.rules import NEWEST
from ofa_tf.data.source import load_validation
from ofa_tf.errors import DataError, ExportError, FormatError, WorkdirError
from ofa_tf.formatting import percent
from ofa_tf.jsonio import from_document, read_json
from ofa_tf.progress import SILENT, Progress
from ofa_tf.project.opened import data_spec, open_existing
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.reading import read_text
from ofa_tf.statistics import wilson
from ofa_tf.tflite.describe import Description, describe_file
from ofa_tf.tflite.inspect import TensorFacts
from ofa_tf.tflite.metadata import Metadata, label_lines
from ofa_tf.tflite.run import ModelFile, check_classifier
from ofa_tf.tflite.sandbox import ChildInterpreter
from ofa_tf.zoo import imagenet

MOST_LABEL_BYTES = 1 << 24
USUAL = (
    "--mean 127.5 --std 127.5 for inputs from -1 to 1, --mean 0 --std 255 for inputs from 0 to 1, "
    "--mean 0 --std 1 for unscaled pixels, if the network itself normalises, "
    "or --mean 123.675,116.28,103.53 --std 58.395,57.12,57.375 for ImageNet's normalisation"
)


@dataclass(frozen=True, repr=False)
class Evaluation:
    """How well a file puts images into classes.

    Args:
        path: path of the file.
        sha256: SHA-256 of the file.
        data: what it was evaluated on.
        n_images: how many images that was.
        n_outputs: classes that the file knows; the images may be of some of them.
        top1: share of images whose class has the largest output.
        top1_low: lower end of the interval that holds it with 95 % confidence (Wilson).
        top1_high: upper end.
        top5: share of images whose class is among the five largest outputs; None if there are no more than five.
        median_ms: time for one image, on one thread of this machine and without delegates.
        preprocessing: what was done to the pixels.
        preprocessing_from: "options", "metadata", "manifest" (of the export that the file lies in), or "input type"
            (the file does not tell, and its 8-bit input was taken for the pixels themselves).
    """

    path: Path
    sha256: str
    data: str
    n_images: int
    n_outputs: int
    top1: float
    top1_low: float
    top1_high: float
    top5: float | None
    median_ms: float
    preprocessing: Preprocessing
    preprocessing_from: str

    def __repr__(self) -> str:
        top5 = "" if self.top5 is None else f", {percent(self.top5)} top-5"
        images = f"{self.n_images} images of {Path(self.data).name}"
        return f"Evaluation({str(self.path)!r} on {images}: {percent(self.top1)} top-1{top5})"


def evaluate_file(
    path: str | Path,
    data: str | None = None,
    workdir: str | Path = ".",
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    labels: str | Path | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measures the accuracy of a classification file. The file is run in a child process: it may come from anywhere.

    Args:
        path: the file, of one square RGB image and one vector of scores; float32, uint8 or int8.
        data: as for `load_validation`; None for the validation images of `workdir`.
        workdir: the project, if `data` is None.
        mean: `(pixel - mean) / std` is what the file expects: one number, or one for each colour. Empty for what the
            file says; an 8-bit input of a file that says nothing takes the pixels as they are.
        std: likewise.
        labels: file with the names of the outputs, one per line; None for those inside the file, or none.
        progress: where to report progress and what was assumed.

    Raises:
        ExportError: not such a file, or the interpreter refuses it, or crashes on it.
        FormatError: the file is not TFLite, or damaged.
        DataError: the images or their classes do not fit.

    Examples:
        >>> ofa.evaluate("work/exports/first/model.tflite", data="digits")
        Evaluation('work/exports/first/model.tflite' on 359 images of digits: 60.7 % top-1, 95.3 % top-5)
    """
    if bool(mean) != bool(std):
        raise ExportError("Give --mean and --std together: the input is (pixel - mean) / std.")
    description = describe_file(path)
    image, scores = check_classifier(description.facts, str(path))
    metadata, told_by = description.metadata or Metadata(), "metadata"
    if description.metadata is None and (kept := _beside(Path(path), description.sha256)):
        metadata, told_by = kept, "manifest"
    if labels is not None:
        metadata = dataclasses.replace(metadata, labels=_read_labels(labels))
    if mean or std:
        metadata, told_by = dataclasses.replace(metadata, mean=mean, std=std), "options"
    preprocessing = _preprocessing(metadata, image, str(path))
    if not metadata.mean:
        told_by = "input type"
        progress.note(f"{path} does not tell its normalisation: its input is taken for the pixels themselves.")
    if data is None and not Workdir(workdir).exists:
        raise DataError(f"{workdir} is no workdir whose images could be used: name images with --data SPEC.")
    if data is None:
        project = open_existing(workdir, progress)
        data, classes, images = project.require_data(), project.data.classes, project.data.val
    else:
        config = _config_of(data, workdir)
        seed, rules = (config.seed, config.rules) if config else (None, NEWEST)
        crop = _crop_beside(Path(path), description.sha256)
        classes, images = load_validation(data, larger_size(image.shape[1], crop), seed, progress, rules)
        images = centre_crops(images, crop)
    if not images.labelled:
        raise DataError(f"{data} has no labels: no accuracy can be measured on it.")
    n_outputs = int(np.prod(scores.shape[1:]))
    outputs = match_labels(metadata.labels, classes, n_outputs, str(path), data, progress)
    logits, runs_ms = _run(description, images, preprocessing, progress)
    if logits.shape[1] != n_outputs:
        raise ExportError(f"{path} says that it has {n_outputs} outputs, and gives {logits.shape[1]}.")
    ranks = rank_of(logits, outputs[images.labels])
    hits = int((ranks < 1).sum())
    low, high = wilson(hits, len(images))
    return Evaluation(
        path=Path(path),
        sha256=description.sha256,
        data=data,
        n_images=len(images),
        n_outputs=n_outputs,
        top1=hits / len(images),
        top1_low=low,
        top1_high=high,
        top5=float((ranks < 5).mean()) if n_outputs > 5 else None,
        median_ms=float(np.median(runs_ms)),
        preprocessing=preprocessing,
        preprocessing_from=told_by,
    )


def _config_of(data: str, workdir: str | Path) -> Config | None:
    """The config of a workdir that has split a data set; None if it is no workdir, or has another one."""
    try:
        config = Workdir(workdir).config()
    except (FormatError, WorkdirError):
        return None
    return config if config.data == data_spec(data) else None


def match_labels(
    labels: Sequence[str], classes: Sequence[str], n_outputs: int, name: str, data: str, progress: Progress = SILENT
) -> np.ndarray:
    """Finds the output of each class by its name; where it is clear which, case and "_" for " " make no difference.

    Where the labels are those of ImageNet, as our published networks have them, WordNet ids do as well.

    Args:
        labels: names of the outputs; empty if they are not known, and then they must be the classes, in their order.
        classes: names of the classes of the images.
        n_outputs: outputs of the file.
        name: name of the file.
        data: where the images are from.
        progress: where to report what was assumed.

    Returns:
        int64 of shape (classes,).

    Raises:
        DataError: the numbers differ, or a class is no label, or more than one.
    """
    if not labels:
        if n_outputs != len(classes):
            raise DataError(
                f"{name} has {n_outputs} outputs and no labels, and {data} has {len(classes)} classes: name the "
                "outputs with --labels FILE."
            )
        progress.note(f"{name} has no labels: its outputs are taken for the {n_outputs} classes in alphabetic order.")
        return np.arange(n_outputs)
    if len(labels) != n_outputs:
        raise DataError(f"{name} has {n_outputs} outputs and {len(labels)} labels: name all with --labels FILE.")
    find = class_finder((labels, imagenet.wordnet_ids() if tuple(labels) == imagenet.class_names() else ()))
    found = [find(name) for name in classes]
    unknown = [name for name, indices in zip(classes, found, strict=True) if not indices]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        some = ", ".join(map(repr, labels[:3]))
        raise DataError(
            f"{data} has the class {unknown[0]!r}{more}, which is none of the {len(labels)} labels of {name} "
            f"({some}, …): give labels with these names with --labels FILE."
        )
    for class_name, indices in zip(classes, found, strict=True):
        if len(indices) > 1:
            raise DataError(f"{name} has the label {class_name!r} at the outputs {indices}: which one is meant?")
    if len(found) < n_outputs:
        progress.note(f"{n_outputs - len(found)} of the {n_outputs} labels of {name} have no images in {data}.")
    return np.array([indices[0] for indices in found])


def rank_of(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How many outputs come before the true one: 0 is a hit. Among equals, the first output comes first.

    Args:
        logits: shape (images, outputs).
        truth: output of the true class, shape (images,).
    """
    own = np.take_along_axis(logits, truth[:, None], 1)
    earlier = np.arange(logits.shape[1]) < truth[:, None]
    return ((logits > own) | ((logits == own) & earlier)).sum(1)


def _run(
    description: Description, images: Images, preprocessing: Preprocessing, progress: Progress
) -> tuple[np.ndarray, list[float]]:
    content, name, runs_ms = description.content, str(description.path), []
    with ChildInterpreter(content, name) as child:

        def run(stored: np.ndarray) -> np.ndarray:
            output, duration_ms = child.run(stored)
            runs_ms.append(duration_ms)
            return output

        logits = ModelFile(content, run, name).logits(images, preprocessing, progress)
    if not np.isfinite(logits).all():
        raise ExportError(f"{name} gives numbers that are not finite, so that its answers cannot be compared.")
    return logits, runs_ms


def _preprocessing(metadata: Metadata, image: TensorFacts, name: str) -> Preprocessing:
    if not metadata.mean:
        if image.dtype == "FLOAT32":
            raise ExportError(
                f"{name} takes floats and does not tell its normalisation: give --mean and --std, such as {USUAL}."
            )
        # The normalisation that makes the stored number the pixel; of an int8 input, the pixel - 128.
        zero = (image.zero_point or 0) + (128 if image.dtype == "INT8" else 0)
        return Preprocessing((float(zero),) * 3, (1 / (image.scale or 1.0),) * 3)
    mean, std = ((*values,) * 3 if len(values) == 1 else (*values,) for values in (metadata.mean, metadata.std))
    return Preprocessing(mean, std)


def _beside(path: Path, sha256: str) -> Metadata | None:
    """What the export folder that the file lies in tells, if it is the file of that export."""
    if not (path.parent / "manifest.json").is_file():
        return None
    manifest = read_json(path.parent / "manifest.json")
    if manifest.get("sha256") != sha256:
        return None
    told = from_document(Preprocessing, manifest.get("preprocessing"), str(path.parent / "manifest.json"))
    return Metadata(labels=_read_labels(path.parent / "labels.txt"), mean=told.mean, std=told.std)


def _crop_beside(path: Path, sha256: str) -> float:
    """The share of an image that the export folder of a file says was evaluated; 1 where there is none."""
    file = path.parent / "manifest.json"
    manifest = read_json(file) if file.is_file() else {}
    crop = manifest.get("crop", 1.0) if manifest.get("sha256") == sha256 else 1.0
    if isinstance(crop, bool) or not isinstance(crop, int | float) or not 0.1 <= crop <= 1:
        raise FormatError(f"{file}: `crop` (={crop!r}) must be a number from 0.1 to 1.")
    return crop


def _read_labels(path: str | Path) -> tuple[str, ...]:
    text = read_text(path, "text", MOST_LABEL_BYTES, DataError)
    try:
        labels = label_lines(text)
    except ValueError as error:
        raise DataError(f"{path} cannot be read as labels, one per line: {error}.") from None
    if not labels:
        raise DataError(f"{path} is empty: it must hold one label a line.")
    return labels
