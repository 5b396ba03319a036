"""The training step: four compiled functions, traced once for every arch and resolution."""

from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from ofa_tf.supernet import Supernet
from ofa_tf.training.losses import distillation_loss
from ofa_tf.training.recipe import MAX_SUBNETS, Recipe

IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32)
LABELS = tf.TensorSpec((None,), tf.int32)
SCALAR = tf.TensorSpec((), tf.float32)
INTEGER = tf.TensorSpec((), tf.int32)
MATRIX = tf.TensorSpec((None, None), tf.float32)


@lru_cache
def resizing_matrix(before: int, after: int) -> np.ndarray:
    """What turns a line of pixels into one of another length, as `tf.image.resize` does, bilinear and anti-aliased.

    TensorFlow's own operation for that runs only on CPUs, and XLA does not know it.

    Returns:
        float32 of shape (after, before).
    """
    with tf.init_scope(), tf.device("CPU"):  # a constant where it is called while a graph is built
        return tf.image.resize(tf.eye(before)[..., None], (after, before), antialias=True)[..., 0].numpy()


def resized(images: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Square images of shape (batch, size, size, 3), with `resizing_matrix` at another size."""
    return tf.einsum("ih,bhwc,jw->bijc", matrix, images, matrix)


class TrainingStep:
    """Teacher, accumulate, apply: what one step of any stage is made of.

    Archs, learning rate and everything else that changes enter as tensors, so each function is traced once; `traces`
    counts. All variables must be made in the scope of `strategy`, under which every replica accumulates the gradients
    of its own images; they are summed over the replicas once, when they are applied.

    Args:
        supernet: the network to train.
        teacher: a supernet whose largest network teaches; it answers with the batch's statistics and does not change.
        recipe: loss, optimizer and regularisation.
        strategy: of `tf.distribute`; None for a single device.
        element_spec: of the images and labels that `run` gets under a strategy; None for plain tensors.
        jit_compile: whether XLA compiles the functions, once for each resolution; for a `masked` supernet.
    """

    def __init__(
        self,
        supernet: Supernet,
        teacher: Supernet,
        recipe: Recipe,
        strategy: tf.distribute.Strategy | None = None,
        element_spec: tuple[Any, Any] | None = None,
        jit_compile: bool = False,
    ):
        self.supernet = supernet
        self.teacher = teacher
        self.recipe = recipe
        self.strategy = strategy or tf.distribute.get_strategy()
        self.traces: Counter[str] = Counter()
        self.variables = supernet.trainable_variables
        self.head = {variable.path for variable in supernet.block_layers["classifier"].trainable_variables}
        self.momentums = [tf.Variable(tf.zeros(v.shape), trainable=False) for v in self.variables]
        self.iterations = tf.Variable(0, trainable=False, dtype=tf.int64)
        # Each replica has its own; they meet in `apply`.
        own: dict[str, Any] = {"trainable": False, "synchronization": tf.VariableSynchronization.ON_READ}
        own["aggregation"] = tf.VariableAggregation.SUM
        self.gradients = [tf.Variable(tf.zeros(v.shape), **own) for v in self.variables]
        self.losses = tf.Variable(tf.zeros((MAX_SUBNETS,)), **own)
        n_classes = supernet.n_classes
        self.soft_targets = tf.Variable(tf.zeros((1, n_classes)), shape=(None, n_classes), **own)
        self.soft_targets_of = 1

        images, labels = element_spec or (IMAGES, LABELS)
        code = tf.TensorSpec((supernet.space.n_genes,), tf.int32)
        part = [INTEGER, INTEGER]
        rest = [SCALAR, SCALAR, tf.TensorSpec((), tf.bool), INTEGER, INTEGER]

        def compiled(name, replica_function, signature):
            def function(*arguments):
                self.traces[name] += 1
                return self.strategy.run(replica_function, arguments)

            return tf.function(function, input_signature=signature, autograph=False, jit_compile=jit_compile)

        self.resize = compiled("resize", resized, [images, MATRIX])
        self.teach = compiled("teacher", self._teach, [images, *part])
        self.accumulate = compiled("accumulate", self._accumulate, [images, labels, *part, code, *rest])
        self.apply = compiled("apply", self._apply, [SCALAR])

    def reset_optimizer(self) -> None:
        """Forgets momentum and accumulated gradients, as at the start of a phase."""
        for variable in (*self.momentums, *self.gradients, self.losses):
            variable.assign(tf.zeros(variable.shape))

    def make_room(self, micro_batch: int) -> None:
        """Sizes the teacher's answers for this many images at once; a compiled function may not change a shape."""
        with self.strategy.scope():
            self.soft_targets.assign(tf.zeros((micro_batch, self.supernet.n_classes)))
        self.soft_targets_of = micro_batch

    def run(
        self,
        images: Any,
        labels: Any,
        n_images: int,
        micro_batch: int,
        codes: np.ndarray,
        learning_rate: float,
        distil: bool,
        seed: int = 0,
        resolution: int = 0,
        answers: np.ndarray | None = None,
    ) -> np.ndarray:
        """One step: the summed gradients of some archs, applied once.

        If a loss is not finite nothing is applied.

        Args:
            images: float32 (batch, size, size, 3), of this replica or as the strategy distributes them; archs of a
                lower resolution get them resized.
            labels: int32 (batch,), distributed like the images.
            n_images: images per replica.
            micro_batch: images that are computed at once and share batch norm statistics; a divisor of `n_images`.
            codes: the archs, int32 of shape (subnets, genes).
            learning_rate: of this step.
            distil: whether a teacher's answers count: those of the frozen network, or in a sandwich those of the first
                arch.
            seed: seed of the dropout.
            resolution: of the images; 0 for the highest of the archs.
            answers: of the teacher, if they are known, as `answers` gives them.

        Returns:
            The loss of each arch, a mean over all images of all replicas, shape (subnets,).
        """
        recipe = self.recipe
        share = micro_batch / (n_images * self.strategy.num_replicas_in_sync)
        distil = distil and recipe.kd_ratio > 0
        in_place = distil and recipe.sandwich
        if self.soft_targets_of != micro_batch:
            self.make_room(micro_batch)
        sizes = [self.supernet.space.resolutions[index] for index in codes[:, 0]]
        top = resolution or max(sizes)
        lower = {size: self.resize(images, resizing_matrix(top, size)) for size in set(sizes) - {top}}
        images_at = {top: images, **lower}
        for start in range(0, n_images, micro_batch):
            if answers is not None:
                self.soft_targets.assign(answers[start : start + micro_batch])
            elif distil and not in_place:
                self.teach(images, start, micro_batch)
            for index, (size, code) in enumerate(zip(sizes, codes, strict=True)):
                leads = in_place and index == 0
                kd_ratio = recipe.kd_ratio if distil and not leads else 0.0
                self.accumulate(images_at[size], labels, start, micro_batch, code, kd_ratio, share, leads, index, seed)
        losses = self.strategy.experimental_local_results(self.apply(learning_rate))[0]
        return losses.numpy()[: len(codes)]

    def answers(self, images: Any, n_images: int, micro_batch: int) -> np.ndarray:
        """The teacher's probabilities for the images of a step on a single device: shape (images, classes)."""
        if self.soft_targets_of != micro_batch:
            self.make_room(micro_batch)
        found = []
        for start in range(0, n_images, micro_batch):
            self.teach(images, start, micro_batch)
            found.append(self.soft_targets.numpy())
        return np.concatenate(found)

    # --- in every replica -----------------------------------------------------------------------------------------

    def _teach(self, images, start, micro):
        logits = self.teacher(images[start : start + micro], training=True)
        self.soft_targets.assign(tf.nn.softmax(logits))

    def _accumulate(self, images, labels, start, micro, code, kd_ratio, share, leads, index, seed):
        # Which replica computes an image makes no difference to what is drawn for it.
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        place = (replica * tf.shape(images)[0] + start) * MAX_SUBNETS + index
        images, labels = images[start : start + micro], labels[start : start + micro]
        known = self.soft_targets.read_value()
        soft_targets = tf.where(kd_ratio > 0, known, 0.0)
        with tf.GradientTape() as tape:
            logits = self.supernet(
                images, code=code, training=True, dropout=self.recipe.dropout, dropout_seed=tf.stack([seed, place])
            )
            loss = share * distillation_loss(logits, labels, soft_targets, kd_ratio, self.recipe.label_smoothing)
        sources = [variable.value for variable in self.variables]
        new = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        for total, gradient in zip(self.gradients, new, strict=True):
            total.assign_add(gradient)
        self.losses.assign_add(tf.one_hot(index, MAX_SUBNETS) * loss)
        self.soft_targets.assign(tf.where(leads, tf.nn.softmax(logits), known))

    def _apply(self, learning_rate):
        recipe, context = self.recipe, tf.distribute.get_replica_context()
        values = [variable.read_value() for variable in (*self.gradients, self.losses)]
        if context.num_replicas_in_sync > 1:
            values = context.all_reduce(tf.distribute.ReduceOp.SUM, values)
        *gradients, losses = values
        if recipe.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, recipe.clip_norm)

        def update():
            for variable, momentum, gradient in zip(self.variables, self.momentums, gradients, strict=True):
                if variable.path.endswith("kernel"):
                    gradient += recipe.weight_decay * variable
                tf.raw_ops.ResourceApplyKerasMomentum(
                    var=variable.value.handle,
                    accum=momentum.handle,
                    lr=learning_rate * recipe.head_rate if variable.path in self.head else learning_rate,
                    grad=gradient,
                    momentum=recipe.momentum,
                    use_nesterov=True,
                )
            tf.raw_ops.AssignAddVariableOp(resource=self.iterations.handle, value=tf.constant(1, tf.int64))
            return True

        tf.cond(tf.reduce_all(tf.math.is_finite(losses)), update, lambda: False)
        for variable in (*self.gradients, self.losses):
            variable.assign(tf.zeros(variable.shape))
        return losses
