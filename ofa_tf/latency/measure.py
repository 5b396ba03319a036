"""Building a table: every block converted, run on the device, and a few whole subnets to calibrate the sum with."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from scipy.optimize import nnls

from ofa_tf.blocks import Block
from ofa_tf.latency.device import Device, Timing, Workload
from ofa_tf.latency.table import Calibration, LatencyTable, distinct_blocks
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.statistics import latency_errors

STATISTIC = "p10_ms"


class Converter(Protocol):
    """Makes files for the device; implemented where models are exported."""

    def block(self, block: Block) -> bytes:
        """A file of one block, whose input may be resized."""
        ...

    def network(self, arch: Arch) -> bytes:
        """A file of a whole subnet; its weights do not matter."""
        ...


def build_table(
    space: SearchSpace,
    n_classes: int,
    precision: str,
    device: Device,
    converter: Converter,
    resolutions: Sequence[int] | None = None,
    calibration_subnets: int = 8,
    seed: int = 0,
    progress: Progress = SILENT,
) -> LatencyTable:
    """Measures the latency table of a space on a device.

    Blocks and whole subnets are run in the same shuffled rounds, so that what disturbs the machine disturbs all alike;
    the 10th percentile of the runs is added up, since disturbances only ever add time.

    Args:
        space: the space.
        n_classes: outputs of the classifier.
        precision: "int8", "fp16" or "fp32"; `converter` must make such files.
        device: where to run.
        converter: makes the files.
        resolutions: those to measure, None for all of the space.
        calibration_subnets: random whole subnets to correct the sums with; 0 for no correction.
        seed: of the random subnets and of the order.
        progress: told about the work.
    """
    resolutions = space.resolutions if resolutions is None else resolutions
    blocks = distinct_blocks(space, resolutions, n_classes)
    codes = sample_subnets(space, resolutions, calibration_subnets, np.random.default_rng([seed, 5]))
    archs = space.decode(codes)

    # A block at another resolution is the same file with a resized input.
    largest = max(resolutions) if device.resizes else None
    shapes = {key: dataclasses.replace(block, in_size=largest or block.in_size) for key, block in blocks.items()}
    files: dict[Block, bytes] = {}
    with progress.task("converting blocks", len(set(shapes.values())) + len(archs), "files") as advance:
        for shape in dict.fromkeys(shapes.values()):
            files[shape] = converter.block(shape)
            advance(1)
        networks = []
        for arch in archs:
            networks.append(Workload(converter.network(arch)))
            advance(1)
    workloads = [
        Workload(files[shapes[key]], None if block.kind == "linear" or not device.resizes else block.in_size)
        for key, block in blocks.items()
    ]
    timings = device.measure(workloads + networks, seed=seed, progress=progress)
    table = LatencyTable(
        device=device.facts(),
        runtime=device.runtime(),
        precision=precision,
        source="measured",
        entries=dict(zip(blocks, map(entry, timings), strict=False)),
        statistic=STATISTIC,
    )
    if not archs:
        return table
    whole_ms = np.array([timing.percentile_ms(10) for timing in timings[len(blocks) :]])
    sums_ms, n_blocks = table.costs(space, n_classes)(codes), space.active(codes).sum(1)
    calibration = fit_calibration(sums_ms, n_blocks, whole_ms)
    return dataclasses.replace(table, calibration=calibration, validation=leave_one_out(sums_ms, n_blocks, whole_ms))


def sample_subnets(space: SearchSpace, resolutions: Sequence[int], n: int, rng: np.random.Generator) -> np.ndarray:
    """Codes of random subnets at some of the resolutions, shape (n, genes)."""
    codes = space.sample(rng, n)
    codes[:, 0] = [space.resolutions.index(resolution) for resolution in rng.choice(resolutions, n)]
    return codes


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
    """Measures random whole subnets that neither the entries nor the calibration come from, and notes the error.

    Args:
        table: of this device and runtime.
        space: the space.
        n_classes: outputs of the classifier.
        device: where to run.
        converter: makes the files.
        subnets: how many, at the resolutions that the table covers.
        seed: of the table; the subnets that calibrated it are left out.
        progress: told about the work.

    Returns:
        The table with another `validation`.

    Raises:
        TableError: the table covers no resolution of the space.
    """
    costs, resolutions = table.costs(space, n_classes), table.resolutions(space, n_classes)
    seen = table.calibration.subnets if table.calibration else 0
    calibrating = sample_subnets(space, resolutions, seen, np.random.default_rng([seed, 5]))
    drawn = sample_subnets(space, resolutions, subnets + seen, np.random.default_rng([seed, 8]))
    known = {code.tobytes() for code in calibrating}
    codes = np.array([code for code in drawn if code.tobytes() not in known][:subnets])
    archs, files = space.decode(codes), []
    with progress.task("converting subnets", len(archs), "files") as advance:
        for arch in archs:
            files.append(Workload(converter.network(arch)))
            advance(1)
    measured_ms = np.array([t.percentile_ms(10) for t in device.measure(files, seed=seed, progress=progress)])
    predicted_ms = costs(codes)
    errors = predicted_ms / measured_ms - 1
    worst = int(np.abs(errors).argmax())
    found = {"worst_error": float(errors[worst]), "worst_arch": archs[worst].to_document()}
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
        sums_ms: sums over blocks measured alone, shape (subnets,).
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
