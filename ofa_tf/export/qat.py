"""Quantisation-aware training of one subnet: a twin in tf_keras, with the rounding of int8 in its graph.

The twin has batch norm folded into its convolutions, as the converter folds it: the numbers that are rounded while it
trains are the numbers in the file (Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", CVPR 2018, section 3.2, with the statistics frozen).

tensorflow-model-optimization takes only models of tf_keras, which is slow to import: import this module when needed.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.blocks import Block, walk
from ofa_tf.errors import ExportError
from ofa_tf.ops import INPUT, Op
from ofa_tf.quiet import quiet
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.subnet import plain_layer
from ofa_tf.training.step import resized, resizing_matrix

_LEGACY = os.environ.get("TF_USE_LEGACY_KERAS")
with quiet():
    import tensorflow_model_optimization as tfmot  # sets TF_USE_LEGACY_KERAS, which is no business of ours
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer
if _LEGACY is None:
    os.environ.pop("TF_USE_LEGACY_KERAS", None)

# Names that a type checker takes for types.
Quantizer: Any = tfmot.quantization.keras.quantizers.Quantizer
QuantizeConfig: Any = tfmot.quantization.keras.QuantizeConfig
layers: Any = tf_keras.layers
Layer: Any = layers.Layer

RANGE_DECAY = 0.99  # of the moving averages of activations' ranges
TWIN_TOLERANCE = 1e-4  # of the largest logit


class WeightQuantizer(Quantizer):
    """Symmetric int8 with one scale for each output channel, as TFLite stores weights.

    Args:
        weight: "kernel" of a convolution, channels last; "depthwise_kernel", channels last but one; "dense", one scale
            for all.
    """

    def __init__(self, weight: str):
        self.weight = weight

    def build(self, tensor_shape, name, layer):
        del tensor_shape, name, layer  # the ranges follow from the weights themselves
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        del training, weights, kwargs
        if self.weight == "dense":
            limit = tf.reduce_max(tf.abs(inputs))
            return tf.quantization.fake_quant_with_min_max_vars(inputs, -limit, limit, narrow_range=True)
        channels_last = tf.reshape(inputs, inputs.shape[:3]) if self.weight == "depthwise_kernel" else inputs
        limits = tf.reduce_max(tf.abs(channels_last), axis=list(range(channels_last.shape.rank - 1)))
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            channels_last, -limits, limits, narrow_range=True
        )
        return tf.reshape(rounded, inputs.shape)

    def get_config(self):
        return {"weight": self.weight}


class RangeQuantizer(Quantizer):
    """int8 with the moving average of the batches' ranges, which begins with the first batch."""

    def build(self, tensor_shape, name, layer):
        del tensor_shape

        def variable(what: str):
            return layer.add_weight(f"{name}_{what}", shape=(), initializer="zeros", trainable=False)

        return {what: variable(what) for what in ("min", "max", "seen")}

    def __call__(self, inputs, training, weights, **kwargs):
        del kwargs
        if training:
            decay = RANGE_DECAY * weights["seen"]
            for what, found in (("min", tf.reduce_min(inputs)), ("max", tf.reduce_max(inputs))):
                weights[what].assign(weights[what] * decay + found * (1 - decay))
            weights["seen"].assign(1.0)
        low, high = tf.minimum(weights["min"], 0.0), tf.maximum(weights["max"], 0.0)
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)

    def get_config(self):
        return {}


class LayerConfig(QuantizeConfig):
    """What of a layer is rounded.

    Args:
        weight: the kind of its weight, or "" for none.
        output: whether its output is rounded; not before an activation that the converter fuses with it.
    """

    def __init__(self, weight: str = "", output: bool = True):
        self.weight, self.output = weight, output

    @property
    def _attribute(self) -> str:
        return "kernel" if self.weight == "dense" else self.weight

    def get_weights_and_quantizers(self, layer):
        return [(getattr(layer, self._attribute), WeightQuantizer(self.weight))] if self.weight else []

    def set_quantize_weights(self, layer, quantize_weights):
        for rounded in quantize_weights:
            setattr(layer, self._attribute, rounded)

    def get_activations_and_quantizers(self, layer):
        return []

    def set_quantize_activations(self, layer, quantize_activations):
        pass

    def get_output_quantizers(self, layer):
        return [RangeQuantizer()] if self.output else []

    def get_config(self):
        return {"weight": self.weight, "output": self.output}


