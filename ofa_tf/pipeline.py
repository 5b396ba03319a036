"""The main job after training: predict, measure, search, export. Each command is one of these functions."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_tf.accuracy.evaluate import SubnetEvaluator
from ofa_tf.accuracy.fit import collect_pairs, fit_predictor
from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.blocks import ArchCosts, arch_costs, count_macs, count_params, walk
from ofa_tf.data import Images
from ofa_tf.errors import DataError, DeviceError, ExportError, FormatError, WorkdirError
from ofa_tf.export.convert import BlockConverter, to_tflite
from ofa_tf.export.folder import Manifest, check_folder, sha256_of, write_export
from ofa_tf.export.model_file import ModelFile, inspect_file
from ofa_tf.jsonio import read_json
from ofa_tf.latency.device import Workload
from ofa_tf.latency.measure import STATISTIC, build_table, validate_table
from ofa_tf.latency.store import find_table, table_name
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project import Project
from ofa_tf.search import Budget, pareto, search
from ofa_tf.space import Arch
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.training.recipe import STAGES
from ofa_tf.training.trainer import load_stage
from ofa_tf.workdir import Config

REPRESENTATIVE_IMAGES = 200
EXPORT_SECONDS = 3.0  # that an exported file is measured for


def load_supernet(project: Project) -> Supernet:
    """The trained supernet.

    Raises:
        WorkdirError: a stage is missing.
    """
    config, ledger = project.config, project.workdir.ledger()
    for stage in STAGES:
        if not ledger.done(stage):
            raise WorkdirError(
                f"Stage `{stage}` of {project.workdir} is not trained: run `ofa-tf train --stage width`."
            )
    supernet = Supernet(config.space, len(config.classes), seed=config.seed)
    load_stage(project.workdir, STAGES[-1], supernet)
    return supernet


def make_evaluator(project: Project) -> SubnetEvaluator:
    """An evaluator of the trained supernet's subnets."""
    images = project.data.train
    return SubnetEvaluator(load_supernet(project), project.config.preprocessing, images)


# --- predictor and table ----------------------------------------------------------------------------------------------


def fit(project: Project, n_archs: int = 100, evaluator: SubnetEvaluator | None = None) -> FittedPredictor:
    """Evaluates subnets on held-out training images and fits the accuracy predictor to them.

    Args:
        project: the workdir.
        n_archs: subnets in all; those evaluated in earlier calls count.
        evaluator: of the trained supernet, if there is one already.

    Raises:
        DataError: there are no images, or they have no labels.
    """
    workdir, config = project.workdir, project.config
    _require_labels(project)
    evaluator = evaluator or make_evaluator(project)
    with workdir.lock():
        pairs = collect_pairs(evaluator, project.data.tune, n_archs, config.seed, workdir.accuracy, project.progress)
        fitted = FittedPredictor(*fit_predictor(config.space, pairs, config.seed))
        fitted.save(workdir.accuracy)
    return fitted


def _require_labels(project: Project) -> None:
    if not project.data.tune.labelled:
        raise DataError(
            f"The images in {project.config.data} have no labels, without which there are no accuracies to learn from: "
            "sort them into folders named after their classes."
        )


def load_predictor(project: Project) -> FittedPredictor | None:
    """The workdir's predictor, or None if none was fitted or imported yet.

    Raises:
        FormatError: its files are damaged.
    """
    try:
        return FittedPredictor.load(project.workdir.accuracy, project.config.space)
    except FormatError as error:
        raise FormatError(f"{error} Fit it again: `ofa-tf predictor fit`.") from None


def measure_table(
    project: Project, device: str = "host", precision: str = "int8", resolutions: Sequence[int] | None = None
) -> tuple[Path, LatencyTable]:
    """Measures the latency table of a device for the workdir's space and keeps it.

    Raises:
        DeviceError: the device is not at hand.
    """
    if device != "host":
        raise DeviceError(f"The device {device!r} cannot be measured from here; `host` can.")
    config, host = project.config, project.host
    unknown = sorted(set(resolutions or ()) - set(config.space.resolutions))
    if unknown:
        raise DeviceError(f"`resolution` (={unknown[0]}) must be one of the space's {list(config.space.resolutions)}.")
    n_classes = len(config.classes)
    converter = BlockConverter(config.space, n_classes, precision)
    with project.workdir.lock():
        table = build_table(
            config.space,
            n_classes,
            precision,
            host,
            converter,
            resolutions,
            seed=config.seed,
            progress=project.progress,
        )
        path = project.workdir.tables / table_name("host", host.runtime(), precision)
        path.parent.mkdir(exist_ok=True)
        table.save(path)
    return path, table


