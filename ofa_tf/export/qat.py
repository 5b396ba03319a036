"""Quantisation-aware training of one subnet: a twin in tf_keras, with the rounding of int8 in its graph.

The twin has batch norm folded into its convolutions, as the converter folds it: the numbers that are rounded while it
trains are the numbers in the file (Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", CVPR 2018, section 3.2, with the statistics frozen).

tensorflow-model-optimization takes models of tf_keras alone, which is slow to import: import this module when needed.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.blocks import Block, walk
from ofa_tf.errors import ExportError
from ofa_tf.quiet import quiet
from ofa_tf.space import Arch, SearchSpace

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
        kind: "kernel" of a convolution, channels last; "depthwise_kernel", channels last but one; "dense", one scale
            for all.
    """

    def __init__(self, kind: str):
        self.kind = kind

    def build(self, tensor_shape, name, layer):
        del tensor_shape, name, layer  # the ranges follow from the weights themselves
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        del training, weights, kwargs
        if self.kind == "dense":
            limit = tf.reduce_max(tf.abs(inputs))
            return tf.quantization.fake_quant_with_min_max_vars(inputs, -limit, limit, narrow_range=True)
        channels_last = tf.reshape(inputs, inputs.shape[:3]) if self.kind == "depthwise_kernel" else inputs
        limits = tf.reduce_max(tf.abs(channels_last), axis=list(range(channels_last.shape.rank - 1)))
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            channels_last, -limits, limits, narrow_range=True
        )
        return tf.reshape(rounded, inputs.shape)

    def get_config(self):
        return {"kind": self.kind}


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


CUSTOM = {
    made.__name__: made for made in (LayerConfig, WeightQuantizer, RangeQuantizer, HardSwish, ShiftedRelu6, Sixth)
}


def build_twin(subnet: keras.Model, space: SearchSpace, arch: Arch, n_classes: int) -> Any:
    """The twin of a plain subnet in tf_keras: batch norm folded, every layer annotated with what is to be rounded.

    Args:
        subnet: from `extract`, its statistics recalibrated.
        space: the space of the arch.
        arch: the subnet's.
        n_classes: outputs of the classifier.

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

    def add(layer: Any, x: Any, config: LayerConfig, weights: Sequence[np.ndarray] = ()):
        annotated = tfmot.quantization.keras.quantize_annotate_layer(layer, config)
        y = annotated(x)
        if weights:
            layer.set_weights(weights)
        return y

    def name(suffix: str) -> str:
        return f"{block.name}_{suffix}"

    def activate(x: Any, kind: str, suffix: str):
        made = {"relu": layers.ReLU, "relu6": lambda name: layers.ReLU(6.0, name=name), "hard_swish": HardSwish}
        return add(made[kind](name=name(suffix)), x, LayerConfig())

    def fused(kind: str) -> bool:
        return kind in ("relu", "relu6")

    def pad(x: Any):
        if block.padding == "same" or block.stride == 1:
            return x, "same"
        return add(layers.ZeroPadding2D(block.kernel // 2, name=name("pad")), x, LayerConfig(output=False)), "valid"

    if block.kind == "pool":
        return add(layers.GlobalAveragePooling2D(name=block.name), inputs, LayerConfig())
    if block.kind == "linear":
        active = block.activation != "none"
        dense = layers.Dense(block.out_channels, use_bias=block.bias, name=block.name)
        config = LayerConfig("dense", not (active and fused(block.activation)))
        x = add(dense, inputs, config, subnet.get_layer(block.name).get_weights())
        return activate(x, block.activation, "act") if active else x

    def convolve(x: Any, channels: int, kernel: int, stride: int, suffix: str, norm: str, activation: str):
        x, padding = pad(x) if kernel > 1 else (x, "same")
        weights = _folded(subnet, name(suffix), name(norm))
        config = LayerConfig("kernel", not fused(activation))
        layer = layers.Conv2D(channels, kernel, stride, padding, name=name(suffix))
        return add(layer, x, config, weights)

    if block.kind == "conv":
        x = convolve(inputs, block.out_channels, block.kernel, block.stride, "conv", "bn", block.activation)
        return activate(x, block.activation, "act")
    x = inputs
    if block.expanded:
        x = convolve(x, block.mid_channels, 1, 1, "expand", "expand_bn", block.activation)
        x = activate(x, block.activation, "expand_act")
    x, padding = pad(x)
    depthwise = layers.DepthwiseConv2D(block.kernel, block.stride, padding, name=name("depthwise"))
    config = LayerConfig("depthwise_kernel", not fused(block.activation))
    x = add(depthwise, x, config, _folded(subnet, name("depthwise"), name("depthwise_bn")))
    x = activate(x, block.activation, "depthwise_act")
    if block.se_channels:
        x = _squeeze_excite(block, x, add, subnet)
    x = convolve(x, block.out_channels, 1, 1, "project", "project_bn", "none")
    return add(layers.Add(name=name("add")), [x, inputs], LayerConfig()) if block.skip else x


def _squeeze_excite(block: Block, x: Any, add: Callable, subnet: keras.Model) -> Any:
    def name(suffix: str) -> str:
        return f"{block.name}_se_{suffix}"

    def pointwise(gates: Any, channels: int, suffix: str, output: bool):
        layer = layers.Conv2D(channels, 1, name=name(suffix))
        return add(layer, gates, LayerConfig("kernel", output), subnet.get_layer(name(suffix)).get_weights())

    gates = add(layers.GlobalAveragePooling2D(keepdims=True, name=name("mean")), x, LayerConfig())
    gates = pointwise(gates, block.se_channels, "reduce", output=False)
    gates = add(layers.ReLU(name=name("act")), gates, LayerConfig())
    gates = pointwise(gates, block.mid_channels, "expand", output=False)  # the shift becomes part of its bias
    gates = add(ShiftedRelu6(name=name("shift")), gates, LayerConfig())
    gates = add(Sixth(name=name("gate")), gates, LayerConfig())
    return add(layers.Multiply(name=name("scale")), [x, gates], LayerConfig())


def _folded(subnet: keras.Model, conv: str, norm: str) -> list[np.ndarray]:
    """Kernel and bias of a convolution and the batch norm after it, as one."""
    (kernel,), layer = subnet.get_layer(conv).get_weights(), subnet.get_layer(norm)
    gamma, beta, mean, variance = layer.get_weights()
    scale = gamma / np.sqrt(variance + layer.epsilon)
    depthwise = isinstance(subnet.get_layer(conv), keras.layers.DepthwiseConv2D)
    return [kernel * (scale[:, None] if depthwise else scale), beta - mean * scale]


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
        teacher: the largest network of the supernet, on images of any size.
        batches: network inputs and int32 labels, one for each step.
        steps: how many there are.
        tuning: hyper-parameters.
        labelled: whether the labels are known.
        advance: called with the number of images after each step.

    Raises:
        ExportError: the loss is not a number.
    """
    n_classes = student.output_shape[-1]
    schedule = tf_keras.optimizers.schedules.CosineDecay(tuning.learning_rate, steps)
    optimizer = tf_keras.optimizers.Adam(schedule)

    @tf.function(autograph=False)
    def step(inputs, labels):
        soft = tf.nn.softmax(teacher(inputs, training=False))
        with tf.GradientTape() as tape:
            logits = student(inputs, training=True)
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
