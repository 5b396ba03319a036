"""From a subnet to the folder that a user takes home, one for each of several devices: `ofa-tf export`."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.energy import Meter
from ofa_tf.errors import DeviceError, ExportError
from ofa_tf.export.folder import Manifest, check_folder, sha256_of, write_export
from ofa_tf.export.same_file import ExportedFile, exported_files, same_file
from ofa_tf.export.verified import QAT_EPOCHS, FileOptions, VerifiedFile, make_file
from ofa_tf.formatting import milliseconds, percent
from ofa_tf.jsonio import SPACE_SCHEMA, read_json
from ofa_tf.latency.backends import backend_of
from ofa_tf.latency.device import Device, Workload
from ofa_tf.latency.host import HOST
from ofa_tf.latency.measure import PERCENTILES, STATISTIC
from ofa_tf.latency.table import LatencyTable
from ofa_tf.precision import get_precision
from ofa_tf.project.choice import Budgets, Choice
from ofa_tf.project.evaluator import make_evaluator
from ofa_tf.project.exported import exported_facts
from ofa_tf.project.finder import find_within
from ofa_tf.project.finetune import checked_epochs, fine_tuner, gain, told
from ofa_tf.project.memories import excess, own_limits
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.pictures import draw_mistakes
from ofa_tf.project.tables import device_of, find_device_table
from ofa_tf.space import Arch
from ofa_tf.tflite.metadata import Metadata
from ofa_tf.training.evaluation import SubnetEvaluator
from ofa_tf.training.finetune import FineTuner

EXPORT_SECONDS = 3.0  # that an exported file is measured for


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and where to.

    Args:
        file: the kind of file.
        name: name of the export's folder; None for one made of device, budget and precision.
        out: where to put that folder; None for `exports/` in the workdir.
        force: whether an export of that name may be replaced.
        allow_cpu: whether operators that the device does not have may run on the CPU, as with an Edge TPU.
        pictures: whether to draw what the file gets wrong on the validation images.
        finetune: passes over the training images that the subnet is trained for with weights of its own; 0 for none.
    """

    file: FileOptions = field(default_factory=FileOptions)
    name: str | None = None
    out: Path | None = None
    force: bool = False
    allow_cpu: bool = False
    pictures: bool = False
    finetune: float = 0.0


@dataclass(frozen=True)
class Target:
    """What a file is for.

    Args:
        device: `host`, or a device that has a latency table.
        budget_ms: latency budget there in milliseconds; None for a given subnet.
        ram_bytes: budget of the peak RAM on a microcontroller; None for none.
        size_bytes: budget of the file's size; None for none.
    """

    device: str = HOST
    budget_ms: float | None = None
    ram_bytes: float | None = None
    size_bytes: float | None = None

    @property
    def budgets(self) -> Budgets:
        """All budgets, as a search takes them."""
        return Budgets({self.device: self.budget_ms}, size_bytes=self.size_bytes, ram_bytes=self.ram_bytes)


DEFAULTS, THIS_MACHINE = ExportOptions(), Target()


@dataclass(frozen=True, repr=False)
class Export:
    """An exported subnet.

    Args:
        folder: the folder of its files.
        manifest: what was measured.
        same_file: the beginning of a sentence that names an export beside it with an equal file; None if there is none.
        predictor_caution: a sentence, if it was searched for with a predictor that cannot rank subnets.
    """

    folder: Path
    manifest: Manifest
    same_file: str | None = None
    predictor_caution: str | None = None

    def __repr__(self) -> str:
        facts = self.manifest
        shown = [facts.precision]
        if facts.file_accuracy is not None:
            shown.append(f"{percent(facts.file_accuracy)} on validation images")
        if facts.measured_ms is not None:
            shown.append(f"{milliseconds(facts.measured_ms)} measured")
        if facts.predicted_ms is not None:
            shown.append(f"{milliseconds(facts.predicted_ms, facts.predicted_ms_error)} predicted")
        same = f"; {self.same_file}" if self.same_file else ""
        return f"Export({str(self.folder)!r}: {', '.join(shown)}, {facts.size_bytes / 1e3:.0f} kB{same})"

    @property
    def file(self) -> Path:
        """The `.tflite` file."""
        return self.folder / "model.tflite"