def validate(
    project: Project, device: str = "host", precision: str = "int8", subnets: int = 40
) -> tuple[Path, LatencyTable]:
    """Measures how wrong a table is on whole subnets that it has not seen, and writes that into it.

    Raises:
        DeviceError: the device is not at hand.
        WorkdirError: it has no table yet.
    """
    if device != "host":
        raise DeviceError(f"The device {device!r} cannot be measured from here; `host` can.")
    config, host = project.config, project.host
    path = project.workdir.tables / table_name("host", host.runtime(), precision)
    if not path.exists():
        raise WorkdirError(
            f"There is no {precision} table of this machine in {project.workdir}: run `ofa-tf lut build`."
        )
    converter = BlockConverter(config.space, len(config.classes), precision)
    with project.workdir.lock():
        table = validate_table(
            LatencyTable.load(path),
            config.space,
            len(config.classes),
            host,
            converter,
            subnets,
            config.seed,
            project.progress,
        )
        table.save(path)
    return path, table


def get_table(project: Project, device: str, precision: str) -> LatencyTable:
    """The table of a device; that of the host is measured if it is missing.

    Raises:
        DeviceError: no such device.
        FormatError: the file of a table is damaged.
    """
    try:
        table = find_table(project.workdir.tables, device, precision, project.host)
    except FormatError as error:
        raise FormatError(f"{error} Remove it, or measure it again: `ofa-tf lut build`.") from None
    if table is not None:
        return table
    project.progress.note(f"There is no {precision} table of this machine yet: measuring one.")
    return measure_table(project, device, precision)[1]


# --- search -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """A subnet found for a budget; latency and accuracy are predictions.

    Args:
        arch: the subnet.
        device: label of the table, with its precision and source.
        budget_ms: the latency asked for; None on a front.
        predicted_ms: by the table.
        table_source: "measured", "modelled" or "imported".
        predicted_ms_error: mean error of the table on whole subnets, as a share; None if it was not validated.
        predicted_accuracy: by the predictor (0 to 1).
        n_macs: multiply-accumulates for one image.
        n_params: trainable parameters.
        predictor_origin: "fitted" in this workdir, or "imported".
    """

    arch: Arch
    device: str
    budget_ms: float | None
    predicted_ms: float
    table_source: str
    predicted_ms_error: float | None
    predicted_accuracy: float
    n_macs: int
    n_params: int
    predictor_origin: str = "fitted"


def find(
    project: Project,
    device: str,
    budget_ms: float,
    precision: str = "int8",
    most_macs: float | None = None,
    most_params: float | None = None,
) -> Choice:
    """Searches the best subnet for a latency budget; a missing table of the host or predictor is made first.

    Args:
        project: the workdir.
        device: whose latency is limited.
        budget_ms: the most milliseconds.
        precision: of the files that the table is of.
        most_macs: the most multiply-accumulates for one image, too; None for any number.
        most_params: the most trainable parameters, too; None for any number.

    Raises:
        InfeasibleError: no subnet is within all budgets; the message has the nearest.
        OfaError: no such device, or nothing trained yet.
    """
    table, fitted = _search_parts(project, device, precision)
    choice = find_with(project, table, fitted.predictor, budget_ms, most_macs, most_params)
    return dataclasses.replace(choice, predictor_origin=fitted.origin)


def find_front(project: Project, device: str, precision: str = "int8", points: int = 20) -> list[Choice]:
    """The best subnets at so many latencies from the fastest to the largest one's, in one search.

    Raises:
        OfaError: no such device, or nothing trained yet.
    """
    table, fitted = _search_parts(project, device, precision)
    space, costs = project.config.space, _known_costs(project, table, fitted.predictor)
    largest = space.largest(space.resolutions[int(np.flatnonzero(np.isfinite(costs.fixed))[-1])])
    fastest_ms, slowest_ms = costs(np.stack([costs.cheapest(), space.encode(largest)]))
    limits = np.geomspace(fastest_ms, slowest_ms, points)
    front = pareto(space, fitted.predictor, costs, limits, seed=project.config.seed)
    return [
        dataclasses.replace(
            _choice(project, table, code, None, float(cost), float(score)), predictor_origin=fitted.origin
        )
        for code, cost, score in zip(front.codes, front.costs, front.scores, strict=True)
    ]


def _search_parts(project: Project, device: str, precision: str) -> tuple[LatencyTable, FittedPredictor]:
    """Table and predictor, made if they are missing."""
    fitted = load_predictor(project)
    if fitted is None:
        _require_labels(project)  # before a table is measured for nothing
    table = get_table(project, device, precision)
    if fitted is None:
        project.progress.note("There is no accuracy predictor yet: fitting one.")
        fitted = fit(project)
    return table, fitted


def find_with(
    project: Project,
    table: LatencyTable,
    predictor: Predictor,
    budget_ms: float,
    most_macs: float | None = None,
    most_params: float | None = None,
) -> Choice:
    """Searches with a table and a predictor at hand, at the resolutions that both know; arguments as for `find`."""
    space, n_classes = project.config.space, len(project.config.classes)
    costs = _known_costs(project, table, predictor)
    budgets = [Budget("latency", "ms", costs, budget_ms)]
    if most_macs is not None:
        budgets.append(Budget("MACs", "", arch_costs(space, lambda block: block.n_macs, n_classes), most_macs))
    if most_params is not None:
        budgets.append(
            Budget("parameters", "", arch_costs(space, lambda block: block.n_params, n_classes), most_params)
        )
    found = search(space, predictor, budgets, seed=project.config.seed)
    return _choice(project, table, found.code, budget_ms, float(costs(found.code[None])[0]), float(found.score))


def _known_costs(project: Project, table: LatencyTable, predictor: Predictor) -> ArchCosts:
    """Latencies, infinite at the resolutions that the predictor does not know."""
    space = project.config.space
    costs = table.costs(space, len(project.config.classes))
    known = np.isin(space.resolutions, predictor.resolutions)
    return ArchCosts(space, np.where(known, costs.fixed, np.inf), costs.elastic)


def _choice(
    project: Project, table: LatencyTable, code: np.ndarray, budget_ms: float | None, latency_ms: float, accuracy: float
) -> Choice:
    space = project.config.space
    arch = space.decode_one(code)
    blocks = walk(space, arch, len(project.config.classes))
    return Choice(
        arch=arch,
        device=table.label,
        budget_ms=budget_ms,
        predicted_ms=latency_ms,
        table_source=table.source,
        predicted_ms_error=None if table.validation is None else table.validation["mape"],
        predicted_accuracy=min(max(accuracy, 0.0), 1.0),
        n_macs=count_macs(blocks),
        n_params=count_params(blocks),
    )


# --- export -----------------------------------------------------------------------------------------------------------


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

    Raises:
        ExportError: the conversion fails, a float tensor is left in a full-integer file, or the folder exists.
    """
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
    )
    with project.workdir.lock():
        write_export(folder, content, config.classes, arch, manifest, force)
    return Export(folder, manifest)


