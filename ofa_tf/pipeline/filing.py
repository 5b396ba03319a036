"""From a subnet to a verified file: converted, run on validation images, kept only if it answers as the subnet does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from ofa_tf.accuracy.evaluate import SubnetEvaluator
from ofa_tf.blocks import count_macs, walk
from ofa_tf.data import Images
from ofa_tf.data.batches import training_batches
from ofa_tf.errors import ExportError
from ofa_tf.export.convert import IO, PRECISIONS, to_tflite
from ofa_tf.export.gate import Limits, Parity, compare, first_bad_layer, gate_images, layer_errors, run_file
from ofa_tf.export.model_file import FileFacts, ModelFile, inspect_file
from ofa_tf.export.representative import representative_inputs, takes_raw_pixels
from ofa_tf.project import Project
from ofa_tf.space import Arch
from ofa_tf.subnet import extract

LAYER_IMAGES = 16  # that layers are compared on
QAT_EPOCHS = 3.0


@dataclass(frozen=True)
class FileOptions:
    """What kind of file to make.

    Args:
        precision: "int8", "fp16", "fp32" or "dynamic" (int8 weights, float activations).
        io: "int8" or "uint8": element type of input and output of an int8 file.
        qat_epochs: passes over the training images of quantisation-aware training; 0 for none.
        limits: what the file may lose.
        gate: whether a file that loses more is refused.

    Raises:
        ExportError: options that do not go together.
    """

    precision: str = "int8"
    io: str = "int8"
    qat_epochs: float = 0.0
    limits: Limits = field(default_factory=Limits)
    gate: bool = True

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ExportError(f"`precision` (={self.precision!r}) must be one of {list(PRECISIONS)}.")
        if self.io not in IO:
            raise ExportError(f"`io` (={self.io!r}) must be one of {list(IO)}.")
        if self.precision != "int8" and self.io != "int8":
            raise ExportError(f"--io {self.io} is for int8 files; those of --precision {self.precision} take floats.")
        if self.precision != "int8" and self.qat_epochs:
            raise ExportError(f"--qat is for int8 files, not for --precision {self.precision}.")


@dataclass(frozen=True)
class VerifiedFile:
    """A file, and how it compares with the subnet that it was made from.

    Args:
        content: the bytes.
        facts: operators and tensor types.
        parity: accuracy and agreement on validation images.
        complaint: what is beyond the limits, if the gate was open; else None.
        representative: how many images the ranges of int8 were taken from, and the seed of the draw; None for floats.
        raw_pixels: whether the input takes pixels from 0 to 255 as they are (uint8), or minus 128 (int8).
        input_quantization: scale and zero point of the input, or None.
        qat: what quantisation-aware training gained, or None.
    """

    content: bytes = field(repr=False)
    facts: FileFacts
    parity: Parity
    complaint: str | None
    representative: Mapping[str, int] | None
    raw_pixels: bool
    input_quantization: Mapping[str, float] | None
    qat: Mapping[str, Any] | None


def make_file(project: Project, evaluator: SubnetEvaluator, arch: Arch, options: FileOptions) -> VerifiedFile:
    """Extracts a subnet, recalibrates it, converts it, and runs the file on validation images.

    Args:
        project: the workdir.
        evaluator: of the trained supernet.
        arch: the subnet.
        options: the kind of file.

    Raises:
        ExportError: the conversion fails, a float tensor is left in an int8 file, or the file is not what the subnet is
            and the gate is not open.
    """
    config, data = project.config, project.data
    n_macs = count_macs(walk(config.space, arch, len(config.classes)))
    images = gate_images(data.val, n_macs)
    teacher = _teacher(evaluator, arch) if options.qat_epochs else None
    evaluator.calibrate(arch)
    float_logits = evaluator.logits(arch, images)
    model = extract(evaluator.supernet, arch)
    chosen = None
    if options.precision == "int8":
        chosen = representative_inputs(data.train, arch.resolution, config.preprocessing, config.seed, n_macs)
    content = to_tflite(model, options.precision, chosen.inputs if chosen else (), options.io)

    def verify(candidate: bytes) -> Parity:
        logits = run_file(candidate, images, config.preprocessing)
        return compare(float_logits, logits, images.labels if images.labelled else None)

    parity, qat = verify(content), None
    if teacher is not None:
        trained = _train(project, arch, model, teacher, options, n_macs)
        trained_parity = verify(trained)
        held = gate_images(data.tune, n_macs)
        held_logits = evaluator.logits(arch, held)  # data.val is for figures: nothing is chosen by it
        scores = [_score(project, held, held_logits, candidate) for candidate in (content, trained)]
        better = scores[1] > scores[0]
        qat = {
            "epochs": options.qat_epochs,
            "ptq_accuracy": parity.file_accuracy,
            "qat_accuracy": trained_parity.file_accuracy,
            "ptq_agreement": parity.agreement,
            "qat_agreement": trained_parity.agreement,
            "kept": "qat" if better else "ptq",
        }
        _tell(project, qat)
        if better:
            content, parity = trained, trained_parity
    facts = inspect_file(content)
    if options.precision == "int8" and facts.n_float_tensors:
        raise ExportError(
            f"{facts.n_float_tensors} tensors of the file are still floating-point: {facts.tensor_types}."
        )
    complaint = parity.complaint(options.limits)
    if complaint and options.gate:
        raise ExportError(_refusal(project, data.train, arch, model, content, complaint, options))
    quantization = ModelFile(content).input_quantization
    return VerifiedFile(
        content=content,
        facts=facts,
        parity=parity,
        complaint=complaint,
        representative={"images": len(chosen.inputs), "seed": chosen.seed} if chosen else None,
        raw_pixels=takes_raw_pixels(quantization, options.io, config.preprocessing),
        input_quantization=quantization,
        qat=qat,
    )


def _teacher(evaluator: SubnetEvaluator, arch: Arch) -> keras.Model:
    """The largest network, its statistics those at the arch's resolution."""
    largest = evaluator.supernet.space.largest(arch.resolution)
    evaluator.calibrate(largest)
    return extract(evaluator.supernet, largest)


