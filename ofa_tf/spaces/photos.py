"""A space for training on your own photographs on a laptop: five stages, 64 to 128 pixels, 3 to 60 M MACs, ReLU6.

An Edge TPU can run every operator of its subnets.
"""

from ofa_tf.space import SearchSpace, Stage

PHOTOS = SearchSpace(
    name="photos",
    stem_channels=16,
    stem_stride=2,
    stem_activation="relu6",
    first_channels=8,
    first_activation="relu6",
    stages=(
        Stage(16, 2, (1, 2), "relu6"),
        Stage(32, 2, (1, 2), "relu6"),
        Stage(48, 2, (1, 2, 3), "relu6"),
        Stage(72, 1, (1, 2, 3), "relu6"),
        Stage(128, 2, (1, 2, 3), "relu6"),
    ),
    kernels=(3, 5, 7),
    expands=(3, 4, 6),
    resolutions=(64, 80, 96, 112, 128),
    head_channels=640,
    feature_channels=0,
    head_activation="relu6",
)
