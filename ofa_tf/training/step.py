"""The training step: three compiled functions, traced once for every arch and resolution."""

from collections import Counter

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.subnet import build_subnet, extract
from ofa_tf.supernet import Supernet
from ofa_tf.training.losses import distillation_loss
from ofa_tf.training.recipe import Recipe

IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32)


class TrainingStep:
    """Teacher, accumulate, apply: what one step of any stage is made of.

    The arch and the learning rate enter as tensors, so each function is traced once; `traces` counts.

    Args:
        supernet: the network to train.
        recipe: loss, optimizer and regularisation.
    """

    def __init__(self, supernet: Supernet, recipe: Recipe):
        self.supernet = supernet
        self.recipe = recipe
        self.traces: Counter[str] = Counter()
        space = supernet.space
        self.teacher_model = build_subnet(space, space.largest(), supernet.n_classes, fixed_size=False)
        for layer in self.teacher_model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 1.0  # it answers with the batch's statistics, and keeps its own
        self.variables = supernet.trainable_variables
        self.decayed = [variable.path.rsplit("/", 1)[-1].endswith("kernel") for variable in self.variables]
        self.gradients = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in self.variables]
        self.optimizer = keras.optimizers.SGD(momentum=recipe.momentum, nesterov=True)
        self.optimizer.build(self.variables)
        logits = tf.TensorSpec((None, supernet.n_classes), tf.float32)
        scalar = tf.TensorSpec((), tf.float32)
        code = tf.TensorSpec((space.n_genes,), tf.int32)
        labels = tf.TensorSpec((None,), tf.int32)
        self.teach = tf.function(self._teach, input_signature=[IMAGES])
        self.accumulate = tf.function(self._accumulate, input_signature=[IMAGES, labels, logits, scalar, code])
        self.apply = tf.function(self._apply, input_signature=[scalar])

    def reset_optimizer(self) -> None:
        """Forgets momentum and accumulated gradients, as at the start of a phase."""
        for variable in (*self.optimizer.momentums, *self.gradients):
            variable.assign(tf.zeros_like(variable))

    def set_teacher(self, supernet: Supernet) -> None:
        """Copies the largest network of a supernet into the teacher."""
        largest = extract(supernet, supernet.space.largest(), fixed_size=False)
        self.teacher_model.set_weights(largest.get_weights())

    def run(
        self, images: tf.Tensor, labels: tf.Tensor, codes: np.ndarray, learning_rate: float, distil: bool
    ) -> np.ndarray:
        """One step: the summed gradient of some archs, applied once.

        If a loss is not finite nothing is applied.

        Args:
            images: float32 (batch, height, width, 3).
            labels: int32 (batch,).
            codes: the archs, int32 of shape (subnets, genes).
            learning_rate: of this step.
            distil: whether the teacher's answers count.

        Returns:
            The loss of each arch, shape (subnets,).
        """
        if distil:
            teacher_logits, kd_ratio = self.teach(images), self.recipe.kd_ratio
        else:
            teacher_logits, kd_ratio = tf.zeros((len(labels), self.supernet.n_classes)), 0.0
        scalars = [self.accumulate(images, labels, teacher_logits, kd_ratio, code) for code in codes]
        losses = np.array([scalar.numpy() for scalar in scalars])
        if np.isfinite(losses).all():
            self.apply(learning_rate)
        return losses

    def _teach(self, images):
        self.traces["teacher"] += 1
        return self.teacher_model(images, training=True)

    def _accumulate(self, images, labels, teacher_logits, kd_ratio, code):
        self.traces["accumulate"] += 1
        with tf.GradientTape() as tape:
            logits = self.supernet(images, code, training=True)
            loss = distillation_loss(logits, labels, teacher_logits, kd_ratio, self.recipe.label_smoothing)
        sources = [variable.value for variable in self.variables]
        new = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        for total, gradient in zip(self.gradients, new, strict=True):
            total.assign_add(gradient)
        return loss

    def _apply(self, learning_rate):
        self.traces["apply"] += 1
        decay = self.recipe.weight_decay
        gradients = [
            total + decay * variable if decayed else tf.convert_to_tensor(total)
            for total, variable, decayed in zip(self.gradients, self.variables, self.decayed, strict=True)
        ]
        self.optimizer.learning_rate.assign(learning_rate)
        self.optimizer.apply(gradients, self.variables)
        for total in self.gradients:
            total.assign(tf.zeros_like(total))
