"""Small spaces that have, each, some of what a space can offer beyond the registered ones."""

from ofa_tf.space import SearchSpace, Stage

ENDS = {"stem_stride": 2, "stem_activation": "relu6", "first_activation": "relu6", "head_activation": "relu6"}

# Choices of channels everywhere, and stages with kernels and expand ratios of their own.
RICH = SearchSpace(
    name="rich",
    stem_channels=(8, 16),
    first_channels=(8, 16),
    first_depth=2,
    stages=(
        Stage((16, 24), 2, (1, 2), "relu6", kernels=(3, 7), expands=(1, 3)),
        Stage((24, 32, 40), 1, (1, 2), "relu6", se=True),
        Stage(40, 2, (1,), "relu6", kernels=(5,), expands=(1,)),
    ),
    kernels=(3, 5),
    expands=(3, 4),
    resolutions=(24, 32),
    head_channels=(64, 96),
    feature_channels=32,
    **ENDS,
)
# One choice per stage sets depth and expand ratio.
COUPLED = SearchSpace(
    name="coupled",
    stem_channels=8,
    first_channels=8,
    stages=(Stage((16, 24), 2, (1, 2, 3), "relu6"), Stage(24, 1, (1, 2), "relu6", kernels=(5,), expands=(2, 3))),
    kernels=(3,),
    expands=(3, 4, 6),
    resolutions=(24, 32),
    head_channels=64,
    feature_channels=0,
    coupled=True,
    **ENDS,
)
# Only the last stage is elastic; the first one has a skip over its first block.
LAST = SearchSpace(
    name="last",
    stem_channels=16,
    first_channels=16,
    stages=(Stage(16, 1, (1, 2), "relu6"), Stage((24, 32), 2, (1, 2), "relu6")),
    kernels=(3, 5),
    expands=(3, 4),
    resolutions=(24, 32),
    head_channels=64,
    feature_channels=0,
    **ENDS,
)
# A small ResNet-D: no stem, first block and head of their own, and the same multipliers for all channels.
RESNET = SearchSpace(
    name="small_resnet",
    stem_channels=0,
    first_channels=0,
    stages=(
        Stage(16, 2, (1, 2), "relu", kind="residual_conv", expands=(1,)),
        Stage(32, 2, (1,), "relu", kind="conv_pool", expands=(1,)),
        Stage(64, 1, (1, 2), "relu", kind="bottleneck"),
        Stage(96, 2, (1, 2), "relu", kind="bottleneck"),
    ),
    kernels=(3,),
    expands=(0.25, 0.5),
    resolutions=(32, 40),
    head_channels=0,
    feature_channels=0,
    width_mult=(0.5, 1.0),
    **ENDS,
)
RICH_SPACES = {space.name: space for space in (RICH, COUPLED, LAST, RESNET)}
