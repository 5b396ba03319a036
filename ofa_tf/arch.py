"""A point of a space."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ofa_tf import rules
from ofa_tf.stage import Stream


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
        document = rules.values(self)
        if not self.channels:
            del document["channels"]
        return document

    def __str__(self) -> str:
        """Such as `32 px | 7x6 3x4 | 5x3 | channels 0 2`: per stage, kernel x expand ratio of each block."""
        used = (f"{kernel}x{expand:g}" for kernel, expand in zip(self.kernels, self.expands, strict=True) if kernel)
        stages = (" ".join(islice(used, depth)) for depth in self.depths)
        channels = [f"channels {' '.join(map(str, self.channels))}"] if self.channels else []
        return " | ".join([f"{self.resolution} px", *stages, *channels])


def require_channel_choices(channels: Any, streams: Sequence[Stream], space: str) -> None:
    """Refuses channels that are not an index for each of the elastic streams of a space, saying which are meant."""
    good = isinstance(channels, list | tuple) and all(rules.is_int(item) for item in channels)
    good = good and len(channels) == len(streams)
    good = good and all(0 <= index < len(of.channels) for index, of in zip(channels, streams, strict=True))
    meant = ", ".join(f"{stream.name} from {list(stream.channels)}" for stream in streams)
    rule = f"a list of {len(streams)} indices, from 0, which choose the channels of {meant}"
    rules.require(good, "channels", channels, rule if meant else f"left out: `{space}` has no choice of channels")


def require_entries(name: str, value: Any, n: int, of: str = "integers") -> None:
    """Refuses what is not a list of `n` "integers" or "numbers"."""
    is_entry = rules.is_int if of == "integers" else rules.is_number
    good = isinstance(value, list | tuple) and all(is_entry(item) for item in value)
    rules.require(good and len(value) == n, name, value, f"a list of {n} {of}")