def make_options(
    precision: str = "int8",
    io: str = "int8",
    qat: bool = False,
    epochs: float | None = None,
    gate: bool = True,
    name: str | None = None,
    out: str | Path | None = None,
    allow_cpu: bool = False,
    force: bool = False,
    author: str = "",
    license: str = "",
    description: str = "",
    pictures: bool = False,
    finetune: float | None = None,
) -> ExportOptions:
    """The options of the command as values; `cli/export.py` explains them.

    Raises:
        ExportError: options that do not go together.
        ArgumentError: too many epochs of fine-tuning.
    """
    if epochs and not qat:
        raise ExportError("--epochs is for --qat: give both, or neither.")
    about = Metadata(author=author, license=license, description=description)
    qat_epochs = (epochs or QAT_EPOCHS) if qat else 0.0
    file = FileOptions(precision, io, qat_epochs=qat_epochs, gate=gate, about=about)
    folder = None if out is None else Path(out)
    return ExportOptions(file, name, folder, force, allow_cpu, pictures, checked_epochs(finetune or 0.0))


def export_all(
    project: OpenedWorkdir, targets: Sequence[Target], options: ExportOptions, arch: str | Path | None = None
) -> list[Export]:
    """Exports the arch of a file for each of some devices, or, without one, what is searched for their budgets."""
    if arch is None:
        return export_budgets(project, targets, options)
    return export_arch_file(project, arch, targets, options)


def export_choice(
    project: OpenedWorkdir, choice: Choice | Arch, device: str | None = None, options: ExportOptions = DEFAULTS
) -> Export:
    """Exports what a search has found, for the device that it was searched for; or any arch, for any device.

    Args:
        project: the workdir.
        choice: the subnet.
        device: `host`, or a device that has a latency table; None for that of the choice, or `host`.
        options: the kind of file, and where it goes.
    """
    if isinstance(choice, Arch):
        arch = project.config.space.arch_from_document(choice.to_document())
        return export(project, arch, Target(device or HOST), options)
    if choice.device is not None and device in (None, choice.device):
        target = Target(choice.device, choice.budget_ms, *own_limits(choice))
        return export(project, choice.arch, target, options, choice)
    return export(project, choice.arch, Target(device or HOST), options)


def export_budgets(
    project: OpenedWorkdir,
    targets: Sequence[Target],
    options: ExportOptions = DEFAULTS,
) -> list[Export]:
    """Searches for the best subnet for each latency budget and exports them all.

    Everything that can be refused is refused before the first conversion: folders, devices, budgets.

    Args:
        project: the workdir.
        targets: devices with their budgets.
        options: the kind of files, and where they go.

    Raises:
        OfaError: as for `find` and `export`. The exports before the one that failed are there, and are noted.
    """
    project.require_data()
    _check_targets(project, targets, options)
    choices = []
    for target in targets:
        choices.append(find_within(project, target.budgets, _table_precision(project, options)))
    return _export_all(project, [choice.arch for choice in choices], targets, choices, options)


def export_arch_file(
    project: OpenedWorkdir,
    path: str | Path,
    targets: Sequence[Target] = (THIS_MACHINE,),
    options: ExportOptions = DEFAULTS,
) -> list[Export]:
    """Exports the arch of a JSON file for each of the devices; arguments as for `export_budgets`.

    Raises:
        FormatError: not an arch.
        SpaceError: an arch of another space.
        OfaError: as for `export`.
    """
    _check_targets(project, targets, options)
    for target in targets:
        if backend_of(target.device).tabulated:
            find_device_table(project, target.device, _table_precision(project, options, quiet=True))
    arch = project.config.space.arch_from_document(read_json(path, SPACE_SCHEMA), str(path))
    return _export_all(project, [arch] * len(targets), targets, [None] * len(targets), options)


def export(
    project: OpenedWorkdir,
    arch: Arch,
    target: Target = THIS_MACHINE,
    options: ExportOptions = DEFAULTS,
    choice: Choice | None = None,
    evaluator: SubnetEvaluator | None = None,
) -> Export:
    """Exports one subnet: makes the file, verifies it, measures it where the device is at hand, writes the folder.

    Args:
        project: the workdir.
        arch: the subnet.
        target: what it is for; the host is measured.
        options: the kind of file, and where it goes.
        choice: the search's answer, if it was searched for.
        evaluator: of the trained supernet, if there is one already.

    Raises:
        ExportError: the folder exists or cannot be written, the conversion fails, a float tensor is left in an int8
            file, or the file is not what the subnet is.
    """
    _check_targets(project, [target], options)
    return _export_all(project, [arch], [target], [choice], options, evaluator)[0]


