"""Checkpoints: one file with all weights, written whole or not at all.

Archs, images and learning rate of a step follow from the seed and the step's number, so weights, optimizer state and
that number are all there is to keep.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tf.errors import FormatError
from ofa_tf.npzio import read_arrays, write_arrays
from ofa_tf.progress import SILENT, Progress

KEEP = 2


def checkpoint_path(folder: Path, step: int) -> Path:
    """File of the state before step `step`."""
    return folder / f"step-{step:08d}.npz"


def save(folder: Path, step: int, variables: Mapping[str, Any]) -> Path:
    """Writes the state before step `step` and removes all but the newest two.

    Raises:
        OSError: the disk is full or not writable; older checkpoints are untouched.
    """
    path = checkpoint_path(folder, step)
    write_arrays(path, {name: variable.numpy() for name, variable in variables.items()})
    for old in steps(folder)[:-KEEP]:
        checkpoint_path(folder, old).unlink(missing_ok=True)
    return path


def steps(folder: Path) -> list[int]:
    """The steps that checkpoints exist of, ascending."""
    return sorted(int(path.stem[5:]) for path in folder.glob("step-*.npz") if path.stem[5:].isdigit())


def load(path: Path, variables: Mapping[str, Any]) -> None:
    """Reads a checkpoint into variables; all of them or none.

    Raises:
        DamagedError: the file is cut short or altered, or not there.
        FormatError: the file is of another network; names the variable.
    """
    arrays = read_arrays(path)
    for name, variable in variables.items():
        if name not in arrays:
            raise FormatError(f"{path} is of another network: it lacks {name}.")
        if arrays[name].shape != tuple(variable.shape) or arrays[name].dtype != np.float32:
            found = f"{arrays[name].dtype}{list(arrays[name].shape)}, not float32{list(variable.shape)}"
            raise FormatError(f"{path} is of another network: {name} is {found}.")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def load_newest(folder: Path, variables: Mapping[str, Any], progress: Progress = SILENT) -> int:
    """Reads the newest checkpoint that is whole; damaged ones are named and skipped.

    Returns:
        The step to go on with; 0 if there is none.
    """
    for step in reversed(steps(folder)):
        try:
            load(checkpoint_path(folder, step), variables)
        except FormatError as error:
            progress.note(f"Skipped a checkpoint: {error}")
        else:
            return step
    return 0
