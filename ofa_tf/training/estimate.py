"""How much time and memory a training will take, estimated from a few steps that change nothing."""

import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from ofa_tf.training.recipe import span_of
from ofa_tf.training.sampling import plan_step
from ofa_tf.training.trainer import Trainer

MEASURED_STEPS = 3


@dataclass(frozen=True)
class PhaseEstimate:
    """One phase of a stage.

    Args:
        stage: its stage.
        steps: remaining steps of the phase, including warm-up.
        batch: images per step, across all replicas.
        subnets: archs per step.
        step_seconds: median of the measured steps, an estimate that leaves out evaluations and checkpoints.
    """

    stage: str
    steps: int
    batch: int
    subnets: int
    step_seconds: float

    @property
    def seconds(self) -> float:
        """Estimated time of the phase."""
        return self.steps * self.step_seconds


@dataclass(frozen=True)
class Estimate:
    """What a training is expected to take.

    Args:
        phases: in order.
        first_step_seconds: time to trace and compile, before the first step.
        peak_mb: peak memory so far, of the GPU if there is one, otherwise of the process.
    """

    phases: Sequence[PhaseEstimate]
    first_step_seconds: float
    peak_mb: float

    @property
    def seconds(self) -> float:
        """Estimated time of all phases."""
        return self.first_step_seconds + sum(phase.seconds for phase in self.phases)


def estimate(trainer: Trainer, stages: Sequence[str]) -> Estimate:
    """Measures a few steps of each phase on random images at learning rate 0.

    One group of images that are computed at once is measured, and multiplied by how many a step has.

    Args:
        trainer: of the training; its workdir is not written to.
        stages: the stages to estimate.
    """
    cluster, config = trainer.cluster, trainer.config
    rng = np.random.default_rng(config.seed)

    def run(stage: str, step: int, largest: bool = False) -> float:
        """Seconds of one measured step, for a whole batch."""
        span = span_of(trainer.layout_of(stage), step)
        plan = plan_step(config.space, span, trainer.seed_of(stage), step)
        resolution = config.space.resolutions[-1] if largest else plan.resolution
        codes = config.space.encode([config.space.largest()]) if largest else plan.codes
        share, micro = cluster.shares(trainer.recipe_of(stage))
        count = micro * cluster.n_local
        images = rng.normal(size=(count, resolution, resolution, 3)).astype(np.float32)
        labels = rng.integers(config.n_classes, size=count).astype(np.int32)
        dataset = tf.data.Dataset.from_tensors((images, labels))
        dataset = dataset.map(lambda x, y: (tf.ensure_shape(x, (None, None, None, 3)), tf.ensure_shape(y, (None,))))
        ((images, labels),) = cluster.distribute(dataset)
        start = time.monotonic()
        trainer.step.run(images, labels, micro, micro, codes, 0.0, span.phase.distils, plan.seed)
        return (time.monotonic() - start) * (share // micro)

    with cluster.strategy.scope():
        start = time.monotonic()
        run(stages[-1], 0, largest=True)
        first_step_seconds = time.monotonic() - start
        phases = []
        for stage in stages:
            recipe, record = trainer.recipe_of(stage), trainer.ledger.stages.get(stage)
            done = record.step if record else 0
            for span in trainer.layout_of(stage):
                left = range(max(span.start, done), span.stop)
                if left:
                    seconds = statistics.median(run(stage, step) for step in left[:MEASURED_STEPS])
                    phases.append(PhaseEstimate(stage, len(left), recipe.batch, span.phase.subnets, seconds))
    return Estimate(phases, first_step_seconds, peak_mb())


def peak_mb() -> float:
    """The most memory used so far: of the first GPU where there is one, else of this process."""
    if tf.config.list_logical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
