"""Published networks as points of spaces that a JSON file describes, with the published counts.

Ours are multiply-accumulates of convolutions and dense layers for one image, without biases and batch norm, and the
trainable parameters: weights, biases, and two numbers per channel of a batch norm. Where others were published, the
test says which.
"""

import json
from dataclasses import dataclass, field
from functools import partial

import keras
import numpy as np
import pytest

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.spaces import get_space
from ofa_tf.subnet import build_subnet

N_CLASSES = 1000


def stage(channels, stride, depths, **choices):
    return {"channels": channels, "stride": stride, "depths": depths, "activation": "relu6", "se": False, **choices}


def document(name, stem, first, stages, head, resolutions, **more):
    ends = {"stem": stem, "first": first, "head": head}
    return {
        "schema": 2,
        "name": name,
        **{f"{end}_channels": channels for end, channels in ends.items()},
        **{f"{end}_activation": "relu6" for end in ends},
        "stem_stride": 2,
        "stages": stages,
        "kernels": [3, 5, 7],
        "expands": [3, 4, 5, 6],
        "resolutions": resolutions,
        "feature_channels": 0,
        **more,
    }


# Tan and Le, "EfficientNet", ICML 2019, table 1, without squeeze-and-excite and with ReLU6.
EFFICIENTNET_LITE = document(
    "efficientnet_lite0", 32, 16,
    [
        stage(24, 2, [1, 2], kernels=[3], expands=[3, 4, 6]),
        stage(40, 2, [1, 2], kernels=[3, 5], expands=[3, 4, 6]),
        stage(80, 2, [2, 3], kernels=[3], expands=[3, 4, 6]),
        stage(112, 1, [2, 3], kernels=[3, 5], expands=[3, 4, 6]),
        stage(192, 2, [3, 4], kernels=[3, 5], expands=[3, 4, 6]),
        stage(320, 1, [1], kernels=[3], expands=[6]),
    ],
    1280, [192, 224],
)  # fmt: skip

# Sandler et al., "MobileNetV2", CVPR 2018, table 2. At each width multiplier every list has the rounded channels.
MOBILENET_V2 = document(
    "mobilenet_v2", [16, 24, 32, 48], [8, 16, 24],
    [
        stage([8, 16, 24, 32], 2, [2]),
        stage([16, 24, 32, 48], 2, [3]),
        stage([24, 32, 48, 64, 88], 2, [4]),
        stage([32, 48, 72, 96, 136], 1, [3]),
        stage([56, 80, 120, 160, 224], 2, [3]),
        stage([112, 160, 240, 320, 448], 1, [1]),
    ],
    [448, 1280, 1792], [144, 224],
    kernels=[3], expands=[6],
)  # fmt: skip