def _export_all(
    project: OpenedWorkdir,
    archs: Sequence[Arch],
    targets: Sequence[Target],
    choices: Sequence[Choice | None],
    options: ExportOptions,
    evaluator: SubnetEvaluator | None = None,
) -> list[Export]:
    """Exports subnets for their targets; they share the supernet and its images, equal ones the file."""
    if options.pictures and not project.data.val.labelled:
        raise ExportError(f"--pictures needs validation images with labels; those of {project.config.data} have none.")
    evaluator = evaluator or make_evaluator(project, traced=False)
    tuner = fine_tuner(project, evaluator, options.finetune) if options.finetune else None
    files: dict[Arch, VerifiedFile] = {}
    gains: dict[Arch, Mapping[str, Any] | None] = {}
    pictures: dict[Arch, Mapping[str, bytes]] = {}
    exports, meter = [], Meter()
    for arch, target, choice in zip(archs, targets, choices, strict=True):
        if arch not in files:
            files[arch], gains[arch] = _make_file(project, evaluator, arch, options, tuner)
            pictures[arch] = draw_mistakes(files[arch], arch, project.config.classes) if options.pictures else {}
        folder, file = _folder(project, target, options), files[arch]
        backend = backend_of(target.device)
        completed = backend.complete(file.content, exported_facts(project.config, file))
        file = dataclasses.replace(file, content=completed.content or file.content)
        finished = backend.finish(file.content, options.allow_cpu, target.device)
        found = {**completed.manifest, **finished.manifest}
        micro = found.get("microcontroller") or {}
        arena_bytes = micro.get("arena_bytes") or micro.get("predicted_arena_bytes")
        over = excess(target.budgets, arena_bytes, len(file.content))
        for note in (*completed.notes, *finished.notes, *([over] if over else [])):
            project.progress.note(note)
        manifest = _manifest(project, arch, target, choice, options.file, file, found, gains[arch])
        more = {**completed.files, **finished.files, **pictures[arch]}
        with project.workdir.lock():
            write_export(folder, file.content, project.config.classes, arch, manifest, options.force, more)
            project.workdir.ledger().spend(f"export {folder.name}", meter.lap())
        own = ExportedFile(folder.name, manifest.sha256, manifest.device["name"], manifest.budget_ms)
        same, caution = same_file(own, exported_files(folder.parent)), choice.predictor_caution if choice else None
        exports.append(Export(folder, manifest, same, caution))
        if len(targets) > 1:
            project.progress.note(f"Exported {folder}.")
    return exports


def _make_file(
    project: OpenedWorkdir, evaluator: SubnetEvaluator, arch: Arch, options: ExportOptions, tuner: FineTuner | None
) -> tuple[VerifiedFile, Mapping[str, Any] | None]:
    """The file of a subnet, and what fine-tuning has gained."""
    own = tuned = None
    if tuner is not None:
        with project.workdir.lock():
            tuned = told(project, tuner.tune(arch))
        own = tuned.evaluator if tuned.better else None
    file = make_file(project.config, project.data, evaluator, arch, options.file, project.progress, own)
    return file, gain(tuned, evaluator, file.images) if tuned else None


def _manifest(
    project: OpenedWorkdir,
    arch: Arch,
    target: Target,
    choice: Choice | None,
    options: FileOptions,
    file: VerifiedFile,
    found: Mapping[str, Any],
    finetune: Mapping[str, Any] | None,
) -> Manifest:
    config, blocks = project.config, walk(project.config.space, arch, project.config.n_classes)
    table = _table(project, target, options.precision)
    device, timing = _device(project, target, table), None
    if device is not None:
        (timing,) = device.measure([Workload(file.content)], seed=config.seed)
        if timing.caution:
            project.progress.note(timing.caution)
    statistic = table.statistic if table is not None and table.statistic in PERCENTILES else STATISTIC
    limits = options.tolerance
    return Manifest(
        sha256=sha256_of(file.content),
        size_bytes=len(file.content),
        precision=options.precision,
        io=options.kind.ends(options.io),
        arch=arch.to_document(),
        device=device.facts() if device else table.device if table else {"name": target.device},
        runtime=device.runtime() if device else table.runtime if table else {},
        budget_ms=choice.budget_ms if choice else None,
        **_prediction(project, arch, table, choice, options.precision),
        measured_ms=timing.percentile_ms(PERCENTILES[statistic]) if timing else None,
        measured_median_ms=timing.percentile_ms(50) if timing else None,
        latency_statistic=statistic if timing else None,
        n_macs=count_macs(blocks),
        n_params=count_params(blocks),
        float_accuracy=file.parity.float_accuracy,
        file_accuracy=file.parity.file_accuracy,
        agreement=file.parity.agreement,
        snr_db=file.parity.snr_db,
        validation_images=file.parity.images,
        gate={
            "enforced": options.gate,
            "points_lost": limits.points_lost,
            "agreement": limits.agreement,
            "complaint": file.complaint,
        },
        finetune=finetune,
        qat=file.qat,
        representative=file.representative,
        predicted_accuracy=choice.predicted_accuracy if choice else None,
        predictor_origin=choice.predictor_origin if choice else None,
        preprocessing={key: list(value) for key, value in config.preprocessing.__dict__.items()},
        raw_pixels=file.raw_pixels,
        input_quantization=file.input_quantization,
        ops=file.facts.ops,
        tensor_types=file.facts.tensor_types,
        imported_from=project.workdir.ledger().source,
        trained_from=config.init,
        crop=config.crop,
        **found,
    )