def _train(
    project: Project, arch: Arch, model: keras.Model, teacher: keras.Model, options: FileOptions, n_macs: int
) -> bytes:
    """The file of the subnet after quantisation-aware training."""
    from ofa_tf.export import qat  # imports tf_keras, which takes seconds

    config, images = project.config, project.data.train
    preprocessing, resolution = config.preprocessing, arch.resolution
    some = images.head(LAYER_IMAGES).resized(resolution).images
    twin = qat.build_twin(model, config.space, arch, len(config.classes))
    qat.check_twin(model, twin, preprocessing(some).numpy())
    ends = preprocessing(np.array([[0] * 3, [255] * 3])).numpy()
    student = qat.quantise_twin(twin, float(ends.min()), float(ends.max()))
    tuning = qat.FineTuning(epochs=options.qat_epochs)
    steps = tuning.steps(len(images))
    batches = training_batches(
        images, preprocessing, config.recipe.augment, tuning.batch, (config.seed, 9), range(steps), lambda _: resolution
    )
    with project.progress.task("quantisation-aware training", steps * tuning.batch, "images") as advance:
        qat.fine_tune(student, teacher, batches, steps, tuning, images.labelled, advance)
    return to_tflite(student, "int8", io=options.io, trained_ranges=True)


def _score(project: Project, images: Images, float_logits: np.ndarray, content: bytes) -> tuple[float, float]:
    """What one file is better than another by: accuracy, where it is known, then agreement with the subnet."""
    logits = run_file(content, images, project.config.preprocessing)
    parity = compare(float_logits, logits, images.labels if images.labelled else None)
    return parity.file_accuracy or 0.0, parity.agreement


def _tell(project: Project, qat: Mapping[str, Any]) -> None:
    measure = "accuracy" if qat["ptq_accuracy"] is not None else "agreement"
    before, after = qat[f"ptq_{measure}"], qat[f"qat_{measure}"]
    kept = (
        "kept" if qat["kept"] == "qat" else "no better on the held-out training images, so the file without it is kept"
    )
    project.progress.note(
        f"Quantisation-aware training: {measure} {after:.1%} against {before:.1%} without it "
        f"({(after - before) * 100:+.1f} points); it is {kept}."
    )


def _refusal(
    project: Project,
    images: Images,
    arch: Arch,
    model: keras.Model,
    content: bytes,
    complaint: str,
    options: FileOptions,
) -> str:
    """The complaint, the layer where the error starts, and what to do."""
    some = images.head(LAYER_IMAGES).resized(arch.resolution)
    inputs = [project.config.preprocessing(pixels).numpy() for pixels, _ in some.batches(1, arch.resolution)]
    bad = first_bad_layer(layer_errors(to_tflite(model, "fp32"), content, inputs))
    where = ""
    if bad is not None and bad.snr_db is not None:
        where = f"; the error starts at the layer `{bad.name}` ({bad.snr_db:.0f} dB signal to noise)"
    advice = "train it for int8 with --qat, or " if options.precision == "int8" and not options.qat_epochs else ""
    return f"{complaint}{where}: {advice}export it all the same with --no-gate."
