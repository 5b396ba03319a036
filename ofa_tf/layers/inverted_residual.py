"""The elastic inverted residual block."""

from collections.abc import Sequence

import keras

from ofa_tf.channels import mid_channels, se_channels
from ofa_tf.kinds import Block
from ofa_tf.layers.batch_norm import ElasticBatchNorm
from ofa_tf.layers.block_layer import BlockLayer, Choices, OpWeights
from ofa_tf.layers.conv import ElasticConv2D, ElasticDepthwiseConv2D
from ofa_tf.layers.shapes import active_channels, as_choices, most, require_formulation
from ofa_tf.layers.squeeze_excite import ElasticSqueezeExcite


@keras.saving.register_keras_serializable(package="ofa_tf")
class ElasticInvertedResidual(BlockLayer):
    """Expansion, depthwise convolution, squeeze-and-excite, projection: kernel size and channels are elastic.

    Args:
        in_channels: channels of the input, or the choices of them, ascending.
        out_channels: channels of the output, or the choices of them, ascending.
        kernel_sizes: kernel sizes to choose from, ascending.
        expands: expand ratios to choose from, ascending; `(1,)` means no expansion convolution.
        strides: stride of the depthwise convolution.
        activation: name of a Keras activation.
        se: whether there is squeeze-and-excite.
        skip: whether the input is added to the output.
        padding: "same" or "symmetric".
        epsilon: epsilon of the batch norms.
        formulation: "sliced" computes only the chosen channels; "masked" computes all and multiplies the others by
            zero, so that no shape depends on the choice. Outputs, gradients and weights are the same.
        keeps_expansion: whether there is an expansion convolution even at `(1,)`.

    Raises:
        ValueError: the formulation is unknown.

    Input shape: `(batch, height, width, in_channels)`; output `(batch, height / strides, width / strides,
    out_channels)`. `kernel_index`, `expand_index`, `in_index` and `out_index` of the call point into the choices; by
    default the largest. The middle has the channels of the input that there is times the expand ratio.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int | Sequence[int],
        kernel_sizes: Sequence[int] = (3, 5, 7),
        expands: Sequence[float] = (3, 4, 6),
        strides: int = 1,
        activation: str = "relu6",
        se: bool = False,
        skip: bool = False,
        padding: str = "same",
        epsilon: float = 1e-5,
        formulation: str = "sliced",
        keeps_expansion: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_formulation(formulation)
        self.in_channels = as_choices(in_channels)
        self.out_channels = as_choices(out_channels)
        self.kernel_sizes = tuple(kernel_sizes)
        self.expands = tuple(expands)
        self.strides = strides
        self.activation = activation
        self.se = se
        self.skip = skip
        self.padding = padding
        self.epsilon = epsilon
        self.formulation = formulation
        self.keeps_expansion = keeps_expansion
        widths = [in_channels] if isinstance(in_channels, int) else in_channels
        self.mid_choices = [[mid_channels(width, expand) for expand in expands] for width in widths]
        self.squeeze_choices = [[se_channels(mid) for mid in row] for row in self.mid_choices]
        mid, written = self.mid_choices[-1][-1], most(out_channels)
        self.expand_conv: ElasticConv2D | None = None
        self.expand_bn: ElasticBatchNorm | None = None
        self.squeeze_excite: ElasticSqueezeExcite | None = None
        if self.expands != (1,) or keeps_expansion:
            self.expand_conv = ElasticConv2D(most(in_channels), mid, name="expand", dtype=self.dtype_policy)
            self.expand_bn = ElasticBatchNorm(mid, epsilon, name="expand_bn", dtype=self.dtype_policy)
        self.depthwise_conv = ElasticDepthwiseConv2D(
            mid, self.kernel_sizes, strides, padding, name="depthwise", dtype=self.dtype_policy
        )
        self.depthwise_bn = ElasticBatchNorm(mid, epsilon, name="depthwise_bn", dtype=self.dtype_policy)
        if se:
            squeeze = self.squeeze_choices[-1][-1]
            self.squeeze_excite = ElasticSqueezeExcite(mid, squeeze, name="se", dtype=self.dtype_policy)
        self.project_conv = ElasticConv2D(mid, written, name="project", dtype=self.dtype_policy)
        self.project_bn = ElasticBatchNorm(written, epsilon, name="project_bn", dtype=self.dtype_policy)

    @classmethod
    def of(cls, block: Block, choices: Choices) -> "ElasticInvertedResidual":
        return cls(
            kernel_sizes=choices.kernels,
            expands=choices.expands,
            strides=block.stride,
            se=block.se_channels > 0,
            skip=block.skip,
            keeps_expansion=block.keeps_expansion,
            **choices.arguments(block),
        )

    def build(self, input_shape=None):
        for layer in (
            self.expand_conv,
            self.expand_bn,
            self.depthwise_conv,
            self.depthwise_bn,
            self.squeeze_excite,
            self.project_conv,
            self.project_bn,
        ):
            if layer is not None:
                layer.build()
        self.built = True

    def call(
        self, inputs, kernel_index=None, expand_index=None, in_index=None, out_index=None, training=False, momentum=None
    ):
        activation, formulation = keras.activations.get(self.activation), self.formulation
        read = active_channels(formulation, self.in_channels, in_index)
        mid = active_channels(formulation, self.mid_choices, in_index, expand_index)
        written = active_channels(formulation, self.out_channels, out_index)
        mid_mode = {"n": mid.n, "training": training, "momentum": mid.momentum(momentum)}
        x = inputs
        if self.expand_conv is not None and self.expand_bn is not None:
            x = activation(self.expand_bn(self.expand_conv(x, active_channels=mid.n, n=read.n), **mid_mode))
        x = self.depthwise_conv(x, kernel_index=kernel_index, padded=formulation == "masked", n=mid.n)
        # Channels did not mix so far: one mask, here, takes the unused ones out of the outputs and the gradients.
        x = mid.only(activation(self.depthwise_bn(x, **mid_mode)))
        if self.squeeze_excite is not None:
            squeeze = active_channels(formulation, self.squeeze_choices, in_index, expand_index)
            x = self.squeeze_excite(x, active_squeeze=squeeze.n, squeeze_mask=squeeze.mask, n=mid.n)
        x = self.project_conv(x, active_channels=written.n, n=mid.n)
        x = written.only(self.project_bn(x, n=written.n, training=training, momentum=written.momentum(momentum)))
        return x + inputs if self.skip else x

    def op_weights(self) -> dict[str, OpWeights]:
        depthwise = self.depthwise_conv
        sizes = depthwise.kernel_sizes
        weights = {
            "depthwise": OpWeights(
                depthwise.kernel,
                norm=self.depthwise_bn,
                transforms=dict(zip(sizes[-2::-1], depthwise.transforms, strict=True)),
                cut=lambda op: depthwise.active_kernel(sizes.index(op.kernel[0]), op.out_channels),
            ),
            "project": OpWeights(self.project_conv.kernel, norm=self.project_bn),
        }
        if self.expand_conv is not None:
            weights["expand"] = OpWeights(self.expand_conv.kernel, norm=self.expand_bn)
        if self.squeeze_excite is not None:
            se = self.squeeze_excite
            weights["se_reduce"] = OpWeights(se.reduce_kernel, se.reduce_bias)
            weights["se_expand"] = OpWeights(se.expand_kernel, se.expand_bias)
        return weights

    def get_config(self):
        return {
            **super().get_config(),
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_sizes": self.kernel_sizes,
            "expands": self.expands,
            "strides": self.strides,
            "activation": self.activation,
            "se": self.se,
            "skip": self.skip,
            "padding": self.padding,
            "epsilon": self.epsilon,
            "formulation": self.formulation,
            "keeps_expansion": self.keeps_expansion,
        }
