"""From a subnet to a verified file: converted, run on validation images, kept only if it answers as the subnet does."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from ofa_tf._version import VERSION
from ofa_tf.blocks import count_macs, walk
from ofa_tf.data import Data, Images
from ofa_tf.data.batches import training_batches
from ofa_tf.errors import ExportError
from ofa_tf.export.convert import to_tflite
from ofa_tf.export.gate import Parity, Tolerance, compare, first_bad_layer, gate_images, layer_errors, run_file
from ofa_tf.export.representative import representative_inputs, takes_raw_pixels
from ofa_tf.jsonio import SPACE_SCHEMA
from ofa_tf.precision import INTEGER_ENDS, Precision, get_precision, integer_precisions
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import Arch
from ofa_tf.subnet import extract
from ofa_tf.tflite.metadata import Metadata
from ofa_tf.tflite.metadata_writer import add_metadata
from ofa_tf.tflite.run import FileFacts, ModelFile, inspect_file
from ofa_tf.training.evaluation import SubnetEvaluator
from ofa_tf.training.setup import Setup

LAYER_IMAGES = 16  # that layers are compared on
QAT_EPOCHS = 3.0


@dataclass(frozen=True)
class FileOptions:
    """What kind of file to make.

    Args:
        precision: "int8", "fp16", "fp32" or "dynamic" (int8 weights, float activations).
        io: "int8" or "uint8": element type of input and output of an int8 file.
        qat_epochs: passes over the training images of quantisation-aware training; 0 for none.
        tolerance: what the file may lose.
        gate: whether a file that loses more is refused.
        about: what the user says about the file: author, license, description.

    Raises:
        ExportError: options that do not go together.
    """

    precision: str = "int8"
    io: str = "int8"
    qat_epochs: float = 0.0
    tolerance: Tolerance = field(default_factory=Tolerance)
    gate: bool = True
    about: Metadata = field(default_factory=Metadata)

    def __post_init__(self):
        integer, only = self.kind.integer, f"is for {integer_precisions()} files"
        if self.io not in INTEGER_ENDS:
            raise ExportError(f"`io` (={self.io!r}) must be one of {list(INTEGER_ENDS)}.")
        if not integer and self.io != INTEGER_ENDS[0]:
            raise ExportError(f"--io {self.io} {only}; those of --precision {self.precision} take floats.")
        if not integer and self.qat_epochs:
            raise ExportError(f"--qat {only}, not for --precision {self.precision}.")

    @property
    def kind(self) -> Precision:
        """What the precision is made of."""
        return get_precision(self.precision)


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
        images: the validation images that it was run on.
        logits: of the file for these images, shape (images, classes).
    """

    content: bytes = field(repr=False)
    facts: FileFacts
    parity: Parity
    complaint: str | None
    representative: Mapping[str, int] | None
    raw_pixels: bool
    input_quantization: Mapping[str, float] | None
    qat: Mapping[str, Any] | None
    images: Images = field(repr=False)
    logits: np.ndarray = field(repr=False)


def make_file(
    config: Setup,
    data: Data,
    evaluator: SubnetEvaluator,
    arch: Arch,
    options: FileOptions,
    progress: Progress = SILENT,
    own: SubnetEvaluator | None = None,
) -> VerifiedFile:
    """Extracts a subnet, recalibrates it, converts it, and runs the file on validation images.

    Args:
        config: the network and its inputs.
        data: its images.
        evaluator: of the trained supernet.
        arch: the subnet.
        options: the kind of file.
        progress: where to report progress.
        own: of a network of only this subnet, fine-tuned; None for the weights of the supernet.

    Raises:
        ExportError: the conversion fails, a float tensor is left in an int8 file, or the file is not what the subnet is
            and the gate is not open.
    """
    teacher = _teacher(evaluator) if options.qat_epochs else None
    subnet = _Subnet(config, data, own or evaluator, arch)
    chosen = None
    if options.kind.needs_images:
        chosen = representative_inputs(data.train, arch.resolution, config.preprocessing, config.seed, subnet.n_macs)
    content = to_tflite(subnet.model, options.precision, chosen.inputs if chosen else (), options.io)
    logits, qat = subnet.run(content), None
    parity = subnet.parity(logits)
    if teacher is not None:
        trained, simulated = _train(subnet, teacher, options, progress)
        trained_logits = subnet.run(trained)
        trained_parity = subnet.parity(trained_logits, simulated)
        better = subnet.score(trained) > subnet.score(content)
        qat = {
            "epochs": options.qat_epochs,
            "ptq_accuracy": parity.file_accuracy,
            "qat_accuracy": trained_parity.file_accuracy,
            "ptq_agreement": parity.agreement,
            "qat_agreement": trained_parity.agreement,
            "kept": "qat" if better else "ptq",
        }
        _tell(progress, qat)
        if better:
            content, parity, logits = trained, trained_parity, trained_logits
    content = add_metadata(content, _metadata(options, config, arch))
    facts = inspect_file(content)
    if options.kind.integer and facts.n_float_tensors:
        raise ExportError(
            f"{facts.n_float_tensors} tensors of the file are still floating-point: {facts.tensor_types}."
        )
    complaint = parity.complaint(options.tolerance)
    if complaint and options.gate:
        raise ExportError(_refusal(subnet, content, complaint, options))
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
        images=subnet.images,
        logits=logits,
    )


