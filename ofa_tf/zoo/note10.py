"""The published latency tables of the Samsung Note10, and those of other devices in the same format.

A file covers one resolution: a mapping from the name of a block to `count`, `mean` and `std`, as YAML or JSON.
"""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ofa_tf.blocks import Block
from ofa_tf.errors import FormatError
from ofa_tf.formatting import shown
from ofa_tf.latency.table import LatencyTable, distinct_blocks
from ofa_tf.reading import open_regular, read_regular
from ofa_tf.space import PADDINGS
from ofa_tf.spaces import MOBILENET_V3
from ofa_tf.zoo.catalog import NOTE10
from ofa_tf.zoo.imagenet import N_CLASSES

MAX_BYTES = 1 << 20
MOST = 1e12  # of a number in a table
SUFFIXES = (".yaml", ".yml", ".json")
BLOCK = re.compile(rb"\w-input:\d+x\d+x\d+-output:\d")  # in the name of every block, but in no table of ours


def is_published(path: str | os.PathLike) -> bool:
    """Whether a file, whatever its name, has blocks named as in the published tables."""
    try:
        with open_regular(path, "YAML") as file:
            return BLOCK.search(file.read(MAX_BYTES)) is not None
    except (FormatError, OSError):
        return False


def published_key(block: Block) -> str:
    """The name of a block in the published tables."""
    shape_in = f"input:{block.in_size}x{block.in_size}x{block.in_channels}"
    shape_out = f"output:{block.out_size}x{block.out_size}x{block.out_channels}"
    if block.name == "classifier":
        return f"Logits-{shape_in}-output:{block.out_channels}"
    names = {"stem": "Conv", "head": "Conv_1", "pool": "AvgPool2D", "feature": "Conv_2"}
    if block.name in names:
        return f"{names[block.name]}-{shape_in}-{shape_out}"
    return (
        f"expanded_conv-{shape_in}-{shape_out}-expand:{block.mid_channels}-kernel:{block.kernel}"
        f"-stride:{block.stride}-idskip:{int(block.skip)}-se:{int(block.se_channels > 0)}"
        f"-hs:{int(block.activation == 'hard_swish')}"
    )


def read_note10(path: str | os.PathLike) -> LatencyTable:
    """Reads one published table, which is of one resolution.

    The published names do not tell how convolutions pad; the entries stand under the keys of both paddings.

    Args:
        path: the file.

    Raises:
        FormatError: not such a table; names the entry.
    """
    keys = _our_keys()
    entries: dict[str, dict[str, float]] = {}
    for name, statistics in _read_mapping(Path(path)).items():
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


@lru_cache(1)
def _our_keys() -> dict[str, set[str]]:
    """Our table keys of each published block name, for every resolution and both paddings."""
    keys: dict[str, set[str]] = {}
    for padding in PADDINGS:
        space = dataclasses.replace(MOBILENET_V3, width_mult=NOTE10.width_mult, padding=padding)
        for key, block in distinct_blocks(space, space.resolutions, N_CLASSES).items():
            keys.setdefault(published_key(block), set()).add(key)
    return keys


def _read_mapping(path: Path) -> dict[str, Any]:
    content = read_regular(path, "YAML", MAX_BYTES)
    try:
        document = _parse(path, content)
    except FormatError:
        raise
    except Exception as error:  # PyYAML's constructor raises whatever the values of a file make it raise
        raise FormatError(f"{path} is not a YAML file: {' '.join(str(error).split())[:200]}.") from error
    if not isinstance(document, dict) or not document:
        raise FormatError(f"{path} must hold a mapping from blocks to latencies.")
    return document


def _parse(path: Path, content: bytes) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(content)  # YAML takes most of JSON, but not 1e-05 for a number
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, loader)):
        raise FormatError(f"{path} has aliases, which no published table has.")  # they may unfold without an end
    return yaml.load(content, loader)


def _entry(statistics: Any, where: str) -> dict[str, float]:
    if not isinstance(statistics, dict) or set(statistics) != {"mean", "std", "count"}:
        raise FormatError(f"{where} must have `mean`, `std` and `count`, and nothing else.")
    for name, value in statistics.items():
        least = 1 if name == "count" else 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= MOST:
            raise FormatError(f"{where} has the {name} {shown(value)}, which is not a number from {least} to {MOST:g}.")
    return {"mean_ms": statistics["mean"], "std_ms": statistics["std"], "runs": statistics["count"]}
