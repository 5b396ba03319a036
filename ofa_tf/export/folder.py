"""An export: a folder with the file, its labels, its arch and a manifest, which appears complete or not at all."""

import hashlib
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ofa_tf._version import VERSION
from ofa_tf.atomic import check_old, replacing_folder, restore_folder, write_bytes
from ofa_tf.errors import ExportError
from ofa_tf.jsonio import SPACE_SCHEMA, write_json
from ofa_tf.space import Arch

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What is known about an exported file.

    Args:
        sha256: SHA-256 of the file.
        size_bytes: size of the file.
        precision: "int8", "fp16", "fp32" or "dynamic" (int8 weights, float activations).
        io: element type of input and output: "int8", "uint8" or "float32".
        arch: the subnet.
        device: facts about the device that it was chosen for.
        runtime: the runtime on that device.
        budget_ms: the latency budget, or None.
        predicted_ms: latency predicted by the table, whose source is `table_source`.
        predicted_ms_error: mean error of the table on whole subnets, as a share; None if it was not validated.
        table_source: "measured", "modelled" or "imported".
        table_precision: precision of the files that the table was made for; differs from `precision` for dynamic files.
        measured_ms: measured latency of the file on the device, by the table's statistic; None if the device is not at
            hand.
        measured_median_ms: the median of the same runs.
        latency_statistic: which percentile of the runs both latencies are.
        n_macs: multiply-accumulates for one image.
        n_params: trainable parameters.
        float_accuracy: accuracy of the subnet on the validation images (0 to 1); None if they have no labels.
        file_accuracy: accuracy of the file on the same images.
        agreement: share of images that both put into the same class; a file that was trained for int8 is compared with
            the trained network.
        snr_db: power of the logits over the power of the file's error, in decibels; None where there is no error.
        validation_images: number of images used for these figures: all, or fewer, evenly spread, for a large network.
        gate: whether a file that loses too much would have been refused (`enforced`), the most `points_lost` and the
            least `agreement` allowed, and the `complaint` where the gate was open.
        finetune: `epochs`, accuracies on the validation images with the weights of the supernet (`supernet_accuracy`)
            and with its own (`finetuned_accuracy`), and which were `kept`; None without fine-tuning.
        qat: figures with and without quantisation-aware training, and which file was `kept`; None without it.
        representative: number of training `images` that the ranges of int8 were taken from, and the `seed` of the draw.
        predicted_accuracy: accuracy given by the predictor, or None.
        predictor_origin: "fitted" in the workdir or "imported"; None where nothing was predicted.
        preprocessing: `(pixel - mean) / std` gives the network's input.
        raw_pixels: whether this leaves pixels as they are (uint8), or minus 128 (int8), so that an app can skip it.
        input_quantization: scale and zero point of the input, or None.
        ops: operators, with the number of times each occurs.
        tensor_types: element types, with the number of tensors of each.
        imported_from: `address` and `sha256` of the checkpoint that the weights were imported from; None if trained.
        trained_from: `name`, `address` and `sha256` of the pretrained weights that training began with; None for none.
        crop: share of the side of an image's centre square that was seen in the evaluation.
        edgetpu: reports of the linter (`lint`) and of `edgetpu_compiler` (`compiler`); None for other devices.
        microcontroller: RAM that TensorFlow Lite Micro needs, predicted (`predicted_arena_bytes`, of which
            `predicted_activation_bytes`) and, where that is installed, measured (`arena_bytes`, `activation_bytes`);
            then also the number of `images` on which it was compared with LiteRT's reference kernels, the share put
            into the `same_class` (`same_class_optimised`: by the optimised kernels) and the `largest_step` of
            quantisation between their outputs. None for other devices.
        ethosu: reports of the linter (`lint`) and of Vela (`vela`: latency, SRAM and flash, all modelled; operators on
            the NPU and on the CPU), which is None where Vela is not installed; None for other devices.
    """

    sha256: str
    size_bytes: int
    precision: str
    io: str
    arch: Mapping[str, Any]
    device: Mapping[str, Any]
    runtime: Mapping[str, Any]
    budget_ms: float | None
    predicted_ms: float | None
    predicted_ms_error: float | None
    table_source: str | None
    table_precision: str | None
    measured_ms: float | None
    measured_median_ms: float | None
    latency_statistic: str | None
    n_macs: int
    n_params: int
    float_accuracy: float | None
    file_accuracy: float | None
    agreement: float
    snr_db: float | None
    validation_images: int
    gate: Mapping[str, Any]
    qat: Mapping[str, Any] | None
    representative: Mapping[str, int] | None
    predicted_accuracy: float | None
    predictor_origin: str | None
    preprocessing: Mapping[str, Sequence[float]]
    raw_pixels: bool
    input_quantization: Mapping[str, float] | None
    ops: Mapping[str, int]
    tensor_types: Mapping[str, int]
    imported_from: Mapping[str, str] | None = None
    trained_from: Mapping[str, str] | None = None
    finetune: Mapping[str, Any] | None = None
    crop: float = 1.0
    edgetpu: Mapping[str, Any] | None = None
    microcontroller: Mapping[str, Any] | None = None
    ethosu: Mapping[str, Any] | None = None


def write_export(
    folder: Path,
    content: bytes,
    classes: Sequence[str],
    arch: Arch,
    manifest: Manifest,
    force: bool = False,
    more: Mapping[str, bytes] | None = None,
) -> None:
    """Writes `model.tflite`, `labels.txt`, `arch.json` and `manifest.json`.

    Args:
        folder: the folder to write; its parents are created.
        content: the file.
        classes: labels, in the order of the outputs.
        arch: the subnet.
        manifest: what is known about the file.
        force: whether an export that is already there may be replaced.
        more: other files by name.

    Raises:
        ExportError: the folder exists and `force` is not given, or it is not an export.
    """
    restore_folder(folder, MANIFEST)
    check_folder(folder, force)
    with replacing_folder(folder, force) as temporary:
        for name, other in {"model.tflite": content, **(more or {})}.items():
            write_bytes(temporary / name, other)
        write_bytes(temporary / "labels.txt", "".join(f"{name}\n" for name in classes).encode())
        write_json(temporary / "arch.json", arch.to_document(), SPACE_SCHEMA)
        write_json(temporary / MANIFEST, {**manifest.__dict__, "versions": versions()})


def check_folder(folder: Path, force: bool) -> None:
    """Refuses a folder that an export may not or cannot be written to.

    Raises:
        ExportError: it exists and `force` is not given, it is not an export, or its place is not writable.
        WorkdirError: something else has the name under which the old one is kept while it is replaced.
    """
    if folder.is_file():
        raise ExportError(f"{folder} is a file: choose another name with --name.")
    check_old(folder, MANIFEST)
    if folder.exists() and not (folder / MANIFEST).exists():
        raise ExportError(f"{folder} exists and is not an export of ofa-tf: choose another name with --name.")
    if folder.exists() and not force:
        raise ExportError(f"{folder} exists: choose another name with --name, or replace it with --force.")
    place = next(parent for parent in folder.absolute().parents if parent.exists())
    if not place.is_dir():
        raise ExportError(f"{folder} cannot be made because {place} is a file: choose another place with --out.")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=place))
    except OSError as error:
        raise ExportError(
            f"{folder} cannot be made in {place} ({error.strerror}): choose another place with --out."
        ) from None


def sha256_of(content: bytes) -> str:
    """Hex digest of a file's bytes."""
    return hashlib.sha256(content).hexdigest()


def versions() -> dict[str, str]:
    """Versions of the packages that made a file."""
    packages = ("tensorflow", "keras", "tensorflow-model-optimization", "ai-edge-litert", "numpy")
    return {"ofa-tf": VERSION, "python": platform.python_version(), **{name: version(name) for name in packages}}
