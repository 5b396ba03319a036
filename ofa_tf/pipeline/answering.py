"""What `ofa-tf search` answers: the best subnet within each set of limits, its candidates evaluated and measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tf.accuracy.evaluate import SubnetEvaluator
from ofa_tf.errors import FormatError, SpaceError, WorkdirError
from ofa_tf.export.convert import to_tflite
from ofa_tf.jsonio import check_place, read_json, write_json
from ofa_tf.latency.device import Workload
from ofa_tf.latency.devices import HOST
from ofa_tf.latency.measure import PERCENTILES
from ofa_tf.pipeline.measuring import device_of
from ofa_tf.pipeline.predicting import make_evaluator, require_labels
from ofa_tf.pipeline.searching import Choice, Finder, Limits
from ofa_tf.project import Project
from ofa_tf.space import Arch
from ofa_tf.subnet import extract

ARCH = "arch.json"
RANGE_IMAGES = 8


@dataclass(frozen=True)
class Verified:
    """A candidate, and what it really does.

    Args:
        choice: the candidate with its predictions.
        accuracy: top-1 on held-out training images, batch norm recalibrated, before quantisation (0 to 1).
        images: how many of them.
        measured_ms: of its file on this machine, by the table's statistic; None where the host was not asked for.
    """

    choice: Choice
    accuracy: float
    images: int
    measured_ms: float | None

    def to_document(self) -> dict[str, Any]:
        """The candidate as JSON values."""
        facts = {key: value for key, value in self.__dict__.items() if key != "choice"}
        return {**self.choice.to_document(), **facts}


@dataclass(frozen=True)
class Answer:
    """The best subnet within limits.

    Args:
        limits: what it had to meet.
        choice: the subnet.
        resolutions: those that were searched, in pixels.
        verified: the candidates that it was chosen from, best first; empty if none was evaluated.
    """

    limits: Limits
    choice: Choice
    resolutions: tuple[int, ...]
    verified: tuple[Verified, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """The answer as JSON values."""
        document = {**self.choice.to_document(), "resolutions": list(self.resolutions)}
        return {**document, "verified": [candidate.to_document() for candidate in self.verified]}


def find_all(
    project: Project,
    wanted: Sequence[Limits],
    precision: str = "int8",
    verify: int = 0,
    out: str | Path | None = None,
) -> tuple[list[Answer], Path]:
    """Searches the best subnet within each set of limits, and writes the arch of the last.

    Args:
        project: the workdir.
        wanted: the limits of each search; all of the same devices.
        precision: of the files that the tables are of, whose size is predicted and, with `verify`, whose latency
            is measured.
        verify: how many candidates of each search are evaluated and, if the host is among the devices, measured,
            before the most accurate within the host's limit is chosen; 0 to go by the predictions.
        out: where to write the arch; None for `arch.json` in the workdir, which replaces an arch and nothing else.

    Returns:
        The answers, and where the arch was written.

    Raises:
        InfeasibleError: no subnet is within the limits of a search; the message has the nearest.
        OfaError: no such device, nothing trained yet, or a file in the way.
    """
    path = _own_arch_file(project) if out is None else Path(out)
    check_place(path)
    if verify:
        require_labels(project)
    finder = Finder.of(project, wanted[0].latency_ms, precision)
    shortlists = [finder.candidates(limits, max(verify, 1)) for limits in wanted]
    answers = [
        Answer(limits, choices[0], finder.resolutions) for limits, choices in zip(wanted, shortlists, strict=True)
    ]
    if verify:
        evaluator = make_evaluator(project)
        answers = [
            _verified(finder, answer, choices, evaluator) for answer, choices in zip(answers, shortlists, strict=True)
        ]
    write_json(path, answers[-1].choice.arch.to_document())
    return answers, path


def _own_arch_file(project: Project) -> Path:
    """Where an arch goes unasked.

    Raises:
        WorkdirError: something else is there.
    """
    path, space = project.workdir.path / ARCH, project.config.space
    if path.exists():
        try:
            space.arch_from_document(read_json(path), str(path))
        except (FormatError, SpaceError):
            raise WorkdirError(
                f"{path} is not an arch of `{space.name}` and stays as it is: name another file with --out."
            ) from None
    return path


def _verified(finder: Finder, answer: Answer, choices: Sequence[Choice], evaluator: SubnetEvaluator) -> Answer:
    """The answer again, chosen among candidates by what they really do.

    The images are those that the predictor learns from; the validation images have no part in it.
    """
    project = finder.project
    images, seed = project.data.tune, project.config.seed
    on_host = HOST in answer.limits.latency_ms
    candidates, files = [], []
    with project.progress.task("verifying candidates", len(choices), "subnets") as advance:
        for choice in choices:
            accuracy = evaluator.accuracy(choice.arch, images)
            candidates.append(Verified(choice, accuracy, len(images), None))
            if on_host:
                files.append(Workload(_file(project, evaluator, choice.arch, finder.precision)))
            advance(1)
    if on_host:
        table = finder.tables[HOST]
        timings = device_of(table, project.host).measure(files, seed=seed, progress=project.progress)
        if cautions := [timing.caution for timing in timings if timing.caution]:
            project.progress.note(cautions[0])
        candidates = [
            replace(candidate, measured_ms=timing.percentile_ms(PERCENTILES[table.statistic]))
            for candidate, timing in zip(candidates, timings, strict=True)
        ]
    limit_ms = answer.limits.latency_ms.get(HOST) or inf
    ordered = sorted(candidates, key=lambda candidate: (_excess_ms(candidate, limit_ms), -candidate.accuracy))
    if (excess_ms := _excess_ms(ordered[0], limit_ms)) > 0:
        project.progress.note(
            f"None of the {len(ordered)} candidates is within {limit_ms:g} ms as measured: the nearest is "
            f"{excess_ms:.2g} ms over it. Search with a lower --latency, or verify more."
        )
    return replace(answer, choice=ordered[0].choice, verified=tuple(ordered))


def _file(project: Project, evaluator: SubnetEvaluator, arch: Arch, precision: str) -> bytes:
    """The file of a calibrated subnet, to be timed: few images for the ranges of int8, which cost no time."""
    images = project.data.train
    images = images.take(np.arange(min(RANGE_IMAGES, len(images))))
    inputs = [project.config.preprocessing(pixels).numpy() for pixels, _ in images.batches(1, arch.resolution)]
    return to_tflite(extract(evaluator.supernet, arch), precision, inputs)


def _excess_ms(candidate: Verified, limit_ms: float) -> float:
    """By how much the measured latency is over the limit; 0 where it was not measured."""
    return max((candidate.measured_ms or 0.0) - limit_ms, 0.0)
