"""`mobilenet_v3` for integer hardware: its widths and depths, ReLU6 everywhere, no squeeze-and-excite.

Every operator of its subnets is legal on an Edge TPU. HARD_SWISH is not, and in int8 it is slow elsewhere too.
"""

import dataclasses

from ofa_tf.spaces.mobilenet_v3 import MOBILENET_V3

EDGE = dataclasses.replace(
    MOBILENET_V3,
    name="edge",
    stem_activation="relu6",
    first_activation="relu6",
    stages=tuple(dataclasses.replace(stage, activation="relu6", se=False) for stage in MOBILENET_V3.stages),
    head_activation="relu6",
)
