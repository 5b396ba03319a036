"""The ProxylessNAS space of the published project: width multiplier 1.3, a sixth stage of a single block."""

from ofa_tf.space import SearchSpace, Stage

DEPTHS = (2, 3, 4)

PROXYLESS = SearchSpace(
    name="proxyless",
    stem_channels=32,
    stem_stride=2,
    stem_activation="relu6",
    first_channels=16,
    first_activation="relu6",
    stages=(
        Stage(24, 2, DEPTHS, "relu6"),
        Stage(40, 2, DEPTHS, "relu6"),
        Stage(80, 2, DEPTHS, "relu6"),
        Stage(96, 1, DEPTHS, "relu6"),
        Stage(192, 2, DEPTHS, "relu6"),
        Stage(320, 1, (1,), "relu6"),
    ),
    kernels=(3, 5, 7),
    expands=(3, 4, 6),
    resolutions=tuple(range(128, 225, 4)),
    head_channels=1280,
    feature_channels=0,
    head_activation="relu6",
    width_mult=1.3,
    first_skip=False,
)
