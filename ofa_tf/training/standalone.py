"""Training one arch on its own, for comparison with the subnets of a supernet."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ofa_tf.data import Data, Preprocessing
from ofa_tf.data.batches import training_batches
from ofa_tf.errors import TrainingError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.supernet import Supernet
from ofa_tf.training.cluster import make_cluster
from ofa_tf.training.recipe import STAGES, Recipe, spans
from ofa_tf.training.step import TrainingStep

DEFAULT = Preprocessing()


def train_standalone(
    space: SearchSpace,
    arch: Arch,
    data: Data,
    recipe: Recipe,
    epochs: float | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
    preprocessing: Preprocessing = DEFAULT,
    initial: Callable[[Supernet], None] | None = None,
) -> Supernet:
    """Trains a network of one arch, at its own resolution, without a teacher.

    Loss, optimizer and augmentation are those of the recipe, the learning rate that of its first stage.

    Args:
        space: the space of the arch.
        arch: one of its points.
        data: the images, of which those of `train` are used.
        recipe: the hyper-parameters.
        epochs: passes over the training images, warm-up included; None for as many as all stages of the recipe have.
        seed: seed of the weights, the order of the images and their augmentation.
        progress: where to report progress.
        preprocessing: applied to the pixels.
        initial: puts pretrained weights into the network; None for random ones.

    Returns:
        The network, in float32; its batch norm statistics are yet to be computed (`SubnetEvaluator.calibrate`).

    Raises:
        TrainingError: the loss is not a number.
    """
    cluster = make_cluster("none")
    mixed = recipe.mixed_precision and cluster.supports_bfloat16()
    n_classes = len(data.classes)
    network = Supernet(space, n_classes, seed=seed, arch=arch, dtype="mixed_bfloat16" if mixed else "float32")
    if initial is not None:
        initial(network)
    epochs = sum(phase.epochs + phase.warmup_epochs for phase in recipe.phases) if epochs is None else epochs
    first = recipe.phases[0]
    phase = replace(first, stage=STAGES[0], epochs=max(0, epochs - first.warmup_epochs))
    later = (phase for phase in recipe.phases if phase.distils)
    (span,) = spans(replace(recipe, phases=(phase, *later)), STAGES[0], len(data.train))
    share, micro_batch = cluster.shares(recipe)
    step, code = TrainingStep(network, network, recipe), space.encode(arch)[None]
    batches = training_batches(
        data.train,
        preprocessing,
        recipe.augment,
        recipe.batch,
        (seed, 0),
        range(span.stop),
        lambda _: arch.resolution,
    )
    with progress.task(f"training only {arch}", span.stop * recipe.batch, "images") as advance:
        for number, (images, labels) in enumerate(batches):
            rate = span.learning_rate(number, recipe.batch)
            dropout_seed = int(np.random.default_rng([seed, 4, number]).integers(2**31))
            losses = step.run(images, labels, share, micro_batch, code, rate, False, dropout_seed)
            if not np.isfinite(losses).all():
                raise TrainingError(f"The loss of {arch} is not a number at step {number}: lower the learning rate.")
            advance(recipe.batch)
    if not mixed:
        return network
    exact = Supernet(space, n_classes, arch=arch)
    exact.set_weights(network.get_weights())
    return exact
