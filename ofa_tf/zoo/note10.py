"""The published latency tables of the Samsung Note10, and the published accuracy predictor."""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.blocks import Block
from ofa_tf.errors import FormatError
from ofa_tf.latency.table import LatencyTable, distinct_blocks
from ofa_tf.space import PADDINGS, SearchSpace
from ofa_tf.spaces import MOBILENET_V3
from ofa_tf.zoo.catalog import NOTE10
from ofa_tf.zoo.imagenet import N_CLASSES
from ofa_tf.zoo.torch_file import state_dict

MAX_BYTES = 1 << 20
# What the eight columns of the resolution stand for.
PREDICTOR_RESOLUTIONS = tuple(range(112, 225, 16))


def published_key(block: Block) -> str:
    """The name of a block in the published tables."""
    shape_in = f"input:{block.in_size}x{block.in_size}x{block.in_channels}"
    shape_out = f"output:{block.out_size}x{block.out_size}x{block.out_channels}"
    if block.kind == "mbconv":
        return (
            f"expanded_conv-{shape_in}-{shape_out}-expand:{block.mid_channels}-kernel:{block.kernel}"
            f"-stride:{block.stride}-idskip:{int(block.skip)}-se:{int(block.se_channels > 0)}"
            f"-hs:{int(block.activation == 'hard_swish')}"
        )
    if block.name == "classifier":
        return f"Logits-{shape_in}-output:{block.out_channels}"
    names = {"stem": "Conv", "head": "Conv_1", "pool": "AvgPool2D", "feature": "Conv_2"}
    return f"{names[block.name]}-{shape_in}-{shape_out}"


def read_note10(path: str | os.PathLike) -> LatencyTable:
    """Reads one published table, which is of one resolution.

    The published names do not tell how convolutions pad; the entries stand under the keys of both paddings.

    Args:
        path: the YAML file.

    Raises:
        FormatError: not such a table; names the entry.
    """
    keys = _our_keys()
    entries: dict[str, dict[str, float]] = {}
    for name, statistics in _read_yaml(Path(path)).items():
        if name not in keys:
            raise FormatError(f"{path} has the block {name!r}, which no subnet of {NOTE10.space} has.")
        entries.update(dict.fromkeys(keys[name], _entry(statistics, f"{path}, entry {name!r},")))
    return LatencyTable(
        device={"name": NOTE10.name, "model": "Samsung Galaxy Note10"},
        runtime={"name": "tflite", "version": "unknown", "threads": "unknown", "delegate": "none"},
        precision=NOTE10.precision,
        source="imported",
        entries=entries,
        statistic="mean_ms",
    )


def merge_note10(tables: Sequence[LatencyTable]) -> LatencyTable:
    """One table of several resolutions.

    Blocks that do not depend on the resolution (the last two layers) were measured once for each: what stands for them
    is the mean over all runs. A sum therefore differs from that of the table of its resolution by their difference.

    Args:
        tables: as from `read_note10`, at least one.
    """
    entries: dict[str, dict[str, float]] = {}
    for key in dict.fromkeys(key for table in tables for key in table.entries):
        found = [table.entries[key] for table in tables if key in table.entries]
        runs = np.array([entry["runs"] for entry in found])
        means, stds = (np.array([entry[name] for entry in found]) for name in ("mean_ms", "std_ms"))
        mean = np.average(means, weights=runs)
        variance = np.average(stds**2 + (means - mean) ** 2, weights=runs)
        entries[key] = {"mean_ms": float(mean), "std_ms": float(np.sqrt(variance)), "runs": int(runs.sum())}
    return dataclasses.replace(tables[0], entries=entries)


def _our_keys() -> dict[str, set[str]]:
    """Our table keys of each published block name, for every resolution and both paddings."""
    keys: dict[str, set[str]] = {}
    for padding in PADDINGS:
        space = dataclasses.replace(MOBILENET_V3, width_mult=NOTE10.width_mult, padding=padding)
        for key, block in distinct_blocks(space, space.resolutions, N_CLASSES).items():
            keys.setdefault(published_key(block), set()).add(key)
    return keys


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FormatError(f"{path} is larger than {MAX_BYTES} bytes, which no published table is.")
        document = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not a YAML file: {' '.join(str(error).split())}.") from None
    if not isinstance(document, dict) or not document:
        raise FormatError(f"{path} must hold a mapping from blocks to latencies.")
    return document


def _entry(statistics: Any, where: str) -> dict[str, float]:
    if not isinstance(statistics, dict) or set(statistics) != {"mean", "std", "count"}:
        raise FormatError(f"{where} must have `mean`, `std` and `count`, and nothing else.")
    for name, value in statistics.items():
        least = 1 if name == "count" else 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
            raise FormatError(f"{where} has the {name} {value!r}, which is not a number of at least {least}.")
    return {"mean_ms": statistics["mean"], "std_ms": statistics["std"], "runs": statistics["count"]}


def read_published_predictor(path: str | os.PathLike, space: SearchSpace = MOBILENET_V3) -> Predictor:
    """Reads the published accuracy predictor: four dense layers on the one-hot arch, for resolutions 112 + 16 n.

    Args:
        path: the checkpoint, or an `.npz` file of the same arrays.
        space: the space that its archs are of; it has 20 blocks, three kernels and three expand ratios.

    Raises:
        FormatError: not a checkpoint of such a network, or a space of another shape.
    """
    path = Path(path)
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except Exception as error:  # NumPy and zipfile raise some ten kinds for broken files
            raise FormatError(f"{path} is not an array file: {error}.") from error
    else:
        arrays = state_dict(path)
    order = sorted({int(name.split(".")[0]) for name in arrays if name.split(".")[0].isdigit()})
    expected = {f"{index}.{part}" for index in order for part in ("weight", "bias")}
    if set(arrays) != expected or len(order) < 2:
        raise FormatError(f"{path} is not the published predictor: it holds {sorted(arrays)[:4]} and so on.")
    n_inputs = space.n_blocks * (len(space.kernels) + len(space.expands)) + len(PREDICTOR_RESOLUTIONS)
    layers = []
    for index in order:
        weights, biases = arrays[f"{index}.weight"], arrays[f"{index}.bias"]
        if weights.ndim != 2 or weights.shape[1] != n_inputs or biases.shape != weights.shape[:1]:
            raise FormatError(f"{path}: layer {index} has the shape {weights.shape}; its input has {n_inputs} numbers.")
        layers.append((np.ascontiguousarray(weights.T, np.float32), biases.astype(np.float32)))
        n_inputs = len(biases)
    if n_inputs != 1:
        raise FormatError(f"{path} ends in {n_inputs} numbers, not in an accuracy.")
    return Predictor(space, PREDICTOR_RESOLUTIONS, (tuple(layers),))
