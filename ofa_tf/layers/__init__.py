"""Elastic Keras layers: what they compute is chosen by integer tensors in the call, never by state."""

from collections.abc import Callable

from ofa_tf.kinds import Block
from ofa_tf.layers.batch_norm import ElasticBatchNorm
from ofa_tf.layers.block_layer import BlockLayer, Choices, OpWeights
from ofa_tf.layers.bottleneck import ElasticBottleneck
from ofa_tf.layers.conv import ElasticConv2D, ElasticDepthwiseConv2D
from ofa_tf.layers.conv_block import ConvBlock, ConvPool, ResidualConv
from ofa_tf.layers.fixed import Dense, GlobalAverage
from ofa_tf.layers.inverted_residual import ElasticInvertedResidual
from ofa_tf.layers.squeeze_excite import ElasticSqueezeExcite

# The layer of a supernet for each kind of block, a row for each of `kinds.KINDS`.
BLOCK_LAYERS: dict[str, Callable[[Block, Choices], BlockLayer]] = {
    "conv": ConvBlock.of,
    "mbconv": ElasticInvertedResidual.of,
    "bottleneck": ElasticBottleneck.of,
    "residual_conv": ResidualConv.of,
    "conv_pool": ConvPool.of,
    "pool": GlobalAverage.of,
    "linear": Dense.of,
}

__all__ = [
    "BLOCK_LAYERS",
    "BlockLayer",
    "Choices",
    "ConvBlock",
    "ConvPool",
    "Dense",
    "ElasticBatchNorm",
    "ElasticBottleneck",
    "ElasticConv2D",
    "ElasticDepthwiseConv2D",
    "ElasticInvertedResidual",
    "ElasticSqueezeExcite",
    "GlobalAverage",
    "OpWeights",
    "ResidualConv",
]
