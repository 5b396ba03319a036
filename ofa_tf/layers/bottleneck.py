"""The elastic bottleneck block."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from ofa_tf.channels import bottleneck_channels
from ofa_tf.kinds import Block
from ofa_tf.layers.batch_norm import ElasticBatchNorm
from ofa_tf.layers.block_layer import BlockLayer, Choices, OpWeights
from ofa_tf.layers.conv import ElasticConv2D
from ofa_tf.layers.pool import average_pool
from ofa_tf.layers.shapes import ActiveChannels, active_channels, as_choices, most, require_formulation


@keras.saving.register_keras_serializable(package="ofa_tf")
class ElasticBottleneck(BlockLayer):
    """The bottleneck of a ResNet-D (He et al., "Bag of tricks", CVPR 2019, figure 2): its channels are elastic.

    Reduction, convolution and projection are added to the input, which is averaged and convolved where the block
    changes its shape; then comes the activation.

    Args:
        in_channels: channels of the input, or the choices of them, ascending.
        out_channels: channels of the output, or the choices of them, ascending.
        kernel_size: side of the window of the middle convolution.
        expands: shares of the output's channels that the middle has, to choose from, ascending.
        strides: stride of the middle convolution, and of the average.
        activation: name of a Keras activation.
        skip: whether the input is added as it is.
        padding: "same" or "symmetric".
        epsilon: epsilon of the batch norms.
        formulation: "sliced" or "masked", as of an `ElasticInvertedResidual`.

    Raises:
        ValueError: the formulation is unknown.

    Input shape: `(batch, height, width, in_channels)`; output `(batch, height / strides, width / strides,
    out_channels)`. `expand_index`, `in_index` and `out_index` of the call point into the choices; by default the
    largest.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int | Sequence[int],
        kernel_size: int = 3,
        expands: Sequence[float] = (0.2, 0.25, 0.35),
        strides: int = 1,
        activation: str = "relu",
        skip: bool = False,
        padding: str = "same",
        epsilon: float = 1e-5,
        formulation: str = "sliced",
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_formulation(formulation)
        self.in_channels = as_choices(in_channels)
        self.out_channels = as_choices(out_channels)
        self.kernel_size = kernel_size
        self.expands = tuple(expands)
        self.strides = strides
        self.activation = activation
        self.skip = skip
        self.padding = padding
        self.epsilon = epsilon
        self.formulation = formulation
        widths = [out_channels] if isinstance(out_channels, int) else out_channels
        self.mid_choices = [[bottleneck_channels(width, expand) for expand in expands] for width in widths]
        read, mid, written = most(in_channels), self.mid_choices[-1][-1], most(out_channels)
        self.downsample_conv = None if skip else self._conv("downsample", read, written)
        self.downsample_bn = None if skip else self._bn("downsample", written)
        self.reduce_conv, self.reduce_bn = self._conv("reduce", read, mid), self._bn("reduce", mid)
        self.mid_conv = self._conv("conv", mid, mid, kernel_size, strides, padding)
        self.mid_bn = self._bn("conv", mid)
        self.project_conv, self.project_bn = self._conv("project", mid, written), self._bn("project", written)

    def _conv(self, name: str, *arguments) -> ElasticConv2D:
        return ElasticConv2D(*arguments, name=name, dtype=self.dtype_policy)

    def _bn(self, name: str, channels: int) -> ElasticBatchNorm:
        return ElasticBatchNorm(channels, self.epsilon, name=f"{name}_bn", dtype=self.dtype_policy)

    @classmethod
    def of(cls, block: Block, choices: Choices) -> "ElasticBottleneck":
        return cls(
            kernel_size=block.kernel,
            expands=choices.expands,
            strides=block.stride,
            skip=block.skip,
            **choices.arguments(block),
        )

    @property
    def _parts(self) -> dict[str, tuple[ElasticConv2D, ElasticBatchNorm]]:
        """Each convolution with the batch norm after it."""
        parts = {
            "reduce": (self.reduce_conv, self.reduce_bn),
            "conv": (self.mid_conv, self.mid_bn),
            "project": (self.project_conv, self.project_bn),
        }
        if self.downsample_conv is None or self.downsample_bn is None:
            return parts
        return {"downsample": (self.downsample_conv, self.downsample_bn), **parts}

    def build(self, input_shape=None):
        for layers in self._parts.values():
            for layer in layers:
                layer.build()
        self.built = True

    def call(
        self, inputs, kernel_index=None, expand_index=None, in_index=None, out_index=None, training=False, momentum=None
    ):
        activation, parts = keras.activations.get(self.activation), self._parts
        read = active_channels(self.formulation, self.in_channels, in_index)
        mid = active_channels(self.formulation, self.mid_choices, out_index, expand_index)
        written = active_channels(self.formulation, self.out_channels, out_index)

        def apply(name: str, x: tf.Tensor, before: ActiveChannels, after: ActiveChannels) -> tf.Tensor:
            conv, bn = parts[name]
            x = conv(x, active_channels=after.n, n=before.n)
            return bn(x, n=after.n, training=training, momentum=after.momentum(momentum))

        # A mask follows wherever the next convolution mixes channels.
        x = mid.only(activation(apply("reduce", inputs, read, mid)))
        x = mid.only(activation(apply("conv", x, mid, mid)))
        x = apply("project", x, mid, written)
        shortcut = inputs if self.skip else apply("downsample", average_pool(inputs, self.strides), read, written)
        return written.only(activation(x + shortcut))

    def op_weights(self) -> dict[str, OpWeights]:
        return {name: OpWeights(conv.kernel, norm=bn) for name, (conv, bn) in self._parts.items()}

    def get_config(self):
        return {
            **super().get_config(),
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "expands": self.expands,
            "strides": self.strides,
            "activation": self.activation,
            "skip": self.skip,
            "padding": self.padding,
            "epsilon": self.epsilon,
            "formulation": self.formulation,
        }
