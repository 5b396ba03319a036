"""A job for the Android app: a folder with every block of a space, for a phone that no cable connects."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ofa_tf.atomic import replacing_folder
from ofa_tf.errors import WorkdirError
from ofa_tf.latency.adb_app import JOB, job_document
from ofa_tf.latency.device import check_settings
from ofa_tf.latency.measure import Converter, as_converted
from ofa_tf.latency.table import distinct_blocks
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import SearchSpace


@dataclass(frozen=True)
class AppJob:
    """A job that was written.

    Args:
        path: its folder.
        n_blocks: number of blocks to measure.
        n_files: number of their files: a block at another resolution is the same file.
        size_bytes: size of the files.
    """

    path: Path
    n_blocks: int
    n_files: int
    size_bytes: int


def write_block_job(
    out: str | Path,
    space: SearchSpace,
    n_classes: int,
    precision: str,
    converter: Converter,
    resolutions: Sequence[int] | None = None,
    threads: int = 1,
    delegate: str = "xnnpack",
    seed: int = 0,
    progress: Progress = SILENT,
) -> AppJob:
    """Writes a job whose results are a latency table of the space, without a calibration.

    Args:
        out: a new folder.
        space: the space.
        n_classes: number of outputs of the classifier.
        precision: "int8", "fp16" or "fp32"; `converter` must make files of it.
        converter: makes the files.
        resolutions: the resolutions to measure; None for all of the space.
        threads: threads of the interpreter.
        delegate: "none" or "xnnpack".
        seed: seed of the order.
        progress: where to report progress.

    Raises:
        DeviceError: a setting does not exist.
        WorkdirError: the folder exists.
    """
    check_settings(threads, delegate)
    folder = Path(out)
    if folder.exists() or folder.is_symlink():
        raise WorkdirError(f"{folder} exists: name a new folder with --out.")
    blocks = distinct_blocks(space, space.resolutions if resolutions is None else resolutions, n_classes)
    with replacing_folder(folder, replace=False) as new:  # before the conversion, which takes minutes
        contents = converter.convert([as_converted(block) for block in blocks.values()], progress)
        names = {content: f"{number}.tflite" for number, content in enumerate(dict.fromkeys(contents))}
        files = [
            {"file": names[content], "in_size": block.in_size if block.takes_images else None, "key": key}
            for content, (key, block) in zip(contents, blocks.items(), strict=True)
        ]
        for content, name in names.items():
            (new / name).write_bytes(content)
        document = job_document(files, threads, delegate, seed=seed % 2**31, precision=precision)
        (new / JOB).write_text(json.dumps(document) + "\n")
    return AppJob(folder, len(blocks), len(names), sum(map(len, names)))
