"""A search space at a glance: `ofa-tf space show`. What `space suggest` does is in `space_suggest`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.formatting import milliseconds
from ofa_tf.project.arguments import required, whole
from ofa_tf.search.file_size import size_costs
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.spaces import get_space

CLASSES = 10
MOST_CLASSES = 100_000
PRECISION = "int8"  # of the files whose sizes and latencies are told


@dataclass(frozen=True)
class SpaceEnd:
    """The smallest or the largest subnet of a space.

    Args:
        arch: the subnet.
        n_macs: multiply-accumulates for one image.
        n_params: trainable parameters.
        predicted_bytes: predicted size of its int8 file.
        latency_ms: latency of its int8 file on a device; None where none was asked for.
    """

    arch: Arch
    n_macs: int
    n_params: int
    predicted_bytes: int
    latency_ms: float | None = None

    def __str__(self) -> str:
        """Such as `0.64 M MACs, 75 kB, 0.1 ms`."""
        latency = "" if self.latency_ms is None else f", {milliseconds(self.latency_ms)}"
        return f"{self.n_macs / 1e6:.2f} M MACs, {self.predicted_bytes / 1e3:.0f} kB{latency}"

    def to_document(self) -> dict[str, Any]:
        """The subnet as JSON values."""
        return {**self.__dict__, "arch": self.arch.to_document()}


@dataclass(frozen=True, repr=False)
class SpaceDescription:
    """A space, and its smallest and largest subnet.

    Args:
        space: the space.
        n_classes: outputs of the classifiers that the figures include.
        smallest: its subnet with the least of everything.
        largest: its subnet with the most of everything.
        device: whose latencies the two have, with how they are known, such as "host (int8, measured)"; None for none.
        path: the file that the space was written to; None for none.
    """

    space: SearchSpace
    n_classes: int
    smallest: SpaceEnd
    largest: SpaceEnd
    device: str | None = None
    path: Path | None = None

    def __repr__(self) -> str:
        ends = f"{self.smallest} to {self.largest}"
        on = "" if self.device is None else f" on {self.device}"
        return f"SpaceDescription({self.space.name}: {self.n_subnets:,} subnets, {ends}{on})"

    @property
    def n_subnets(self) -> int:
        """Number of different subnets at each resolution."""
        return self.space.size()

    @property
    def channels(self) -> dict[str, tuple[int, ...]]:
        """The channels that stem, first block, each stage and head choose from, with the width multiplier."""
        return {stream.name: stream.channels for stream in self.space.streams[1:]}

    def with_latencies(self, device: str, smallest_ms: float, largest_ms: float) -> "SpaceDescription":
        """The description with the latencies of the two subnets on a device."""
        smallest, largest = replace(self.smallest, latency_ms=smallest_ms), replace(self.largest, latency_ms=largest_ms)
        return replace(self, smallest=smallest, largest=largest, device=device)

    def to_document(self) -> dict[str, Any]:
        """The description as JSON values."""
        return {
            "space": self.space.to_document(),
            "n_classes": self.n_classes,
            "n_subnets": self.n_subnets,
            "device": self.device,
            "smallest": self.smallest.to_document(),
            "largest": self.largest.to_document(),
            "file": None if self.path is None else str(self.path),
        }


def describe_space(space: str | Path | SearchSpace, classes: int = CLASSES) -> SpaceDescription:
    """What can be chosen in a space, and the cost of its smallest and largest subnet.

    Args:
        space: a space, the name of a registered one, or a JSON file.
        classes: number of classes to distinguish.

    Raises:
        SpaceError: no such space, or one that breaks a rule.
        FormatError: the file is not a space.

    Examples:
        >>> ofa.describe_space("tiny")
        SpaceDescription(tiny: 729,000 subnets, 0.64 M MACs, 75 kB to 5.33 M MACs, 337 kB)
    """
    n_classes = required("classes", whole, classes, 2, MOST_CLASSES)
    found = space if isinstance(space, SearchSpace) else get_space(str(space))
    archs = [found.smallest(), found.largest()]
    sizes = size_costs(found, n_classes, PRECISION)(found.encode(archs))
    ends = []
    for arch, size_bytes in zip(archs, sizes, strict=True):
        blocks = walk(found, arch, n_classes)
        ends.append(SpaceEnd(arch, count_macs(blocks), count_params(blocks), round(float(size_bytes))))
    smallest, largest = ends
    return SpaceDescription(found, n_classes, smallest, largest)
