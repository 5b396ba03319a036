"""The whole story in one function: one training, three files for three budgets."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofa_tf.export.verified import FileOptions
from ofa_tf.progress import SILENT, Progress
from ofa_tf.project.evaluator import make_evaluator
from ofa_tf.project.export import Export, ExportOptions, Target, export
from ofa_tf.project.finder import find_with
from ofa_tf.project.lut import measure_table
from ofa_tf.project.opened import open_project
from ofa_tf.project.predictor import fit
from ofa_tf.project.report import read_contents, write_page
from ofa_tf.project.train import train
from ofa_tf.project.workdir import Workdir
from ofa_tf.report.plot import Series, plot_front

# Where between the fastest subnet and the slowest the three budgets lie, on a logarithmic scale.
BUDGETS = (0.25, 0.55, 0.9)
ARCHS = 100
PLOT = "front.png"


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Args:
        exports: one per budget, the smallest budget first.
        seconds: from start to end.
        traces: of the training step, all stages together; 0 if they were trained before.
        plot: the picture.
        report: the page of the workdir.
    """

    exports: Sequence[Export]
    seconds: float
    traces: int
    plot: Path
    report: Path


def run_demo(path: str | Path, data: str | None = None, seed: int | None = None, progress: Progress = SILENT) -> Demo:
    """Trains the `tiny` space, fits the predictor, measures this machine, searches and exports for three budgets.

    In a workdir where some of this is done it continues from there; table and exports are made again.

    Args:
        path: the workdir.
        data: data spec, default `street-digits`.
        seed: seed of everything random, default 0; for a workdir that exists None, or its own.
        progress: where to report progress.
    """
    start = time.monotonic()
    new: dict[str, Any] = (
        {} if Workdir(path).exists else {"space": "tiny", "recipe": "demo"}
    )  # whatever the images: it takes minutes
    project = open_project(path, data=data, seed=seed, progress=progress, **new)
    space, n_classes = project.config.space, project.config.n_classes
    training = train(project, "all")
    evaluator = make_evaluator(project)
    predictor = fit(project, ARCHS, evaluator).predictor
    path_of_table, table = measure_table(project)

    costs = table.costs(space, n_classes)
    fastest = costs(costs.cheapest()[None])[0]
    slowest = costs(space.encode([space.largest()]))[0]
    budgets = [float(f"{fastest * (slowest / fastest) ** share:.2g}") for share in BUDGETS]
    options = ExportOptions(FileOptions(gate=False), force=True)  # what a file loses is part of the story
    exports = []
    with progress.task("exporting", len(budgets), "files") as advance:
        for budget_ms in budgets:
            choice = find_with(project, table, predictor, budget_ms)
            exports.append(export(project, choice.arch, Target("host", budget_ms), options, choice, evaluator))
            advance(1)

    contents = read_contents(path)
    (front,) = (device.front for device in contents.devices if device.path == path_of_table)
    assert front is not None  # the predictor knows every resolution
    pairs, plot = contents.pairs, project.workdir.path / PLOT
    plot_front(
        plot,
        table.label,
        Series(front.costs, front.scores),
        Series(costs(space.encode([arch for arch, _ in pairs])), [accuracy for _, accuracy in pairs]),
        Series([e.manifest.measured_ms or 0.0 for e in exports], [e.manifest.file_accuracy or 0.0 for e in exports]),
        [f"{e.manifest.budget_ms:g} ms" for e in exports],
    )
    page = write_page(contents)
    return Demo(exports, time.monotonic() - start, sum(training.traces.values()), plot, page.path)
