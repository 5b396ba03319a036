"""What the workdir of the fixture `finished` was made with, and ways into it."""

from pathlib import Path

from ofa_tf.jsonio import write_json
from ofa_tf.project.workdir import Workdir

CLASSES = ("cat", "dog", "fox")
N_TRAIN, N_VAL = 40, 10  # images of each class


def space_of(workdir):
    return Workdir(workdir).config().space


def write_arch(path, arch) -> Path:
    write_json(path, arch.to_document())
    return Path(path)