class HardSwish(Layer):
    """`x * relu6(x + 3) / 6`, which the converter makes a HARD_SWISH of."""

    def call(self, inputs):
        return inputs * tf.nn.relu6(inputs + 3.0) * (1 / 6)


class ShiftedRelu6(Layer):
    """`relu6(x + 3)`, the first operator of a hard sigmoid."""

    def call(self, inputs):
        return tf.nn.relu6(inputs + 3.0)


class Sixth(Layer):
    """`x / 6`, the second operator of a hard sigmoid."""

    def call(self, inputs):
        return inputs * (1 / 6)


WEIGHTS = {"conv": "kernel", "depthwise": "depthwise_kernel", "dense": "dense"}  # how those of an operation are rounded
FUSED = ("relu", "relu6", "hard_sigmoid")  # what becomes part of the operator before it, or of its bias
ACTIVATIONS: dict[str, tuple[tuple[str, Any], ...]] = {
    "none": (),
    "relu": (("act", layers.ReLU),),
    "relu6": (("act", partial(layers.ReLU, 6.0)),),
    "hard_swish": (("act", HardSwish),),
    "hard_sigmoid": (("shift", ShiftedRelu6), ("act", Sixth)),
}
CUSTOM = {
    made.__name__: made for made in (LayerConfig, WeightQuantizer, RangeQuantizer, HardSwish, ShiftedRelu6, Sixth)
}


def build_twin(subnet: keras.Model, space: SearchSpace, arch: Arch, n_classes: int) -> Any:
    """The twin of a plain subnet in tf_keras: batch norm folded, every layer annotated with what is to be rounded.

    Args:
        subnet: from `extract`, its statistics recalibrated.
        space: the space of the arch.
        arch: the subnet's.
        n_classes: number of outputs of the classifier.

    Returns:
        A functional tf_keras model; as it stands it computes in float32.
    """
    inputs = tf_keras.Input((arch.resolution, arch.resolution, 3), batch_size=None, name="image")
    outputs = inputs
    for block in walk(space, arch, n_classes):
        outputs = _apply_block(block, outputs, subnet)
    return tf_keras.Model(inputs, outputs, name="twin")


def check_twin(subnet: keras.Model, twin: Any, inputs: np.ndarray) -> None:
    """Refuses a twin that does not answer as its subnet does.

    Args:
        subnet: the Keras 3 model.
        twin: of `build_twin`.
        inputs: network inputs, shape (images, resolution, resolution, 3).

    Raises:
        ExportError: the logits differ by more than 1e-4 of the largest.
    """
    expected = np.asarray(subnet(inputs, training=False))
    worst = float(np.abs(twin(inputs, training=False).numpy() - expected).max() / np.abs(expected).max())
    if not worst <= TWIN_TOLERANCE:
        raise ExportError(f"The network for quantisation-aware training differs from the subnet by {worst:.2g}.")


def quantise_twin(twin: Any, low: float, high: float) -> Any:
    """The model with rounding in its graph; its inputs lie between `low` and `high`, which fixes their scale."""
    with tf_keras.utils.custom_object_scope(CUSTOM), quiet():
        model = tfmot.quantization.keras.quantize_apply(twin)
    (entry,) = (layer for layer in model.layers if isinstance(layer, QuantizeLayer))
    for variable in entry.weights:
        name = variable.name.split(":")[0]
        if name.endswith(("_min", "_max")):
            variable.assign(low if name.endswith("_min") else high)
    return model


