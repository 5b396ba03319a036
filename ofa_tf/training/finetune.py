"""Fine-tuning: a subnet gets weights of its own and is trained on, taught by the largest network.

The published subnets were fine-tuned for 25 or 75 epochs (Cai et al., ICLR 2020, section 4.2).
"""

import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from ofa_tf.blocks import walk
from ofa_tf.data import Data
from ofa_tf.data.batches import training_batches
from ofa_tf.errors import TrainingError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import Arch
from ofa_tf.supernet import Supernet
from ofa_tf.training import checkpoint
from ofa_tf.training.cluster import make_cluster
from ofa_tf.training.evaluation import SubnetEvaluator
from ofa_tf.training.recipe import STAGES, Phase, Span
from ofa_tf.training.setup import Setup
from ofa_tf.training.step import TrainingStep
from ofa_tf.training.trainer import SECONDS_BETWEEN_CHECKPOINTS
from ofa_tf.training.weights import weights_of

RATE = 0.2  # of the peak learning rate of the recipe's last phase, where fine-tuning begins
SHARED_BYTES = 1 << 29  # of the teacher's answers that are kept for the next subnet
SEED = 10


@dataclass(frozen=True)
class FineTuned:
    """A subnet after fine-tuning.

    Args:
        arch: the subnet.
        epochs: passes over the training images.
        before: its accuracy (0 to 1) on held-out training images with the shared weights.
        after: the same with weights of its own.
        evaluator: of the network with weights of its own.
    """

    arch: Arch
    epochs: float
    before: float
    after: float
    evaluator: SubnetEvaluator = field(repr=False)

    @property
    def better(self) -> bool:
        """Whether it is worth keeping: nothing is chosen by the validation images."""
        return self.after > self.before


class FineTuner:
    """Fine-tunes subnets of one supernet; they share the answers of the largest network.

    Every subnet has a folder for its checkpoints. What is done there, or was begun, is not done again.

    Args:
        folder: holds these folders.
        config: the network, and how it was trained.
        data: its images, with labels.
        evaluator: of the trained supernet, which does not change.
        epochs: passes over the training images.
        progress: where to report progress.
    """

    def __init__(
        self,
        folder: Path,
        config: Setup,
        data: Data,
        evaluator: SubnetEvaluator,
        epochs: float,
        progress: Progress = SILENT,
    ):
        self.folder, self.config, self.data = folder, config, data
        self.evaluator, self.epochs, self.progress = evaluator, epochs, progress
        self.cluster = make_cluster("none")
        # Small networks underfit, so nothing is dropped; the frozen largest network teaches.
        self.recipe = replace(config.recipe, sampling="uniform", dropout=0.0)
        self.n_steps = max(1, round(epochs * len(data.train) / self.recipe.batch))
        self._answers: dict[int, np.ndarray] = {}

    def tune(self, arch: Arch) -> FineTuned:
        """Trains a subnet to the end, from its newest checkpoint if it has one.

        On `KeyboardInterrupt` it writes a checkpoint and raises on.

        Raises:
            TrainingError: a loss that is not a number; the last checkpoint stays.
        """
        network = specialised(self.evaluator.supernet, arch)
        files = self.folder / self._name(arch, network)
        step = TrainingStep(network, self.evaluator.supernet, self.recipe)
        state = weights_of(network)
        for variable, momentum in zip(step.variables, step.momentums, strict=True):
            state[f"momentum/{variable.path}"] = momentum
        done = checkpoint.load_newest(files, state, self.progress)
        step.iterations.assign(done)
        if done < self.n_steps:
            self._train(arch, step, done, files, state)
        tuned = SubnetEvaluator(network, self.config.preprocessing, self.data.train, traced=False)
        held = self.data.tune
        return FineTuned(arch, self.epochs, self.evaluator.accuracy(arch, held), tuned.accuracy(arch, held), tuned)

    def _train(self, arch: Arch, step: TrainingStep, done: int, files: Path, state: dict) -> None:
        recipe, space, seed = self.recipe, self.config.space, (self.config.seed, SEED)
        size, code = space.resolutions[-1], space.encode(arch)[None]
        n_images, micro_batch = self.cluster.shares(recipe)
        span = Span(Phase(STAGES[-1], self.epochs, 0, RATE * recipe.phases[-1].base_lr), 0, 0, self.n_steps)
        steps = range(done, self.n_steps)
        batches = training_batches(
            self.data.train, self.config.preprocessing, recipe.augment, recipe.batch, seed, steps, lambda _: size
        )
        saved, total = time.monotonic(), self.n_steps * recipe.batch
        try:
            with self.progress.task(f"fine-tuning {arch}", total, "images", done * recipe.batch) as advance:
                for number, (images, labels) in zip(steps, batches, strict=True):
                    answers = None
                    if recipe.kd_ratio:
                        answers = self._answers_of(number, step, images, n_images, micro_batch)
                    rate = span.learning_rate(number, recipe.batch)
                    loss = step.run(
                        images, labels, n_images, micro_batch, code, rate, True, resolution=size, answers=answers
                    )
                    if not np.isfinite(loss).all():
                        raise TrainingError(
                            f"The loss of the fine-tuning of {arch} is not a number at step {number}: export it "
                            "without --finetune."
                        )
                    done = number + 1
                    advance(recipe.batch)
                    if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                        checkpoint.save(files, done, state)
                        saved = time.monotonic()
        except KeyboardInterrupt:
            done = int(step.iterations.numpy())
            raise
        finally:
            checkpoint.save(files, done, state)

    def _answers_of(self, number: int, step: TrainingStep, images: tf.Tensor, n_images: int, micro_batch: int):
        """What the largest network says about the images of a step."""
        if number not in self._answers:
            answers = step.answers(images, n_images, micro_batch)
            if self.n_steps * answers.nbytes > SHARED_BYTES:
                return answers
            self._answers[number] = answers
        return self._answers[number]

    def _name(self, arch: Arch, network: Supernet) -> str:
        """Name of the folder of a subnet: another one where anything that the result depends on is another."""
        facts = [arch.to_document(), self.recipe.to_document(), self.epochs, len(self.data.train), self.config.seed]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for variable in network.trainable_variables:
            digest.update(variable.numpy().tobytes())
        return digest.hexdigest()[:16]


def specialised(supernet: Supernet, arch: Arch) -> Supernet:
    """A network of one arch that begins with its share of the supernet's weights."""
    network = Supernet(supernet.space, supernet.n_classes, seed=supernet.seed, arch=arch)
    for block in walk(supernet.space, arch, supernet.n_classes):
        shared = supernet.block_layers[block.name].active_weights(block)
        own = network.block_layers[block.name].op_weights()
        for op in block.ops:
            if op.n_weights:
                kernel, *bias = shared[block.layer_name(op)]
                own[op.suffix].kernel.assign(tf.reshape(kernel, own[op.suffix].kernel.shape))
                for value in bias:
                    own[op.suffix].bias.assign(value)
            if op.norm:
                values = shared[block.layer_name(op, "bn")]
                for variable, value in zip(own[op.suffix].norm.weights, values, strict=True):
                    variable.assign(value)
    return network