def _metadata(options: FileOptions, config: Setup, arch: Arch) -> Metadata:
    """The metadata of the file: what the user says, and what we know."""
    about, name = options.about, f"{config.space.name}, {arch.resolution} px"
    n_macs = count_macs(walk(config.space, arch, config.n_classes))
    made = (
        f"A subnet of the space {name}, with {n_macs / 1e6:.1f} million MACs, {options.precision}; "
        f"made by ofa-tf {VERSION}."
    )
    return dataclasses.replace(
        about,
        name=about.name or name,
        description=about.description or made,
        labels=config.classes,
        mean=config.preprocessing.mean,
        std=config.preprocessing.std,
        arch={"schema": SPACE_SCHEMA, **arch.to_document()},
    )


class _Subnet:
    """A subnet, its statistics recalibrated, and what its files are compared with.

    Args:
        config: the network and its inputs.
        data: its images.
        evaluator: of the network that has the weights.
        arch: the subnet.
    """

    def __init__(self, config: Setup, data: Data, evaluator: SubnetEvaluator, arch: Arch):
        self.config, self.data, self.evaluator, self.arch = config, data, evaluator, arch
        self.n_macs = count_macs(walk(config.space, arch, config.n_classes))
        self.images = gate_images(data.val, self.n_macs)
        evaluator.calibrate(arch)
        self.logits = evaluator.logits(arch, self.images)
        self.model = extract(evaluator.supernet, arch)

    def run(self, content: bytes) -> np.ndarray:
        """Logits of a file for the validation images."""
        return run_file(content, self.images, self.config.preprocessing)

    def parity(self, file_logits: np.ndarray, trained_logits: np.ndarray | None = None) -> Parity:
        """A file by its logits; one that was trained for int8 must agree with the network as it was trained."""
        parity = compare(self.logits, file_logits, _labels(self.images))
        if trained_logits is None:
            return parity
        trained = compare(trained_logits, file_logits, None)
        return dataclasses.replace(parity, agreement=trained.agreement, snr_db=trained.snr_db)

    def score(self, content: bytes) -> tuple[float, float]:
        """What one file is better than another by: accuracy, where it is known, then agreement with the subnet.

        On held-out training images: nothing is chosen by the validation images.
        """
        held = gate_images(self.data.tune, self.n_macs)
        logits = run_file(content, held, self.config.preprocessing)
        parity = compare(self.evaluator.logits(self.arch, held), logits, _labels(held))
        return parity.file_accuracy or 0.0, parity.agreement


def _labels(images: Images) -> np.ndarray | None:
    return images.labels if images.labelled else None


def _teacher(evaluator: SubnetEvaluator) -> keras.Model:
    """The largest network at its highest resolution."""
    largest = evaluator.supernet.space.largest()
    evaluator.calibrate(largest)
    return extract(evaluator.supernet, largest)


def _train(subnet: _Subnet, teacher: keras.Model, options: FileOptions, progress: Progress) -> tuple[bytes, np.ndarray]:
    """The file of the subnet after quantisation-aware training, and the trained network's logits for the gate."""
    from ofa_tf.export import qat  # imports tf_keras, which takes seconds

    config, arch, images = subnet.config, subnet.arch, subnet.data.train
    resolution = arch.resolution
    some = config.preprocessing(images.head(LAYER_IMAGES).resized(resolution).images).numpy()
    twin = qat.build_twin(subnet.model, config.space, arch, config.n_classes)
    qat.check_twin(subnet.model, twin, some)
    ends = config.preprocessing(np.array([[0] * 3, [255] * 3])).numpy()
    student = qat.quantise_twin(twin, float(ends.min()), float(ends.max()))
    tuning = qat.FineTuning(epochs=options.qat_epochs)
    steps, seed = tuning.steps(len(images)), (config.seed, 9)
    highest = config.space.resolutions[-1]  # which the teacher sees
    batches = training_batches(
        images, config.preprocessing, config.recipe.augment, tuning.batch, seed, range(steps), lambda _: highest
    )
    with progress.task("quantisation-aware training", steps * tuning.batch, "images") as advance:
        qat.fine_tune(student, teacher, batches, steps, tuning, images.labelled, advance)
    logits = [
        student(config.preprocessing(pixels), training=False).numpy()
        for pixels, _ in subnet.images.batches(tuning.batch, resolution)
    ]
    return to_tflite(student, options.precision, io=options.io, trained_ranges=True), np.concatenate(logits)


def _tell(progress: Progress, qat: Mapping[str, Any]) -> None:
    measure = "accuracy" if qat["ptq_accuracy"] is not None else "agreement"
    before, after = qat[f"ptq_{measure}"], qat[f"qat_{measure}"]
    kept = "kept" if qat["kept"] == "qat" else "no better on held-out training images, so the file without it is kept"
    progress.note(
        f"Quantisation-aware training: {measure} {after:.1%} against {before:.1%} without it "
        f"({(after - before) * 100:+.1f} points); it is {kept}."
    )


def _refusal(subnet: _Subnet, content: bytes, complaint: str, options: FileOptions) -> str:
    """The complaint, the layer where the error starts, and what to do."""
    preprocessing, resolution = subnet.config.preprocessing, subnet.arch.resolution
    some = subnet.data.train.head(LAYER_IMAGES).resized(resolution)
    inputs = [preprocessing(pixels).numpy() for pixels, _ in some.batches(1, resolution)]
    # The weights of a file that was trained for int8 are not the subnet's: its layers cannot be compared.
    errors = [] if options.qat_epochs else layer_errors(to_tflite(subnet.model, "fp32"), content, inputs)
    bad = first_bad_layer(errors)
    where = ""
    if bad is not None and bad.snr_db is not None:
        where = f"; the error starts at the layer `{bad.name}` ({bad.snr_db:.0f} dB signal to noise)"
    trainable = options.kind.integer and not options.qat_epochs
    advice = f"train it for {options.precision} with --qat, or " if trainable else ""
    return f"{complaint}{where}: {advice}export it anyway with --no-gate."
