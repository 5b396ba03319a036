"""The contents of a report: everything that a workdir holds, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ofa_tf.accuracy.collect import Pairs
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.costs import ArchCosts
from ofa_tf.energy import Cost
from ofa_tf.latency.table import LatencyTable
from ofa_tf.report.curves import Curve
from ofa_tf.search import Front
from ofa_tf.space import Arch
from ofa_tf.training.ledger import StageRecord
from ofa_tf.training.setup import Setup


@dataclass(frozen=True)
class DeviceView:
    """A latency table, and what it says about the workdir's space.

    Args:
        path: file of the table.
        table: the table.
        costs: predicted latency of every arch; None where the table covers no resolution of the space.
        breakdown: of the smallest and the largest subnet at the largest covered resolution, milliseconds by part.
        front: the best predicted accuracy at every latency; None without a predictor that knows these resolutions.
    """

    path: Path
    table: LatencyTable
    costs: ArchCosts | None
    breakdown: Mapping[str, Mapping[str, float]]
    front: Front | None


@dataclass(frozen=True)
class ExportView:
    """An export.

    Args:
        name: of its folder.
        arch: its subnet.
        manifest: what is known of it.
        pictures: of what it gets wrong, PNG files by name, as far as the page has room for them.
        left_out: names of those that it has no room for.
    """

    name: str
    arch: Arch
    manifest: Mapping[str, Any]
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    left_out: Sequence[str] = ()


@dataclass(frozen=True)
class MemoryPoint:
    """A subnet on the front of a microcontroller; all predicted.

    Args:
        arch: the subnet.
        ram_bytes: its arena in TensorFlow Lite Micro.
        accuracy: 0 to 1.
        size_bytes: its int8 file.
    """

    arch: Arch
    ram_bytes: int
    accuracy: float
    size_bytes: int


@dataclass(frozen=True)
class Contents:
    """Everything a report shows.

    Args:
        path: of the workdir, as the user named it.
        data: the data spec; None where it has no images.
        config: what it was made with.
        stages: those that were begun.
        curves: of each stage, the logged scalars by name.
        pairs: evaluated subnets, not all where there are many, evenly spread.
        n_pairs: how many were evaluated in all.
        fitted: the predictor, or None.
        devices: a latency table each.
        exports: by name.
        costs: of work other than the stages, by what it was.
        memory_fronts: the front over RAM of each microcontroller that there is an export for.
    """

    path: Path
    data: str | None
    config: Setup
    stages: Mapping[str, StageRecord]
    curves: Mapping[str, Mapping[str, Curve]]
    pairs: Pairs
    n_pairs: int
    fitted: FittedPredictor | None
    devices: Sequence[DeviceView]
    exports: Sequence[ExportView]
    costs: Mapping[str, Cost] = field(default_factory=dict)
    memory_fronts: Mapping[str, Sequence[MemoryPoint]] = field(default_factory=dict)
