"""Building a table: every block run on the device, and a few whole subnets to calibrate the sums with."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.optimize import nnls

from ofa_tf.blocks import Block
from ofa_tf.latency.device import Device, Timing, Workload
from ofa_tf.latency.passes import measure_in_passes
from ofa_tf.latency.table import Calibration, LatencyTable, distinct_blocks
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.statistics import latency_errors

PERCENTILES = {"p10_ms": 10, "median_ms": 50}  # the statistics that a table may add up
STATISTIC = "p10_ms"  # without whole subnets to choose by; of a file that is measured for itself, too
CLEARLY = 0.8  # of the error by the 10th percentile, below which the median is taken
CONVERTED_SIZE = 32  # height and width of a block's input as it is converted; it is resized to be measured
CALIBRATION_SUBNETS = 24
PASSES = 4


class Converter(Protocol):
    """Makes files for the device; implemented where models are exported."""

    def convert(self, wanted: Sequence[Block | Arch], progress: Progress = SILENT) -> list[bytes]:
        """Files of blocks, whose inputs may be resized, and of whole subnets, whose weights do not matter."""
        ...


def build_table(
    space: SearchSpace,
    n_classes: int,
    precision: str,
    device: Device,
    converter: Converter,
    resolutions: Sequence[int] | None = None,
    calibration_subnets: int = CALIBRATION_SUBNETS,
    validation_subnets: int = 0,
    known: LatencyTable | None = None,
    journal: Path | None = None,
    passes: int = PASSES,
    seed: int = 0,
    progress: Progress = SILENT,
    source: str = "measured",
) -> LatencyTable:
    """Measures the latency table of a space on a device.

    Blocks and whole subnets are run in the same shuffled rounds, so that what disturbs the machine disturbs all alike.
    The 10th percentile of the runs and their median are both tried as what is added up. The median is kept where its
    sums come clearly closer to the whole subnets: without a reason, tables of one device should add up the same.

    Args:
        space: the space.
        n_classes: number of outputs of the classifier.
        precision: "int8", "fp16" or "fp32"; `converter` must make files of it.
        device: where to run.
        converter: makes the files.
        resolutions: the resolutions to measure; None for all of the space.
        calibration_subnets: random whole subnets to correct the sums with; 0 for no correction.
        validation_subnets: others, measured in the same rounds, to tell the error with; 0 to leave each calibration
            subnet out in turn instead.
        known: a table of the same device and runtime, whose other entries are kept.
        journal: file that keeps what was measured until the table is complete, so that a later call resumes there.
        passes: over everything; each is kept when it is done.
        seed: seed of the random subnets and of the order.
        progress: where to report progress.
        source: of the table: "modelled" where the device only estimates how long a file takes.

    Raises:
        DeviceError: the device is lost or refuses a file; what was measured is in the journal.
    """
    blocks = distinct_blocks(space, space.resolutions if resolutions is None else resolutions, n_classes)
    entries = dict(known.entries) if known is not None else {}
    covered = [
        resolution
        for resolution in space.resolutions
        if all(key in entries or key in blocks for key in distinct_blocks(space, [resolution], n_classes))
    ]
    codes = sample_subnets(space, covered, calibration_subnets, np.random.default_rng([seed, 5]))
    held_out = held_out_subnets(space, covered, codes, validation_subnets, seed)

    # A block at another resolution is the same file with a resized input.
    shapes = [as_converted(block) if device.resizes else block for block in blocks.values()]
    archs = space.decode(np.concatenate([codes, held_out]))
    files = converter.convert([*shapes, *archs], progress)
    sizes = [block.in_size if device.resizes and block.takes_images else None for block in blocks.values()]
    workloads = [Workload(*item) for item in zip(files, [*sizes, *[None] * len(archs)], strict=True)]
    timings = measure_in_passes(device, workloads, passes, journal, seed, progress)

    entries |= dict(zip(blocks, map(entry, timings), strict=False))
    table = LatencyTable(device.facts(), device.runtime(), precision, source, entries, STATISTIC)
    if not len(codes):
        return table
    whole = timings[len(blocks) :]
    calibrated = {
        name: calibrate(dataclasses.replace(table, statistic=name), space, n_classes, codes, _whole_ms(whole, name))
        for name in PERCENTILES
    }
    errors = {name: (candidate.validation or {})["mape"] for name, candidate in calibrated.items()}
    best = min(errors, key=errors.__getitem__)
    table = calibrated[best if errors[best] < CLEARLY * errors[STATISTIC] else STATISTIC]
    if not len(held_out):
        return table
    return judge(table, space, n_classes, held_out, _whole_ms(whole[len(codes) :], table.statistic))


def validate_table(
    table: LatencyTable,
    space: SearchSpace,
    n_classes: int,
    device: Device,
    converter: Converter,
    subnets: int = 40,
    seed: int = 0,
    progress: Progress = SILENT,
) -> LatencyTable:
    """Measures random whole subnets that the table has not seen, and records the error.

    Args:
        table: of this device and runtime.
        space: the space.
        n_classes: number of outputs of the classifier.
        device: where to run.
        converter: makes the files.
        subnets: number of subnets, at the resolutions that the table covers.
        seed: seed of the table; the subnets that calibrated it are left out.
        progress: where to report progress.

    Returns:
        The table with another `validation`.

    Raises:
        TableError: the table covers no resolution of the space.
    """
    resolutions = table.require_resolutions(space, n_classes)
    seen = table.calibration.subnets if table.calibration else 0
    calibrating = sample_subnets(space, resolutions, seen, np.random.default_rng([seed, 5]))
    codes = held_out_subnets(space, resolutions, calibrating, subnets, seed)
    files = converter.convert(space.decode(codes), progress)
    timings = device.measure([Workload(content) for content in files], seed=seed, progress=progress)
    return judge(table, space, n_classes, codes, _whole_ms(timings, table.statistic))


def sample_subnets(space: SearchSpace, resolutions: Sequence[int], n: int, rng: np.random.Generator) -> np.ndarray:
    """Codes of random subnets at some of the resolutions, shape (n, genes)."""
    codes = space.sample(rng, n)
    codes[:, 0] = [space.resolutions.index(resolution) for resolution in rng.choice(resolutions, n)]
    return codes


def held_out_subnets(space: SearchSpace, resolutions: Sequence[int], seen: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Codes of random subnets none of which is among the `seen`, shape (n at most, genes)."""
    known = {code.tobytes() for code in seen}
    drawn = sample_subnets(space, resolutions, n + len(seen), np.random.default_rng([seed, 8]))
    return np.array([code for code in drawn if code.tobytes() not in known][:n], drawn.dtype).reshape(-1, space.n_genes)


