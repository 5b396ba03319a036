"""What the fixtures hold of the published supernets, without TensorFlow."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tf.space import Arch, SearchSpace


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