def _table(project: OpenedWorkdir, target: Target, precision: str) -> LatencyTable | None:
    """The table of the device; None if it has none.

    Raises:
        DeviceError: it may be one of several phones.
    """
    if not backend_of(target.device).tabulated:
        return None
    try:
        return find_device_table(project, target.device, get_precision(precision).table)
    except DeviceError:
        if backend_of(target.device).measurable:
            raise
        return None  # no table of that name


def _device(project: OpenedWorkdir, target: Target, table: LatencyTable | None) -> Device | None:
    """The device, set up as its table was measured; None if it is not at hand, or only modelled."""
    backend = backend_of(target.device)
    modelled = not backend.measurable or backend.source != "measured"
    if modelled or (table is None and not backend.always_at_hand):
        return None
    host = dataclasses.replace(project.host, seconds=EXPORT_SECONDS)
    try:
        found = backend.open(target.device, host=host) if table is None else device_of(table, host)
    except DeviceError as error:
        project.progress.note(f"The file is not measured on {target.device}: {error}")
        return None
    if table is not None and found.runtime() != table.runtime:
        project.progress.note(f"The file is not measured on {target.device}: its table is of another runtime.")
        return None
    return found


def _prediction(
    project: OpenedWorkdir, arch: Arch, table: LatencyTable | None, choice: Choice | None, precision: str
) -> Mapping[str, Any]:
    """What the table says about the latency: of the search, or looked up; nothing where no table covers the arch."""
    found = {"predicted_ms": None, "predicted_ms_error": None, "table_source": None, "table_precision": None}
    table_precision = get_precision(precision).table
    if choice is not None and choice.latencies:
        return {name: getattr(choice, name) for name in list(found)[:3]} | {"table_precision": table_precision}
    space, n_classes = project.config.space, project.config.n_classes
    if table is None or table.missing(space, arch.resolution, n_classes):
        return found
    return {
        "predicted_ms": _table_ms(project, table, arch),
        "predicted_ms_error": None if table.validation is None else table.validation["mape"],
        "table_source": table.source,
        "table_precision": table_precision,
    }


def _table_ms(project: OpenedWorkdir, table: LatencyTable, arch: Arch) -> float:
    space = project.config.space
    return float(table.costs(space, project.config.n_classes)(space.encode([arch]))[0])


def _table_precision(project: OpenedWorkdir, options: ExportOptions, quiet: bool = False) -> str:
    precision, used = options.file.precision, options.file.kind.table
    if used != precision and not quiet:
        project.progress.note(f"There are no tables of {precision} files: latencies are predicted by the {used} table.")
    return used


def _folder(project: OpenedWorkdir, target: Target, options: ExportOptions) -> Path:
    name = options.name
    if name is None:
        device = target.device.replace(":", "-") if not backend_of(target.device).tabulated else target.device
        memories = [f"{of / 1e3:g}kb" for of in (target.ram_bytes, target.size_bytes) if of]
        parts = [device, f"{target.budget_ms:g}ms" if target.budget_ms else "", *memories, options.file.precision]
        name = "-".join(part for part in parts if part)
    if not name or name != Path(name).name or name.startswith("."):
        raise ExportError(f"--name {name!r} must be a plain folder name, without a slash or a leading dot.")
    return (options.out or project.workdir.exports) / name


def _check_targets(project: OpenedWorkdir, targets: Sequence[Target], options: ExportOptions) -> None:
    """Refuses what the device does not run and folders that cannot be written, before minutes of work.

    Raises:
        DeviceError: the space or the precision is not for the device.
        ExportError: says which folder and why.
    """
    for target in targets:
        backend = backend_of(target.device)
        if not options.allow_cpu:
            backend.require_legal(project.config.space, options.file.precision)
        backend.memories(target.device)
    folders = [_folder(project, target, options) for target in targets]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ExportError(
                f"{len(folders)} exports cannot all be written to {folder}: "
                + ("leave --name out." if options.name else "each pair of device and budget may be given only once.")
            )
        check_folder(folder, options.force)