def export_budget(
    project: Project,
    budget_ms: float,
    precision: str = "int8",
    device: str = "host",
    name: str | None = None,
    force=False,
) -> Export:
    """Searches the best subnet for a latency budget and exports it; arguments as for `find` and `export`."""
    project.require_data()
    choice = find(project, device, budget_ms, precision)
    return export(project, choice.arch, precision, device, choice, name, force)


def export_arch_file(
    project: Project,
    path: str | Path,
    precision: str = "int8",
    device: str = "host",
    name: str | None = None,
    force=False,
) -> Export:
    """Exports the arch of a JSON file; arguments as for `export`.

    Raises:
        FormatError: not an arch.
        SpaceError: an arch of another space.
        DeviceError: no such device.
    """
    find_table(project.workdir.tables, device, precision, project.host)
    arch = project.config.space.arch_from_document(read_json(path), str(path))
    return export(project, arch, precision, device, None, name, force)


def _accuracy(logits: np.ndarray, images: Images) -> float | None:
    return float((logits.argmax(1) == images.labels).mean()) if images.labelled else None


def representative_inputs(images: Images, resolution: int, config: Config) -> list[np.ndarray]:
    """Preprocessed training images, balanced over classes and seeded, each of shape (1, resolution, resolution, 3)."""
    order = np.random.default_rng([config.seed, 7]).permutation(len(images))
    by_class = [order[images.labels[order] == label] for label in np.unique(images.labels)]
    turns = [members[turn] for turn in range(max(map(len, by_class))) for members in by_class if turn < len(members)]
    chosen = images.take(np.array(turns[:REPRESENTATIVE_IMAGES]))
    return [config.preprocessing(pixels).numpy() for pixels, _ in chosen.batches(1, resolution)]
