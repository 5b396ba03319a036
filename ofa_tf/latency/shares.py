"""Where the time of a network goes, by a table."""

import numpy as np

from ofa_tf.blocks import walk
from ofa_tf.latency.table import LatencyTable
from ofa_tf.space import Arch, SearchSpace

TYPICAL_SUBNETS = 200


def time_shares(table: LatencyTable, space: SearchSpace, n_classes: int) -> dict[str, dict[str, float]]:
    """Milliseconds by part of the network, at the largest resolution that the table covers.

    Args:
        table: the table.
        space: the space.
        n_classes: number of outputs of the classifier.

    Returns:
        For the `smallest`, the `typical` (mean of random ones) and the `largest` subnet: part -> milliseconds. Parts
        are `stem`, `first`, `stage 1` and so on, `head`, and `rest`: what the calibration adds to a network as a whole.

    Raises:
        TableError: the table covers no resolution of the space.
    """
    resolution = table.require_resolutions(space, n_classes)[-1]
    codes = space.sample(np.random.default_rng(0), TYPICAL_SUBNETS)
    codes[:, 0] = space.resolutions.index(resolution)
    random = [parts_ms(table, space, arch, n_classes) for arch in space.decode(codes)]
    return {
        "smallest": parts_ms(table, space, space.smallest(resolution), n_classes),
        "typical": {part: float(np.mean([parts[part] for parts in random])) for part in random[0]},
        "largest": parts_ms(table, space, space.largest(resolution), n_classes),
    }


def parts_ms(table: LatencyTable, space: SearchSpace, arch: Arch, n_classes: int) -> dict[str, float]:
    """Milliseconds of one subnet by part, as `time_shares` has them; they add up to its predicted latency."""
    scale, per_block_ms, constant_ms = 1.0, 0.0, 0.0
    if table.calibration is not None:
        scale, per_block_ms = table.calibration.scale, table.calibration.per_block_ms
        constant_ms = table.calibration.constant_ms
    parts = dict.fromkeys(["stem", "first", *(f"stage {n + 1}" for n in range(len(space.stages))), "head"], 0.0)
    for block in walk(space, arch, n_classes):
        if block.slot >= 0:
            part = f"stage {space.block_stages[block.slot] + 1}"
        else:
            part = block.name if block.name in parts else "head"
        parts[part] += table.block_ms(block) * scale + per_block_ms * (block.slot >= 0)
    return {**parts, "rest": constant_ms}