def _apply_block(block: Block, inputs: Any, subnet: keras.Model) -> Any:
    """Adds one block, with the weights of the subnet's layers of the same names."""
    outputs = {INPUT: inputs}
    for op in block.ops:
        sources = [outputs[source] for source in op.inputs]
        if op.margins != (0, 0):
            pad = layers.ZeroPadding2D(op.margins, name=block.layer_name(op, "pad"))
            sources = [_annotated(pad, source, LayerConfig(output=False)) for source in sources]
        layer = plain_layer(op, block.layer_name(op), op.bias or op.norm, layers)
        config = LayerConfig(WEIGHTS.get(op.kind, ""), op.activation not in FUSED and not op.keeps_range)
        x = _annotated(layer, sources if len(sources) > 1 else sources[0], config)
        if op.n_weights:
            layer.set_weights(_folded(block, op, subnet))
        for part, made in ACTIVATIONS[op.activation]:
            x = _annotated(made(name=block.layer_name(op, part)), x, LayerConfig())
        outputs[op.suffix] = x
    return outputs[block.ops[-1].suffix]


def _annotated(layer: Any, x: Any, config: LayerConfig) -> Any:
    return tfmot.quantization.keras.quantize_annotate_layer(layer, config)(x)


def _folded(block: Block, op: Op, subnet: keras.Model) -> list[np.ndarray]:
    """Kernel and bias of an operation, with the batch norm after it folded into them."""
    kernel, *bias = subnet.get_layer(block.layer_name(op)).get_weights()
    if not op.norm:
        return [kernel, *bias]
    norm = subnet.get_layer(block.layer_name(op, "bn"))
    gamma, beta, mean, variance = norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    offset = (bias[0] - mean if bias else -mean) * scale + beta
    return [kernel * (scale[:, None] if op.depthwise else scale), offset]


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FineTuning:
    """Hyper-parameters of the fine-tuning.

    Args:
        epochs: passes over the training images.
        batch: images per step.
        learning_rate: of Adam, at the start; it falls to 0 along a half cosine.
        label_smoothing: share of the target spread over all classes.
    """

    epochs: float
    batch: int = 64
    learning_rate: float = 1e-3
    label_smoothing: float = 0.1

    def steps(self, n_images: int) -> int:
        """Steps in all, at least one."""
        return max(1, round(self.epochs * n_images / self.batch))


def fine_tune(
    student: Any,
    teacher: keras.Model,
    batches: Iterable[tuple[Any, Any]],
    steps: int,
    tuning: FineTuning,
    labelled: bool = True,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Trains a model of `quantise_twin` on what a teacher says (Hinton et al., 2015), and on the labels.

    Args:
        student: is changed.
        teacher: the largest network of the supernet.
        batches: network inputs, at the size that the teacher takes, and int32 labels, one for each step; the student
            gets them resized.
        steps: how many there are.
        tuning: hyper-parameters.
        labelled: whether the labels are known.
        advance: called with the number of images after each step.

    Raises:
        ExportError: the loss is not a number.
    """
    size, n_classes = student.input_shape[1], student.output_shape[-1]
    schedule = tf_keras.optimizers.schedules.CosineDecay(tuning.learning_rate, steps)
    optimizer = tf_keras.optimizers.Adam(schedule)

    @tf.function(autograph=False)
    def step(inputs, labels):
        soft = tf.nn.softmax(teacher(inputs, training=False))
        own = inputs if inputs.shape[1] == size else resized(inputs, resizing_matrix(inputs.shape[1], size))
        with tf.GradientTape() as tape:
            logits = student(own, training=True)
            loss = tf.nn.softmax_cross_entropy_with_logits(soft, logits)
            if labelled:
                hard = tf.one_hot(labels, n_classes) * (1 - tuning.label_smoothing)
                hard += tuning.label_smoothing / n_classes
                loss += tf.nn.softmax_cross_entropy_with_logits(hard, logits)
            loss = tf.reduce_mean(loss)
        gradients = tape.gradient(loss, student.trainable_variables)
        optimizer.apply_gradients(zip(gradients, student.trainable_variables, strict=True))
        return loss

    for inputs, labels in batches:
        loss = float(step(inputs, labels))
        if not np.isfinite(loss):
            raise ExportError("The loss of the quantisation-aware training is not a number; export without --qat.")
        advance(len(labels))
