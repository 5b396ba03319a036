"""What a training shows of itself: TensorBoard scalars, written as it runs."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import SearchSpace
from ofa_tf.training.recipe import OPENED

SECONDS_BETWEEN_SCALARS = 5
# What marks a summary as a scalar; TensorFlow itself can write it, TensorBoard is only needed to look at it.
SCALAR = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR")


class Scalars:
    """Scalars of one stage: losses by depth and by width, learning rate, images per second, accuracies.

    Args:
        folder: for the event files.
        space: the space of the archs.
        batch: images per step.
        progress: where to report, once, that the files cannot be written; then there are no more scalars.
    """

    def __init__(self, folder: Path, space: SearchSpace, batch: int, progress: Progress = SILENT):
        self.space = space
        self.batch = batch
        self.progress = progress
        self.writer: tf.summary.SummaryWriter | None = None
        with self._giving_up():
            self.writer = tf.summary.create_file_writer(str(folder))
        self._forget()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            self.writer = None
            reason = error.message.splitlines()[0]
            self.progress.note(f"There are no more scalars for TensorBoard, but the training goes on: {reason}")

    def _forget(self) -> None:
        self.losses: defaultdict[str, list[float]] = defaultdict(list)
        self.steps = 0
        self.since = time.monotonic()

    def step(self, step: int, codes: np.ndarray, losses: np.ndarray, learning_rate: float) -> None:
        """Notes a step; every few seconds writes means over the steps since the last time."""
        active = self.space.active(codes)
        depths = active.sum(1)
        for loss, depth in zip(losses, depths, strict=True):
            self.losses["loss/all"].append(loss)
            self.losses[f"loss_by_depth/{depth:02} blocks"].append(loss)
        for dimension in self.space.block_dimensions:
            if dimension.name in OPENED["width"]:
                widths = (dimension.chosen(codes) * active).sum(1) / depths
                for loss, width in zip(losses, widths, strict=True):
                    self.losses[f"loss_by_width/{dimension.name} {width:.0f}"].append(loss)
        self.steps += 1
        elapsed = time.monotonic() - self.since
        if elapsed > SECONDS_BETWEEN_SCALARS:
            rates = {"learning_rate": learning_rate, "images_per_second": self.steps * self.batch / elapsed}
            self.write(step, {**{name: float(np.mean(values)) for name, values in self.losses.items()}, **rates})
            self._forget()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars now."""
        if self.writer is not None:
            with self._giving_up():
                with self.writer.as_default(step=step):
                    for name, value in scalars.items():
                        tf.summary.write(name, tf.constant(value, tf.float32), metadata=SCALAR)
                self.writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self.writer is not None:
            with self._giving_up():
                self.writer.close()
