"""From a subnet to the folder that a user takes home."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_tf.accuracy.evaluate import SubnetEvaluator
from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.data import Images
from ofa_tf.errors import ExportError
from ofa_tf.export.convert import to_tflite
from ofa_tf.export.edgetpu import check
from ofa_tf.export.folder import Manifest, check_folder, sha256_of, write_export
from ofa_tf.export.model_file import ModelFile, inspect_file
from ofa_tf.jsonio import read_json
from ofa_tf.latency.device import Workload
from ofa_tf.latency.edgetpu import NAME as EDGE_TPU
from ofa_tf.latency.edgetpu import require_legal
from ofa_tf.latency.measure import STATISTIC
from ofa_tf.latency.store import find_table
from ofa_tf.pipeline.predicting import make_evaluator
from ofa_tf.pipeline.searching import Choice, find
from ofa_tf.project import Project
from ofa_tf.space import Arch
from ofa_tf.subnet import extract
from ofa_tf.workdir import Config

REPRESENTATIVE_IMAGES = 200
EXPORT_SECONDS = 3.0  # that an exported file is measured for


@dataclass(frozen=True)
class Export:
    """An exported subnet: where it is, and the truth about it."""

    folder: Path
    manifest: Manifest


def export(
    project: Project,
    arch: Arch,
    precision: str = "int8",
    device: str = "host",
    choice: Choice | None = None,
    name: str | None = None,
    force: bool = False,
    evaluator: SubnetEvaluator | None = None,
    allow_cpu: bool = False,
) -> Export:
    """Extracts a subnet, recalibrates, converts, runs the file on the validation images, and writes the folder.

    Args:
        project: the workdir.
        arch: the subnet.
        precision: "int8", "fp16" or "fp32".
        device: what it is for; the host is measured.
        choice: the search's answer, if it was searched for.
        name: of the folder in `exports/`.
        force: whether an export of that name may be replaced.
        evaluator: of the trained supernet, if there is one already.
        allow_cpu: whether a file for an Edge TPU may have operators that run on the CPU.

    Raises:
        DeviceError: the space, or the precision, is not for the device.
        ExportError: the conversion fails, a float tensor is left in a full-integer file, the device does not run an
            operator, or the folder exists.
    """
    if device == EDGE_TPU and not allow_cpu:
        require_legal(project.config.space, precision)
    config, data = project.config, project.data
    if name is None:
        name = f"{device}-{choice.budget_ms:g}ms-{precision}" if choice else f"{device}-{precision}"
    if not name or name != Path(name).name or name.startswith("."):
        raise ExportError(f"--name {name!r} must be a plain folder name: no slash, and no dot at the beginning.")
    folder = project.workdir.exports / name
    check_folder(folder, force)
    evaluator = evaluator or make_evaluator(project)
    evaluator.calibrate(arch)
    float_logits = evaluator.logits(arch, data.val)
    model = extract(evaluator.supernet, arch)
    content = to_tflite(model, precision, representative_inputs(data.train, arch.resolution, config))
    facts = inspect_file(content)
    if precision == "int8" and facts.n_float_tensors:
        raise ExportError(
            f"{facts.n_float_tensors} tensors of the file are still floating-point: {facts.tensor_types}."
        )
    edgetpu = check(content, allow_cpu) if device == EDGE_TPU else None
    for note in edgetpu.notes if edgetpu else ():
        project.progress.note(note)
    model_file = ModelFile(content)
    logits = model_file.logits(data.val, config.preprocessing)
    blocks = walk(config.space, arch, len(config.classes))
    timing = None
    if device == "host":
        host = dataclasses.replace(project.host, seconds=EXPORT_SECONDS)
        (timing,) = host.measure([Workload(content)], seed=config.seed)
    manifest = Manifest(
        sha256=sha256_of(content),
        size_bytes=len(content),
        precision=precision,
        arch=arch.to_document(),
        device=project.host.facts() if device == "host" else {"name": device},
        runtime=project.host.runtime() if device == "host" else {},
        budget_ms=choice.budget_ms if choice else None,
        predicted_ms=choice.predicted_ms if choice else None,
        predicted_ms_error=choice.predicted_ms_error if choice else None,
        table_source=choice.table_source if choice else None,
        measured_ms=timing.percentile_ms(10) if timing else None,
        measured_median_ms=timing.percentile_ms(50) if timing else None,
        latency_statistic=STATISTIC if timing else None,
        n_macs=count_macs(blocks),
        n_params=count_params(blocks),
        float_accuracy=_accuracy(float_logits, data.val),
        file_accuracy=_accuracy(logits, data.val),
        agreement=float((float_logits.argmax(1) == logits.argmax(1)).mean()),
        validation_images=len(data.val),
        predicted_accuracy=choice.predicted_accuracy if choice else None,
        predictor_origin=choice.predictor_origin if choice else None,
        preprocessing={key: list(value) for key, value in config.preprocessing.__dict__.items()},
        input_quantization=model_file.input_quantization,
        ops=facts.ops,
        tensor_types=facts.tensor_types,
        imported_from=project.workdir.ledger().source,
        edgetpu=edgetpu.document if edgetpu else None,
    )
    more = {"model_edgetpu.tflite": edgetpu.compiled} if edgetpu and edgetpu.compiled else {}
    with project.workdir.lock():
        write_export(folder, content, config.classes, arch, manifest, force, more)
    return Export(folder, manifest)


def export_budget(
    project: Project,
    budget_ms: float,
    precision: str = "int8",
    device: str = "host",
    name: str | None = None,
    force=False,
    allow_cpu: bool = False,
) -> Export:
    """Searches the best subnet for a latency budget and exports it; arguments as for `find` and `export`."""
    project.require_data()
    choice = find(project, device, budget_ms, precision)
    return export(project, choice.arch, precision, device, choice, name, force, allow_cpu=allow_cpu)


def export_arch_file(
    project: Project,
    path: str | Path,
    precision: str = "int8",
    device: str = "host",
    name: str | None = None,
    force=False,
    allow_cpu: bool = False,
) -> Export:
    """Exports the arch of a JSON file; arguments as for `export`.

    Raises:
        FormatError: not an arch.
        SpaceError: an arch of another space.
        DeviceError: no such device.
    """
    find_table(project.workdir.tables, device, precision, project.host)
    arch = project.config.space.arch_from_document(read_json(path), str(path))
    return export(project, arch, precision, device, None, name, force, allow_cpu=allow_cpu)


def _accuracy(logits: np.ndarray, images: Images) -> float | None:
    return float((logits.argmax(1) == images.labels).mean()) if images.labelled else None


def representative_inputs(images: Images, resolution: int, config: Config) -> list[np.ndarray]:
    """Preprocessed training images, balanced over classes and seeded, each of shape (1, resolution, resolution, 3)."""
    order = np.random.default_rng([config.seed, 7]).permutation(len(images))
    by_class = [order[images.labels[order] == label] for label in np.unique(images.labels)]
    turns = [members[turn] for turn in range(max(map(len, by_class))) for members in by_class if turn < len(members)]
    chosen = images.take(np.array(turns[:REPRESENTATIVE_IMAGES]))
    return [config.preprocessing(pixels).numpy() for pixels, _ in chosen.batches(1, resolution)]
