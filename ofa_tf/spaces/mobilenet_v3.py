"""The MobileNetV3 space of the paper (Cai et al., ICLR 2020): five stages of 2 to 4 blocks, 2.2e19 subnets."""

from ofa_tf.space import SearchSpace, Stage

DEPTHS = (2, 3, 4)

MOBILENET_V3 = SearchSpace(
    name="mobilenet_v3",
    stem_channels=16,
    stem_stride=2,
    stem_activation="hard_swish",
    first_channels=16,
    first_activation="relu",
    stages=(
        Stage(24, 2, DEPTHS, "relu"),
        Stage(40, 2, DEPTHS, "relu", se=True),
        Stage(80, 2, DEPTHS, "hard_swish"),
        Stage(112, 1, DEPTHS, "hard_swish", se=True),
        Stage(160, 2, DEPTHS, "hard_swish", se=True),
    ),
    kernels=(3, 5, 7),
    expands=(3, 4, 6),
    resolutions=tuple(range(128, 225, 4)),
    head_channels=960,
    feature_channels=1280,
    head_activation="hard_swish",
)