# Lin et al., "MCUNet", NeurIPS 2020: kernels, expand ratios, depths and widths that the published networks have.
MCUNET = document(
    "mcunet", [16, 24, 32], [8, 16],
    [
        stage([16, 24], 2, [2, 3, 4]),
        stage([24, 40], 2, [2, 3]),
        stage([40, 48, 80], 2, [2, 3]),
        stage([48, 56, 96], 1, [2, 3]),
        stage([96, 112, 192], 2, [2, 3, 4]),
        stage([160, 192, 320], 1, [1]),
    ],
    0, [48, 96, 160, 176],
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A published network as a point of a space.

    Args:
        channels: as built, of the elastic streams.
        macs: published, with the digits that were published, in millions.
        params: likewise.
        blocks: kernel sizes and expand ratios of the blocks of each stage; empty for the largest.
        norms: whether the published parameters include those of batch norms.
    """

    space: dict = field(repr=False)
    resolution: int
    channels: tuple[int, ...]
    macs: str
    params: str
    blocks: str = ""
    norms: bool = True

    def arch(self, space: SearchSpace) -> Arch:
        choices = [of.channels.index(wide) for of, wide in zip(space.elastic_streams, self.channels, strict=True)]
        largest = space.largest(self.resolution)
        if not self.blocks:
            return space.arch(self.resolution, largest.depths, largest.kernels, largest.expands, choices)
        stages = [[word.split("x") for word in words.split()] for words in self.blocks.split("|")]
        deepest = [of.depths[-1] for of in space.stages]
        slots = [
            slot
            for words, depth in zip(stages, deepest, strict=True)
            for slot in words + [(0, 0)] * (depth - len(words))
        ]
        kernels, expands = ([int(slot[part]) for slot in slots] for part in (0, 1))
        return space.arch(self.resolution, list(map(len, stages)), kernels, expands, choices)


# Table in the sources of keras.applications.mobilenet_v2 before Keras 3, and in the README of the slim models.
V2_AT_224 = partial(Network, MOBILENET_V2, 224, norms=False)
NETWORKS = {
    # README of the EfficientNet-lite code of tensorflow/tpu: 4.7 M parameters, 4.65 M in timm. For MACs see below.
    "efficientnet-lite0": Network(EFFICIENTNET_LITE, 224, (), "385", "4.65"),
    "mobilenet_v2 0.35": V2_AT_224((16, 8, 8, 16, 24, 32, 56, 112, 1280), "59", "1.66"),
    "mobilenet_v2 0.5": V2_AT_224((16, 8, 16, 16, 32, 48, 80, 160, 1280), "97", "1.95"),
    "mobilenet_v2 0.75": V2_AT_224((24, 16, 24, 24, 48, 72, 120, 240, 1280), "209", "2.61"),
    "mobilenet_v2 1.0": V2_AT_224((32, 16, 24, 32, 64, 96, 160, 320, 1280), "300", "3.47"),
    "mobilenet_v2 1.4": V2_AT_224((48, 24, 32, 48, 88, 136, 224, 448, 1792), "582", "6.06"),
    # README of mit-han-lab/mcunet, and the net configs that its history holds (assets/configs).
    "mbv2-w0.35": Network(MOBILENET_V2, 144, (16, 8, 8, 16, 24, 32, 56, 112, 448), "23.5", "0.75"),
    "mcunet-in0": Network(
        MCUNET, 48, (24, 16, 16, 24, 48, 56, 112, 192), "6.4", "0.75",
        "5x4 3x3 3x4 | 7x5 5x4 5x5 | 7x5 5x4 | 3x5 5x4 3x5 | 3x6 5x4 | 3x6",
    ),
    "mcunet-in1": Network(
        MCUNET, 96, (16, 8, 16, 24, 40, 48, 96, 160), "12.8", "0.64",
        "3x4 3x3 | 7x3 3x5 | 3x5 7x4 | 5x4 3x3 3x4 | 7x5 5x4 5x4 | 3x6",
    ),
    "mcunet-in2": Network(
        MCUNET, 160, (16, 8, 16, 24, 40, 48, 96, 160), "67.3", "0.73",
        "5x3 7x6 3x5 5x5 | 3x5 7x6 5x6 | 7x4 5x5 | 3x5 5x5 3x4 | 5x6 5x4 5x3 3x4 | 5x5",
    ),
    "mcunet-in3": Network(
        MCUNET, 176, (16, 8, 16, 24, 40, 48, 96, 160), "81.8", "0.74",
        "7x3 3x5 7x5 5x4 | 5x5 5x5 5x5 | 3x5 7x6 5x4 | 5x5 7x5 3x5 | 3x6 7x5 3x4 | 7x5",
    ),
    "mcunet-in4": Network(
        MCUNET, 160, (32, 16, 24, 40, 80, 96, 192, 320), "125.9", "1.73",
        "7x3 3x5 5x4 | 7x5 3x4 7x4 | 7x3 3x3 7x3 | 3x4 5x3 5x3 | 7x4 7x3 5x3 | 5x4",
    ),
}  # fmt: skip


@pytest.fixture
def space_of(tmp_path):
    """The space of a network, read from a JSON file."""

    def read(network: Network) -> SearchSpace:
        path = tmp_path / "space.json"
        path.write_text(json.dumps(network.space))
        return get_space(str(path))

    return read


def as_published(count: int, digits: str) -> bool:
    """Whether a count is the one that was published in millions, rounded or, as the 300 of MobileNetV2, cut off."""
    scaled = count / 1e6 * 10 ** len(digits.partition(".")[2])
    return int(digits.replace(".", "")) in (round(scaled), int(scaled))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_counts_are_those_published(space_of, name):
    network = NETWORKS[name]
    space = space_of(network)
    blocks = walk(space, network.arch(space), N_CLASSES)
    n_of_norms = sum(2 * op.out_channels for block in blocks for op in block.ops if op.norm)
    n_params = count_params(blocks) - (0 if network.norms else n_of_norms)
    assert as_published(count_macs(blocks), network.macs)
    assert as_published(n_params, network.params)


def test_the_multiply_adds_of_efficientnet_lite0_count_more_than_convolutions(space_of):
    """Its README says 407 M, and not how they are counted; ours leave out what follows each convolution."""
    space = space_of(NETWORKS["efficientnet-lite0"])
    ops = [op for block in walk(space, space.largest(), N_CLASSES) for op in block.ops]
    n_values = {op: op.out_size**2 * op.out_channels for op in ops}
    after = sum((2 * op.norm + (op.activation != "none")) * n_values[op] for op in ops)
    assert sum(op.n_macs for op in ops) + after == pytest.approx(407e6, rel=0.006)


@pytest.mark.parametrize("alpha", [0.35, 1.0])
def test_mobilenet_v2_has_the_parameters_of_the_one_in_keras(space_of, alpha):
    network = NETWORKS[f"mobilenet_v2 {alpha}"]
    space = space_of(network)
    model = keras.applications.MobileNetV2(alpha=alpha, weights=None)
    n_params = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert count_params(walk(space, network.arch(space), N_CLASSES)) == n_params
    assert as_published(n_params, {0.35: "1.68", 1.0: "3.50"}[alpha])


@pytest.mark.parametrize("name", ["efficientnet-lite0", "mobilenet_v2 1.0", "mcunet-in3"])
def test_the_networks_can_be_built(space_of, name):
    network = NETWORKS[name]
    space = space_of(network)
    arch = network.arch(space)
    model = build_subnet(space, arch, N_CLASSES)
    assert model.input_shape == (None, network.resolution, network.resolution, 3)
    n_params = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert n_params == count_params(walk(space, arch, N_CLASSES))


def test_the_widths_of_mobilenet_v2_are_choices_of_one_space(space_of):
    networks = [network for network in NETWORKS.values() if network.space is MOBILENET_V2]
    space = space_of(networks[0])
    archs = [network.arch(space) for network in networks]
    assert len(set(archs)) == len(networks) == 6
    assert space.decode(space.encode(archs)) == archs
    assert archs[-2].channels == space.largest().channels
