"""Latency tables in the format that the authors of Once-for-All published, and a workdir of their network."""

import dataclasses
from pathlib import Path
from typing import Any

from ofa_tf.latency.table import distinct_blocks
from ofa_tf.spaces import MOBILENET_V3

RESOLUTIONS = (160, 192)
SPACE = dataclasses.replace(MOBILENET_V3, width_mult=1.2, padding="symmetric", resolutions=tuple(range(160, 225, 4)))
N_CLASSES = 1000


def published_table(resolution: int) -> dict[str, Any]:
    """Every block at one resolution; latencies proportional to MACs."""
    from ofa_tf.zoo.note10 import published_key

    blocks = distinct_blocks(SPACE, [resolution], N_CLASSES).values()
    return {published_key(block): {"count": 9, "mean": block.n_macs / 1e7, "std": 0.1} for block in blocks}


def wide_workdir(folder: Path) -> Path:
    """A workdir without weights, which neither a table nor a search needs."""
    from ofa_tf.data import Preprocessing
    from ofa_tf.project.workdir import Config, Workdir
    from ofa_tf.training.recipe import RECIPES
    from ofa_tf.zoo import catalog, imagenet

    pixels = Preprocessing(catalog.IMAGENET_MEAN, catalog.IMAGENET_STD)
    Workdir(folder).create(Config(SPACE, None, imagenet.class_names(), pixels, RECIPES["imagenet"], 0))
    return folder
