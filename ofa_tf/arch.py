"""A point of a space."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

from ofa_tf.stage import values

SCHEMA = 2  # of its file, and of that of a space


@dataclass(frozen=True)
class Arch:
    """One point of a space. `SearchSpace.arch` makes valid ones; entries of blocks that are left out are 0.

    Args:
        space: name of the space.
        resolution: height and width of the input, in pixels.
        depths: number of blocks of each stage.
        kernels: kernel size of each block of the deepest network.
        expands: expand ratio of each block of the deepest network.
        channels: for each stream with a choice of channels (`SearchSpace.elastic_streams`) the index of the choice,
            from 0, the fewest.

    Examples:
        >>> arch = ofa.get_space("tiny").smallest()
        >>> arch.depths, arch.kernels, arch.expands
        ((1, 1, 1), (3, 0, 3, 0, 3, 0), (3, 0, 3, 0, 3, 0))
        >>> print(arch)
        24 px | 3x3 | 3x3 | 3x3
    """

    space: str
    resolution: int
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[float, ...]
    channels: tuple[int, ...] = ()

    @property
    def values(self) -> tuple[float, ...]:
        """All that is chosen, in the order of the genes; 0 for blocks left out."""
        return (self.resolution, *self.depths, *self.kernels, *self.expands, *self.channels)

    def to_document(self) -> dict[str, Any]:
        """The arch as JSON values, without channels where there is no choice of them."""
        document = values(self)
        if not self.channels:
            del document["channels"]
        return document

    def __str__(self) -> str:
        """Such as `32 px | 7x6 3x4 | 5x3 | channels 0 2`: per stage, kernel x expand ratio of each block."""
        used = (f"{kernel}x{expand:g}" for kernel, expand in zip(self.kernels, self.expands, strict=True) if kernel)
        stages = (" ".join(islice(used, depth)) for depth in self.depths)
        channels = [f"channels {' '.join(map(str, self.channels))}"] if self.channels else []
        return " | ".join([f"{self.resolution} px", *stages, *channels])
