"""Measuring in passes, each kept in a journal, so that a run that was killed goes on with the next one."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ofa_tf.atomic import write_bytes
from ofa_tf.errors import FormatError
from ofa_tf.latency.device import Device, Timing, Workload
from ofa_tf.progress import SILENT, Progress
from ofa_tf.reading import JOURNAL_BYTES, read_text


def measure_in_passes(
    device: Device,
    workloads: Sequence[Workload],
    passes: int,
    journal: Path | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> list[Timing]:
    """Times files several times over; a pass that the journal has, of the same files and device, is not repeated.

    Args:
        device: where to run.
        workloads: the files.
        passes: how often to have the device measure all of them.
        journal: one line of JSON per pass; None keeps nothing.
        seed: seed of the order.
        progress: where to report progress.

    Returns:
        For each file the runs of all passes.

    Raises:
        DeviceError: the device fails in the middle; the journal has the passes before.
    """
    job = _job(device, workloads, passes, seed) if journal else ""
    done = _read(journal, job, len(workloads)) if journal else []
    if done:
        progress.note(f"{len(done)} of {passes} passes were already measured.")
    for number in range(len(done), passes):
        timings = device.measure(workloads, seed=seed + 1000 * number, progress=progress)
        runs = [timing.runs_ms.tolist() for timing in timings]
        done.append(runs)
        if journal:
            journal.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(journal, "".join(json.dumps({"job": job, "runs_ms": r}) + "\n" for r in done).encode())
    return [Timing(np.concatenate([runs[index] for runs in done])) for index in range(len(workloads))]


def _job(device: Device, workloads: Sequence[Workload], passes: int, seed: int) -> str:
    """What a journal belongs to."""
    digest = hashlib.sha256(json.dumps([dict(device.facts()), dict(device.runtime()), passes, seed]).encode())
    for workload in workloads:
        digest.update(hashlib.sha256(workload.content).digest() + str(workload.in_size).encode())
    return digest.hexdigest()


def _read(journal: Path, job: str, n_files: int) -> list[list[list[float]]]:
    """Runs of the passes of this job; what is damaged ends them."""
    found: list[list[list[float]]] = []
    try:
        lines = read_text(journal, "journal", JOURNAL_BYTES).splitlines()
    except FormatError:
        return found
    for line in lines:
        try:
            document = json.loads(line)
            if document["job"] != job:
                break
            runs = [np.array(values, float) for values in document["runs_ms"]]
        except (ValueError, TypeError, KeyError):
            break
        if len(runs) != n_files or not all(r.ndim == 1 and len(r) and np.isfinite(r).all() for r in runs):
            break
        found.append(document["runs_ms"])
    return found