def calibrate(
    table: LatencyTable, space: SearchSpace, n_classes: int, codes: np.ndarray, whole_ms: np.ndarray
) -> LatencyTable:
    """The table with a calibration to whole subnets, and its error with each of them left out in turn."""
    plain = dataclasses.replace(table, calibration=None)
    sums_ms, n_blocks = plain.costs(space, n_classes)(codes), space.active(codes).sum(1)
    whole_ms = whole_ms[: len(codes)]
    return dataclasses.replace(
        table,
        calibration=fit_calibration(sums_ms, n_blocks, whole_ms),
        validation=leave_one_out(sums_ms, n_blocks, whole_ms),
    )


def judge(
    table: LatencyTable, space: SearchSpace, n_classes: int, codes: np.ndarray, measured_ms: np.ndarray
) -> LatencyTable:
    """The table with its error on subnets that it has not seen."""
    predicted_ms = table.costs(space, n_classes)(codes)
    errors = predicted_ms / measured_ms - 1
    worst = int(np.abs(errors).argmax())
    found = {"worst_error": float(errors[worst]), "worst_arch": space.decode_one(codes[worst]).to_document()}
    return dataclasses.replace(table, validation={**latency_errors(predicted_ms, measured_ms), **found})


def entry(timing: Timing) -> Mapping[str, float]:
    """The statistics of a block as a table keeps them."""
    return {
        "median_ms": timing.percentile_ms(50),
        "p10_ms": timing.percentile_ms(10),
        "p90_ms": timing.percentile_ms(90),
        "runs": len(timing.runs_ms),
    }


def fit_calibration(sums_ms: np.ndarray, n_blocks: np.ndarray, whole_ms: np.ndarray) -> Calibration:
    """Fits scale, per-block and constant part, none negative, to the least squared relative error.

    Args:
        sums_ms: sums over blocks measured one by one, shape (subnets,).
        n_blocks: elastic blocks of each subnet, shape (subnets,).
        whole_ms: the subnets measured whole, shape (subnets,).
    """
    columns = np.stack([sums_ms, n_blocks, np.ones(len(sums_ms))], axis=1) / whole_ms[:, None]
    (scale, per_block, constant), _ = nnls(columns, np.ones(len(sums_ms)))
    return Calibration(float(scale), float(per_block), float(constant), len(sums_ms))


def leave_one_out(sums_ms: np.ndarray, n_blocks: np.ndarray, whole_ms: np.ndarray) -> Mapping[str, float]:
    """Error of the calibrated sums, each subnet predicted by a calibration that did not see it."""
    predicted = np.empty(len(whole_ms))
    for left_out in range(len(whole_ms)):
        rest = np.arange(len(whole_ms)) != left_out
        c = fit_calibration(sums_ms[rest], n_blocks[rest], whole_ms[rest])
        predicted[left_out] = c.scale * sums_ms[left_out] + c.per_block_ms * n_blocks[left_out] + c.constant_ms
    return latency_errors(predicted, whole_ms)


def as_converted(block: Block) -> Block:
    """The block whose file is made: at any resolution it is the same, with a resized input."""
    return dataclasses.replace(block, in_size=CONVERTED_SIZE) if block.takes_images else block


def _whole_ms(timings: Sequence[Timing], statistic: str) -> np.ndarray:
    return np.array([timing.percentile_ms(PERCENTILES[statistic]) for timing in timings])
