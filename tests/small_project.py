"""A training that takes seconds: the `tiny` space, random images, a few steps a stage.

Run as a program it trains one stage of a workdir and kills itself on the way: `small_project.py WORKDIR STAGE STEP`.
"""

import os
import signal
import sys
from contextlib import contextmanager

import numpy as np

from ofa_tf.data import Data, ImageSet, Preprocessing
from ofa_tf.data.augment import Augment
from ofa_tf.progress import Progress
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.spaces import TINY
from ofa_tf.training import trainer as trainer_module
from ofa_tf.training.recipe import Phase, Recipe
from ofa_tf.training.trainer import Trainer

BATCH, N_TRAIN = 16, 64
RECIPE = Recipe(
    "small",
    batch=BATCH,
    phases=(
        Phase("full", 0.5, 0.25, 0.1),
        Phase("kernel", 0.5, 0, 0.05),
        Phase("depth", 0.5, 0, 0.05, subnets=2, choices=1),
        Phase("depth", 0.75, 0.25, 0.05, subnets=2),
        Phase("width", 0.25, 0, 0.05, subnets=3, choices=2),
        Phase("width", 0.5, 0, 0.05, subnets=3),
    ),
    augment=Augment(area=(0.5, 1.2)),
    weight_decay=1e-2,
)
CONFIG = Config(TINY, "random", ("a", "b", "c"), Preprocessing(), RECIPE, seed=0)


def make_data() -> Data:
    """Random images of three classes."""
    rng = np.random.default_rng(5)

    def part(n: int) -> ImageSet:
        labels = rng.integers(3, size=n).astype(np.int32)
        return ImageSet(rng.integers(256, size=(n, 32, 32, 3)).astype(np.uint8), labels)

    return Data("random", CONFIG.classes, part(N_TRAIN), part(20), part(20))


class Hook(Progress):
    """Calls a function with the number of training steps done after each step; keeps the notes.

    Args:
        after_step: the function, or None.
    """

    def __init__(self, after_step=None):
        self.after_step = after_step
        self.notes = []

    @contextmanager
    def task(self, title, total, unit="steps", done=0):
        del total, unit
        count = done // BATCH

        def advance(n):
            nonlocal count
            count += n // BATCH
            if self.after_step is not None and title.startswith("training"):
                self.after_step(count)

        yield advance

    def note(self, text):
        self.notes.append(text)


def main(path: str, stage: str, last_step: str) -> None:
    """Trains with a checkpoint after every step, and dies after step `last_step` before that is saved."""

    def die(step):
        if step == int(last_step):
            os.kill(os.getpid(), signal.SIGKILL)

    trainer_module.SECONDS_BETWEEN_CHECKPOINTS = 0
    Trainer(Workdir(path), CONFIG, make_data(), Hook(die)).train(stage)


if __name__ == "__main__":
    main(*sys.argv[1:])
