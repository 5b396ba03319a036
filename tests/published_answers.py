"""Holding networks against the answers of the published project."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ofa_tf.space import Arch, SearchSpace
from ofa_tf.subnet import build_subnet


@dataclass(frozen=True)
class Published:
    """A published supernet with random weights, and what it answers.

    Args:
        facts: what is said about it, beside the fields that follow.
        state: its tensors, by their published names.
        images: one batch, channels last.
        outputs: for each arch of the facts.
    """

    facts: Mapping[str, Any]
    state: dict[str, np.ndarray]
    images: np.ndarray
    outputs: np.ndarray


def read_published(stem: Path) -> Published:
    """Reads the two files `stem.json` and `stem.npz`."""
    facts = json.loads(stem.with_name(f"{stem.name}.json").read_text())
    with np.load(stem.with_name(f"{stem.name}.npz")) as file:
        state = {name.removeprefix("state_dict/"): file[name] for name in file.files if name.startswith("state_dict/")}
        return Published(facts, state, file["input"].transpose(0, 2, 3, 1), file["outputs"])


def published_arch(space: SearchSpace, row: Mapping[str, Any], resolution: int) -> Arch:
    """An arch as the published project describes it: for ResNet50D, depths beyond the smallest, and widths."""
    if space.name == "resnet50d":
        stem, *stages = row["d"]
        depths = [2 if stem else 1, 1]
        depths += [stage.depths[0] + more for stage, more in zip(space.stages[2:], stages, strict=True)]
        return space.arch(resolution, depths, [3] * space.n_blocks, [1, 1, 1, *row["e"]], row["w"])
    depths = [min(depth, stage.depths[-1]) for depth, stage in zip(row["d"], space.stages, strict=True)]
    return space.arch(resolution, depths, row["ks"], row["e"])


def answers_in_float64(space, arch, model, images):
    """What a subnet answers without the rounding of float32."""
    keras.config.set_dtype_policy("float64")
    try:
        twin = build_subnet(space, arch, model.output_shape[-1], fixed_size=False)
        twin.set_weights(model.get_weights())
        outputs = twin(images.astype(np.float64)).numpy()
    finally:
        keras.config.set_dtype_policy("float32")
    assert outputs.dtype == np.float64
    return outputs


def relative_error(actual, expected):
    return float(np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max())


def is_rough(space, arch):
    """Whether the published answer is itself more than 1e-5 from that in float64.

    Gates of squeeze-and-excite close to zero are differences of sums of thousands in the largest MobileNetV3 of the
    fixture: 1.5e-5 is lost there in the published float32. Ours is 4.5e-6 from float64 without oneDNN, and so the tests
    run. With it that depends on the processor, in eager mode: on Intel's with AVX-512 within 1e-5 of the published
    answer, on AMD's 1.1e-5 from it and 2.5e-5 from float64, with AVX2 alone 1.8e-5 and 4e-6. In a graph it has been up
    to 7e-5 from it.
    """
    return space.name == "mobilenet_v3" and arch == space.largest()


def assert_answers(outputs, expected, space, arch, model, images):
    """Within 1e-5 of the published answer; where that one is rough, within 1e-5 of it or of float64."""
    if is_rough(space, arch) and relative_error(outputs, expected) >= 1e-5:
        expected = answers_in_float64(space, arch, model, images)
    assert relative_error(outputs, expected) < 1e-5
