"""A space for laptops, tests and small images: three stages, 24 to 32 pixels, ReLU6."""

from ofa_tf.space import SearchSpace, Stage

TINY = SearchSpace(
    name="tiny",
    stem_channels=16,
    stem_stride=2,
    stem_activation="relu6",
    first_channels=16,
    first_activation="relu6",
    stages=(
        Stage(24, 2, (1, 2), "relu6"),
        Stage(40, 2, (1, 2), "relu6"),
        Stage(80, 1, (1, 2), "relu6"),
    ),
    kernels=(3, 5, 7),
    expands=(3, 4, 6),
    resolutions=(24, 28, 32),
    head_channels=160,
    feature_channels=0,
    head_activation="relu6",
)
