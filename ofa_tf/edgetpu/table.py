"""The Edge TPU of a workdir: its table, measured where one is plugged in and modelled everywhere else."""

from collections.abc import Sequence
from pathlib import Path

from ofa_tf.costs import arch_costs
from ofa_tf.edgetpu.compiler import compile_file, find_compiler
from ofa_tf.edgetpu.device import EdgeTpuDevice, load_delegates
from ofa_tf.edgetpu.latency_model import NAME, modelled_table, param_bytes, require_legal
from ofa_tf.export.block_files import BlockFiles
from ofa_tf.latency.measure import build_table
from ofa_tf.latency.store import add_table
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project.opened import Project
from ofa_tf.search import Budget


def get_edgetpu_table(project: Project, precision: str = "int8") -> LatencyTable:
    """The workdir's table of an Edge TPU, measured or modelled; modelled now, if there is none.

    Raises:
        DeviceError: the space, or the precision, is not for an Edge TPU.
        FormatError: the file of a table is damaged.
    """
    require_legal(project.config.space, precision)
    return find_edgetpu_table(project) or _keep(project, _modelled(project))[1]


def find_edgetpu_table(project: Project) -> LatencyTable | None:
    """The workdir's table of an Edge TPU, the measured one where it has both; None where it has none.

    Raises:
        FormatError: the file of a table is damaged.
    """
    space, n_classes = project.config.space, project.config.n_classes
    tables = [LatencyTable.load(path) for path in sorted(project.workdir.tables.glob(f"{NAME}__*.json"))]
    covering = [table for table in tables if table.resolutions(space, n_classes)]
    return min(covering, key=lambda table: table.source != "measured", default=None)


def build_edgetpu_table(
    project: Project, precision: str = "int8", resolutions: Sequence[int] | None = None
) -> tuple[Path, LatencyTable]:
    """Measures the table of the Edge TPU that is plugged in; without one, or without its compiler, models it.

    Args:
        project: the workdir.
        precision: "int8".
        resolutions: those to measure, None for all of the space; a modelled table has all.

    Raises:
        DeviceError: the space, or the precision, is not for an Edge TPU, or the device fails.
        ExportError: the compiler fails.
    """
    config = project.config
    require_legal(config.space, precision)
    program = find_compiler()
    delegates = load_delegates() if program else []
    if program is None or not delegates:
        return _keep(project, _modelled(project))
    device = EdgeTpuDevice(lambda content: compile_file(content, program)[0], delegates)
    n_classes = config.n_classes
    converter = BlockFiles(config.space, n_classes, precision, project.workdir.converted)
    table = build_table(
        config.space,
        n_classes,
        precision,
        device,
        converter,
        resolutions,
        passes=1,  # each would compile every file again
        seed=config.seed,
        progress=project.progress,
    )
    return _keep(project, table)


def memory_budgets(project: Project, table: LatencyTable) -> list[Budget]:
    """A limit on the parameters where a subnet of the workdir may have more than the device's memory holds.

    Beyond it they are streamed on every call, which no sum over blocks can tell: the table's latencies hold within.
    """
    limit = table.device.get("parameter_memory_bytes")
    if not isinstance(limit, int):
        return []
    space, n_classes = project.config.space, project.config.n_classes
    costs = arch_costs(space, lambda block: param_bytes(block) / 1e6, n_classes)
    if costs(space.encode([space.largest()]))[0] * 1e6 <= limit:
        return []
    return [Budget("parameters in on-chip memory", "MB", costs, limit / 1e6)]


def _modelled(project: Project) -> LatencyTable:
    table = modelled_table(project.config.space, project.config.n_classes)
    assert table.validation is not None
    project.progress.note(
        f"Latencies of the Edge TPU are modelled, ± {table.validation['mape'] * 100:.0f} % on published networks; "
        "with one plugged in and its compiler on PATH `ofa-tf lut build --device edgetpu` measures."
    )
    return table


def _keep(project: Project, table: LatencyTable) -> tuple[Path, LatencyTable]:
    with project.workdir.lock():
        return add_table(project.workdir.tables, table, replace=True), table
