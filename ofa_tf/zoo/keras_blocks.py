"""A Keras model of inverted residual blocks, read back into a space that contains it and its weights.

The model is followed from its output to its input: what comes after the global average is left out, as training for
other classes makes it anew, and everything before it must be a stem, inverted residual blocks and a last convolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from ofa_tf.blocks import walk
from ofa_tf.channels import mid_channels, se_channels
from ofa_tf.data import Preprocessing
from ofa_tf.errors import FormatError
from ofa_tf.space import SearchSpace
from ofa_tf.zoo.containing_space import Blocks, containing_space
from ofa_tf.zoo.transplant import CLASSIFIER

ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "hard_swish": "hard_swish", "hard_silu": "hard_swish"}
PASSED = (keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape, keras.layers.ActivityRegularization)
AVERAGES = (keras.layers.GlobalAveragePooling2D,)
Weights = dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class KerasNetwork:
    """A Keras model as the largest subnet of a space.

    Args:
        space: the space.
        weights: of the plain layers of its largest subnet, by their names, without the classifier.
        preprocessing: what the model does to pixels itself; None if it does nothing.
    """

    space: SearchSpace
    weights: Weights
    preprocessing: Preprocessing | None


@dataclass(frozen=True)
class _Unit:
    """A convolution, what normalises it, and its activation.

    Args:
        layer: the convolution.
        norm: gamma, beta, moving mean and variance, with the convolution's bias in the mean.
        epsilon: of the batch norm.
        activation: one of the space's, or "none".
        padding: "same", "symmetric", or "" where both are the same.
        source: the tensor that it reads.
    """

    layer: Any
    norm: list[np.ndarray]
    epsilon: float
    activation: str
    padding: str
    source: Any

    @property
    def pointwise(self) -> bool:
        return not isinstance(self.layer, keras.layers.DepthwiseConv2D) and self.layer.kernel_size == (1, 1)

    @property
    def kernel(self) -> np.ndarray:
        return self.layer.get_weights()[0]

    @property
    def size(self) -> int:
        return self.layer.kernel_size[0]

    @property
    def stride(self) -> int:
        return self.layer.strides[0]

    @property
    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return [self.kernel], self.norm


@dataclass(frozen=True)
class _Block:
    """One inverted residual block: its units, and the tensor that it reads."""

    expand: _Unit | None
    depthwise: _Unit
    squeeze: list[np.ndarray] = field(repr=False)
    project: _Unit = field(repr=False)
    skip: bool
    source: Any

    @property
    def in_channels(self) -> int:
        return int(self.source.shape[-1])

    @property
    def mid_channels(self) -> int:
        return int(self.depthwise.kernel.shape[2])

    @property
    def group(self) -> Blocks:
        ratio = 1 if self.expand is None else round(self.mid_channels / self.in_channels, 4)
        unit = self.depthwise
        return Blocks(
            unit.size, ratio, int(self.project.kernel.shape[-1]), 1, unit.stride, unit.activation, bool(self.squeeze)
        )

    def parts(self) -> dict[str, tuple[list[np.ndarray], list[np.ndarray]]]:
        """Weights and batch norm of its operations, by their suffixes."""
        parts = {"depthwise": self.depthwise.weights, "project": self.project.weights}
        if self.expand is not None:
            parts["expand"] = self.expand.weights
        if self.squeeze:
            parts["se_reduce"], parts["se_expand"] = (self.squeeze[:2], []), (self.squeeze[2:], [])
        return parts


def read_keras(model: keras.Model, name: str, resolution: int | None = None) -> KerasNetwork:
    """Reads a model back into a space and its weights.

    Args:
        model: a functional or sequential model of a stem, inverted residual blocks, optionally a last convolution, and
            whatever comes after the global average.
        name: its name, for the space and for messages.
        resolution: the highest of the space, in pixels; None for that of the model.

    Raises:
        FormatError: a layer that does not fit; names it.
    """
    reader = _Reader(name)
    body = reader.body(model.outputs[0])
    head, body = reader.head(body)
    blocks: list[_Block] = []
    while (block := reader.block(body)) is not None:
        blocks.insert(0, block)
        body = block.source
    stem = reader.unit(body)
    preprocessing, body = reader.pixels(stem.source)
    if not _is_input(body) or body.shape[-1] != 3 or stem.size != 3 or not blocks:
        raise reader.error(
            stem.layer, "a 3x3 convolution of an image, and inverted residual blocks after it, are needed"
        )
    size = resolution or body.shape[1]
    if size is None:
        raise FormatError(f"{name} does not say its image size: give --space with resolutions.")
    space = reader.space(stem, blocks, head, int(size))
    return KerasNetwork(space, reader.weights(space, stem, blocks, head), preprocessing)


def _is_input(tensor: Any) -> bool:
    return isinstance(_producer(tensor)[0], keras.layers.InputLayer)


def _producer(tensor: Any) -> tuple[Any, list[Any]]:
    """The layer that makes a tensor, and the tensors that this reads."""
    history = tensor._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    return history.operation, list(node.input_tensors)


class _Reader:
    """Follows a model backwards."""

    def __init__(self, name: str):
        self.name = name

    def error(self, layer: Any, rule: str) -> FormatError:
        return FormatError(f"{self.name} does not fit at its layer `{layer.name}` ({type(layer).__name__}): {rule}.")

    def body(self, tensor: Any) -> Any:
        """The features before the global average; the output itself where there is no average."""
        layer, inputs = _producer(tensor)
        start = tensor
        while not isinstance(layer, AVERAGES):
            if len(tensor.shape) == 4 and tensor.shape[1] not in (1, None):
                return start if tensor is start else tensor
            if len(inputs) != 1:
                raise self.error(layer, "one path from the global average to the output is needed")
            tensor = inputs[0]
            layer, inputs = _producer(tensor)
        return inputs[0]

    def head(self, tensor: Any) -> tuple[_Unit | None, Any]:
        """The last convolution, which has an activation, where there is one, and what it reads."""
        layer, _ = _producer(self.passed(tensor))
        if isinstance(layer, keras.layers.Add):
            return None, tensor
        unit = self.unit(tensor)
        return (unit, unit.source) if unit.pointwise and unit.activation != "none" else (None, tensor)

    def passed(self, tensor: Any) -> Any:
        """The tensor before layers that do nothing to an image when they are used."""
        layer, inputs = _producer(tensor)
        while isinstance(layer, PASSED) or (isinstance(layer, keras.layers.Activation) and _linear(layer)):
            tensor = inputs[0]
            layer, inputs = _producer(tensor)
        return tensor

    def unit(self, tensor: Any) -> _Unit:
        """The convolution that ends in a tensor."""
        tensor = self.passed(tensor)
        layer, inputs = _producer(tensor)
        activation = "none"
        if isinstance(layer, keras.layers.ReLU | keras.layers.Activation):
            activation = self.activation(layer)
            layer, inputs = _producer(inputs[0])
        if not isinstance(layer, keras.layers.BatchNormalization):
            raise self.error(layer, "a batch norm after a convolution is needed")
        norm = layer
        layer, inputs = _producer(inputs[0])
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D) or _linear(layer) is False:
            raise self.error(layer, "a convolution without an activation of its own before the batch norm is needed")
        height, width = layer.kernel_size
        plain = layer.strides in ((1, 1), (2, 2)) and layer.dilation_rate == (1, 1) and height == width and height % 2
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        grouped = layer.depth_multiplier != 1 if depthwise else layer.groups != 1
        if not plain or grouped or layer.data_format != "channels_last":
            raise self.error(layer, "square odd windows, strides of 1 or 2, no dilation and no groups are needed")
        padding, source = self.padding(layer, inputs[0])
        return _Unit(layer, _norm_weights(norm, layer), float(norm.epsilon), activation, padding, source)

    def activation(self, layer: Any) -> str:
        if isinstance(layer, keras.layers.ReLU):
            if layer.negative_slope or layer.threshold or layer.max_value not in (None, 6):
                raise self.error(layer, "ReLU or ReLU6 is needed")
            return "relu6" if layer.max_value else "relu"
        found = getattr(layer.activation, "__name__", "")
        if found not in ACTIVATIONS:
            raise self.error(layer, f"its activation must be one of {sorted(set(ACTIVATIONS.values()))}")
        return ACTIVATIONS[found]

    def padding(self, layer: Any, source: Any) -> tuple[str, Any]:
        """Which padding a convolution has, and what it reads before any layer that pads."""
        before, inputs = _producer(source)
        size, stride = layer.kernel_size[0], layer.strides[0]
        if not isinstance(before, keras.layers.ZeroPadding2D):
            if layer.padding != "same" and size > 1:
                raise self.error(layer, "`padding` must be 'same', or zeros in a layer before it")
            return "same" if stride > 1 and size > 1 else "", source
        margins = {tuple(margin) for margin in before.padding}
        if layer.padding != "valid" or len(margins) != 1:
            raise self.error(
                before, "the same zeros above and beside the image, and none in the convolution, are needed"
            )
        (margin,) = margins
        if margin == (size // 2, size // 2):
            odd = inputs[0].shape[1] is not None and inputs[0].shape[1] % 2
            return "" if stride == 1 or odd else "symmetric", inputs[0]
        if margin == ((size - 1) // 2 if stride == 1 else size // 2 - 1, size // 2):
            return "same", inputs[0]
        raise self.error(before, f"zeros as for a {size}x{size} convolution of stride {stride} are needed")

    def block(self, tensor: Any) -> _Block | None:
        """The inverted residual block that ends in a tensor; None at the stem."""
        tensor = self.passed(tensor)
        layer, inputs = _producer(tensor)
        if not isinstance(layer, keras.layers.Add):
            unit = self.unit(tensor)
            return self._block(tensor, None) if unit.pointwise else None
        if len(inputs) != 2:
            raise self.error(layer, "a sum of two is needed")
        for path, kept in (inputs, reversed(inputs)):
            if not isinstance(_producer(self.passed(path))[0], keras.layers.Add):
                block = self._block(path, kept)
                if block is not None:
                    return block
        for path, kept in (reversed(inputs), inputs):
            block = self._block(path, kept) if path is not kept else None
            if block is not None:
                return block
        raise self.error(layer, "the sum of a block's input and output is needed")

    def _block(self, tensor: Any, kept: Any | None) -> _Block | None:
        """The block that ends in a projection; with `kept`, only if that is what it reads."""
        project = self.unit(tensor)
        if not project.pointwise or project.activation != "none":
            if kept is None:
                raise self.error(project.layer, "a 1x1 convolution without activation at the end of a block is needed")
            return None
        squeeze, source = self.squeeze(project.source)
        depthwise = self.unit(source)
        if not isinstance(depthwise.layer, keras.layers.DepthwiseConv2D) or depthwise.activation == "none":
            raise self.error(depthwise.layer, "a depthwise convolution with an activation is needed here")
        expand, source = None, self.passed(depthwise.source)
        if not isinstance(_producer(source)[0], keras.layers.Add):
            unit = self.unit(source)
            if unit.pointwise and unit.activation != "none":
                expand, source = unit, self.passed(unit.source)
        if kept is not None and self.passed(kept) is not source:
            return None
        if expand is not None and expand.activation != depthwise.activation:
            raise self.error(expand.layer, "the activation of the block's depthwise convolution is needed")
        return _Block(expand, depthwise, squeeze, project, kept is not None, source)

    def squeeze(self, tensor: Any) -> tuple[list[np.ndarray], Any]:
        """The weights of squeeze-and-excite, none where there is none, and the tensor before it."""
        layer, inputs = _producer(tensor)
        if not isinstance(layer, keras.layers.Multiply):
            return [], tensor
        for scaled, gate in (inputs, reversed(inputs)):
            convs: list[Any] = []
            current = gate
            while current is not scaled:
                made, read = _producer(current)
                if len(read) != 1 or len(convs) > 2:
                    break
                if isinstance(made, keras.layers.Conv2D | keras.layers.Dense):
                    convs.insert(0, made)
                current = read[0]
            if current is scaled and len(convs) == 2 and all(conv.use_bias for conv in convs):
                values = [value for conv in convs for value in conv.get_weights()]
                return [value if value.ndim != 2 else value[None, None] for value in values], scaled
        raise self.error(layer, "squeeze-and-excite of two convolutions with biases is needed")

    def pixels(self, tensor: Any) -> tuple[Preprocessing | None, Any]:
        """What is done to the pixels before the stem."""
        layer, inputs = _producer(tensor)
        if isinstance(layer, keras.layers.Rescaling):
            scale, offset = (np.broadcast_to(np.asarray(value, np.float64), 3) for value in (layer.scale, layer.offset))
            mean, std = (-offset / scale).tolist(), (1 / scale).tolist()
            return Preprocessing(tuple(mean), tuple(std)), inputs[0]
        if isinstance(layer, keras.layers.Normalization):
            mean = np.broadcast_to(np.ravel(layer.mean), 3).tolist()
            std = np.broadcast_to(np.sqrt(np.ravel(layer.variance)), 3).tolist()
            return Preprocessing(tuple(mean), tuple(std)), inputs[0]
        return None, tensor

    def space(self, stem: _Unit, blocks: Sequence[_Block], head: _Unit | None, resolution: int) -> SearchSpace:
        """The space whose largest subnet the model is."""
        of_blocks = (unit for block in blocks for unit in (block.expand, block.depthwise, block.project))
        known = [unit for unit in (stem, head, *of_blocks) if unit is not None]
        for unit in known:
            if unit.epsilon != stem.epsilon:
                rule = f"the epsilon of its batch norm (={unit.epsilon:g}) must be {stem.epsilon:g}, as before"
                raise self.error(unit.layer, rule)
        paddings = {unit.padding for unit in known} - {""}
        if len(paddings) > 1:
            raise FormatError(f"{self.name} pads some images on all four sides and others as TensorFlow does.")
        first = blocks[0].group
        leads = (first.kernel, first.expand, first.stride, first.se) == (3, 1, 1, False)
        groups: list[Blocks] = []
        for block in blocks[leads:]:
            group = block.group
            if groups and block.skip and replace(groups[-1], depth=1, stride=1) == group:
                groups[-1] = replace(groups[-1], depth=groups[-1].depth + 1)
            else:
                groups.append(group)
        return containing_space(
            "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in f"net_{self.name}"),
            groups,
            resolution,
            stem_channels=int(stem.kernel.shape[-1]),
            stem_stride=stem.stride,
            stem_activation=stem.activation,
            first_channels=first.channels if leads else 0,
            first_activation=first.activation if leads else "relu6",
            first_skip=blocks[0].skip if leads else True,
            head_channels=int(head.kernel.shape[-1]) if head else 0,
            feature_channels=0,
            head_activation=head.activation if head else "relu6",
            padding=min(paddings, default="same"),
            bn_epsilon=stem.epsilon,
        )

    def weights(self, space: SearchSpace, stem: _Unit, blocks: Sequence[_Block], head: _Unit | None) -> Weights:
        """The weights by the names of the plain layers of the space's largest subnet."""
        weights, left = Weights(), list(blocks)
        ends = {"stem": stem, **({"head": head} if head else {})}
        for block in walk(space, space.largest(), 2):
            if not block.n_params or block.name == CLASSIFIER:
                continue
            if block.name in ends:
                parts = {"": ends[block.name].weights}
            else:
                own = left.pop(0)
                self._check(block, own)
                parts = own.parts()
            for op in block.ops:
                if op.n_weights:
                    kernels, norm = parts[op.suffix]
                    weights[block.layer_name(op)] = kernels
                    if op.norm:
                        weights[block.layer_name(op, "bn")] = norm
        return weights

    def _check(self, block: Any, own: _Block) -> None:
        """Refuses a block whose shape the rules of spaces do not give."""
        layer, ratio = own.depthwise.layer, own.group.expand
        if mid_channels(own.in_channels, ratio) != own.mid_channels or block.mid_channels != own.mid_channels:
            raise self.error(layer, f"its {own.mid_channels} channels must be a multiple of 8")
        if block.skip != own.skip:
            word = "a" if block.skip else "no"
            raise self.error(own.project.layer, f"{word} skip connection over this block is needed")
        if own.squeeze and own.squeeze[0].shape[-1] != se_channels(own.mid_channels):
            needed = se_channels(own.mid_channels)
            raise self.error(layer, f"{needed} channels in its squeeze-and-excite are needed, a quarter of its own")


def _linear(layer: Any) -> bool:
    return getattr(layer.activation, "__name__", "") == "linear"


def _norm_weights(norm: Any, conv: Any) -> list[np.ndarray]:
    n = norm.moving_mean.shape[0]
    gamma = np.asarray(norm.gamma) if norm.scale else np.ones(n, np.float32)
    beta = np.asarray(norm.beta) if norm.center else np.zeros(n, np.float32)
    bias = np.asarray(conv.bias) if conv.use_bias else np.float32(0)
    return [gamma, beta, np.asarray(norm.moving_mean) - bias, np.asarray(norm.moving_variance)]
