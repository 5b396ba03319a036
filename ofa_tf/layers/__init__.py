"""Elastic Keras layers: what they compute is chosen by integer tensors in the call, never by state."""

from ofa_tf.layers.batch_norm import ElasticBatchNorm
from ofa_tf.layers.conv import ElasticConv2D, ElasticDepthwiseConv2D
from ofa_tf.layers.inverted_residual import ConvBlock, ElasticInvertedResidual
from ofa_tf.layers.squeeze_excite import ElasticSqueezeExcite

__all__ = [
    "ConvBlock",
    "ElasticBatchNorm",
    "ElasticConv2D",
    "ElasticDepthwiseConv2D",
    "ElasticInvertedResidual",
    "ElasticSqueezeExcite",
]
