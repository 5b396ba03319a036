"""The candidates of a search, evaluated and measured."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np

from ofa_tf.export.convert import to_tflite
from ofa_tf.latency.backends import backend_of
from ofa_tf.latency.device import Workload
from ofa_tf.latency.measure import PERCENTILES
from ofa_tf.project.choice import Budgets, Choice, Verified
from ofa_tf.project.evaluator import make_evaluator
from ofa_tf.project.finder import Finder
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.tables import device_of
from ofa_tf.space import Arch
from ofa_tf.subnet import extract
from ofa_tf.training.evaluation import SubnetEvaluator

RANGE_IMAGES = 8


def verify_all(
    finder: Finder, wanted: Sequence[Budgets], shortlists: Sequence[Sequence[Choice]]
) -> list[tuple[Verified, ...]]:
    """What the candidates of several searches really do, those of each search best first.

    Args:
        finder: of the workdir.
        wanted: the budgets of each search.
        shortlists: the candidates of each.
    """
    evaluator = make_evaluator(finder.project)
    return [_verify(finder, budgets, choices, evaluator) for budgets, choices in zip(wanted, shortlists, strict=True)]


def _verify(
    finder: Finder, budgets: Budgets, choices: Sequence[Choice], evaluator: SubnetEvaluator
) -> tuple[Verified, ...]:
    """Candidates evaluated, and timed if one of the devices is always at hand; the best first.

    The images are those that the predictor learns from; the validation images have no part in it.
    """
    project = finder.project
    images, seed = project.data.tune, project.config.seed
    device = next((name for name in budgets.latency_ms if backend_of(name).always_at_hand), None)
    candidates, files = [], []
    with project.progress.task("verifying candidates", len(choices), "subnets") as advance:
        for choice in choices:
            accuracy = evaluator.accuracy(choice.arch, images)
            candidates.append(Verified(choice, accuracy, len(images), None))
            if device is not None:
                files.append(Workload(_file(project, evaluator, choice.arch, finder.precision)))
            advance(1)
    limit_ms = inf
    if device is not None:
        limit_ms = budgets.latency_ms[device] or inf
        table = finder.tables[device]
        timings = device_of(table, project.host).measure(files, seed=seed, progress=project.progress)
        if cautions := [timing.caution for timing in timings if timing.caution]:
            project.progress.note(cautions[0])
        candidates = [
            replace(candidate, measured_ms=timing.percentile_ms(PERCENTILES[table.statistic]))
            for candidate, timing in zip(candidates, timings, strict=True)
        ]
    ordered = sorted(candidates, key=lambda candidate: (_excess_ms(candidate, limit_ms), -candidate.accuracy))
    if (excess_ms := _excess_ms(ordered[0], limit_ms)) > 0:
        project.progress.note(
            f"None of the {len(ordered)} candidates is within {limit_ms:g} ms as measured: the nearest is "
            f"{excess_ms:.2g} ms over it. Search with a lower --latency, or verify more candidates."
        )
    return tuple(ordered)


def _file(project: OpenedWorkdir, evaluator: SubnetEvaluator, arch: Arch, precision: str) -> bytes:
    """The file of a calibrated subnet, to be timed: few images for the ranges of int8, which cost no time."""
    images = project.data.train
    images = images.take(np.arange(min(RANGE_IMAGES, len(images))))
    inputs = [project.config.preprocessing(pixels).numpy() for pixels, _ in images.batches(1, arch.resolution)]
    return to_tflite(extract(evaluator.supernet, arch), precision, inputs)


def _excess_ms(candidate: Verified, limit_ms: float) -> float:
    """By how much the measured latency is over the limit; 0 where it was not measured."""
    return max((candidate.measured_ms or 0.0) - limit_ms, 0.0)
