"""The ResNet50D space of the published project: bottleneck blocks, and channels that the width multipliers choose.

The stem is two stages: a convolution that a residual one may follow, and a convolution with max pooling after it. Of
the four stages of bottlenecks two to six blocks are used.
"""

from ofa_tf.space import SearchSpace, Stage

RESNET50D = SearchSpace(
    name="resnet50d",
    stem_channels=0,
    stem_stride=2,
    stem_activation="relu",
    first_channels=0,
    first_activation="relu",
    stages=(
        Stage(32, 2, (1, 2), "relu", kind="residual_conv", expands=(1,)),
        Stage(64, 2, (1,), "relu", kind="conv_pool", expands=(1,)),
        Stage(256, 1, (2, 3, 4), "relu", kind="bottleneck"),
        Stage(512, 2, (2, 3, 4), "relu", kind="bottleneck"),
        Stage(1024, 2, (4, 5, 6), "relu", kind="bottleneck"),
        Stage(2048, 2, (2, 3, 4), "relu", kind="bottleneck"),
    ),
    kernels=(3,),
    expands=(0.2, 0.25, 0.35),
    resolutions=(128, 144, 160, 176, 192, 224, 240, 256),
    head_channels=0,
    feature_channels=0,
    head_activation="relu",
    width_mult=(0.65, 0.8, 1.0),
)
