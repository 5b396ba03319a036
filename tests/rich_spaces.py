"""Small spaces that together have every choice that a space can offer, by name."""

from ofa_tf.space import SearchSpace
from ofa_tf.stage import Stage

RICH = SearchSpace(
    name="rich",
    stem_channels=(8, 16),
    stem_stride=2,
    stem_activation="relu6",
    first_channels=(8, 16),
    first_activation="hard_swish",
    first_depth=2,
    stages=(
        Stage((16, 24), 2, (1, 2), "relu6", kernels=(3, 7), expands=(1, 3)),
        Stage((24, 32, 40), 1, (1, 3), "hard_swish", se=True, expands=(1.5, 2, 4)),
        Stage((24, 32), 2, (1, 2), "hard_swish", se=True, kernels=(1, 3, 5), expands=(1,)),
    ),
    kernels=(3, 5, 7),
    expands=(2, 3),
    resolutions=(24, 32),
    head_channels=(32, 48),
    feature_channels=40,
    head_activation="hard_swish",
)
# What the network ends with is elastic, and half of the rest is not.
BARE = SearchSpace(
    name="bare",
    stem_channels=16,
    stem_stride=2,
    stem_activation="hard_swish",
    first_channels=0,
    first_activation="relu",
    stages=(
        Stage(16, 1, (1, 2), "hard_swish", expands=(1,)),
        Stage((16, 32), 2, (1, 2), "relu", se=True, kernels=(5,)),
    ),
    kernels=(3, 5),
    expands=(2, 3),
    resolutions=(24, 32),
    head_channels=0,
    feature_channels=0,
    head_activation="relu",
    padding="symmetric",
)
COUPLED = SearchSpace(
    name="coupled",
    stem_channels=8,
    stem_stride=2,
    stem_activation="relu6",
    first_channels=8,
    first_activation="relu6",
    stages=(
        Stage((16, 24), 2, (1, 2, 3), "relu6"),
        Stage(32, 2, (2, 3), "relu6", kernels=(5,), expands=(3, 6)),
    ),
    kernels=(3,),
    expands=(1, 2, 4),
    resolutions=(24, 32),
    head_channels=48,
    feature_channels=0,
    head_activation="relu6",
    coupled=True,
)
RESNET = SearchSpace(
    name="small_resnet",
    stem_channels=0,
    stem_stride=2,
    stem_activation="relu",
    first_channels=0,
    first_activation="relu",
    stages=(
        Stage(32, 2, (1, 2), "relu", kind="residual_conv", expands=(1,)),
        Stage(64, 2, (1,), "relu", kind="conv_pool", expands=(1,)),
        Stage(128, 1, (1, 2), "relu", kind="bottleneck"),
        Stage(256, 2, (1, 2), "hard_swish", kind="bottleneck"),
    ),
    kernels=(3,),
    expands=(0.2, 0.25, 0.35),
    resolutions=(40, 48),
    head_channels=0,
    feature_channels=0,
    head_activation="relu",
    width_mult=(0.25, 0.4, 0.5),
    padding="symmetric",
)
RICH_SPACES = {space.name: space for space in (RICH, BARE, COUPLED, RESNET)}
