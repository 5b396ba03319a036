"""What spaces consist of: stages, streams and dimensions, and the rules for their values."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ofa_tf.errors import SpaceError
from ofa_tf.kinds import KINDS

ACTIVATIONS = ("relu", "relu6", "hard_swish")
MAX_CHANNELS = 65536
DEFAULT_KIND = "mbconv"  # of a stage's blocks
Channels = int | tuple[int, ...]


def is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def require(condition: bool, name: str, value: Any, rule: str) -> None:
    if not condition:
        shown = list(value) if isinstance(value, tuple) else value
        raise SpaceError(f"`{name}` (={shown!r}) must be {rule}.")


def is_number(value: Any) -> bool:
    return is_int(value) or isinstance(value, float)


def require_channels(name: str, value: Any, smallest: int = 1) -> None:
    """One number of channels, or choices of it."""
    if isinstance(value, tuple):
        good = len(value) > 0 and all(is_int(item) and 8 <= item <= MAX_CHANNELS and item % 8 == 0 for item in value)
        rule = f"an ascending list of multiples of 8 up to {MAX_CHANNELS}, or one integer"
        require(good and list(value) == sorted(set(value)), name, value, rule)
        return
    good = is_int(value) and smallest <= value <= MAX_CHANNELS
    require(good, name, value, f"an integer from {smallest} to {MAX_CHANNELS}")


def require_choices(name: str, value: Any, smallest: int, largest: int) -> None:
    good = isinstance(value, tuple) and len(value) > 0
    good = good and all(is_int(item) and smallest <= item <= largest for item in value)
    rule = f"an ascending list of integers from {smallest} to {largest}"
    require(good and list(value) == sorted(set(value)), name, value, rule)


def require_kernels(value: Any) -> None:
    require_choices("kernels", value, 1, 31)
    require(all(size % 2 for size in value), "kernels", value, "odd, such as [3, 5, 7]")


def require_expands(value: Any) -> None:
    good = isinstance(value, tuple) and len(value) > 0 and all(is_number(item) and 0 < item <= 64 for item in value)
    rule = "an ascending list of numbers above 0, at most 64"
    require(good and list(value) == sorted(set(value)), "expands", value, rule)


def values(described: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON values."""
    fields = {field.name: getattr(described, field.name) for field in dataclasses.fields(described)}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


@dataclass(frozen=True)
class Stage:
    """One elastic stage. Its first block changes channels and resolution; the others keep them.

    Args:
        channels: output channels, before the space's width multiplier; a list of choices, ascending multiples of 8,
            makes them elastic.
        stride: stride of the first block, 1 or 2.
        depths: the numbers of blocks to choose from, ascending.
        activation: "relu", "relu6" or "hard_swish".
        se: whether its blocks have squeeze-and-excite.
        kind: the kind of its blocks, an elastic one of `kinds.KINDS`.
        kernels: kernel sizes to choose from, odd and ascending; None for those of the space.
        expands: expand ratios to choose from, ascending; None for those of the space.

    Examples:
        >>> ofa.Stage(channels=24, stride=2, depths=(1, 2), activation="relu6").depths
        (1, 2)
        >>> ofa.Stage(channels=(16, 24), stride=1, depths=(1,), activation="relu6", expands=(1,)).channels
        (16, 24)
    """

    channels: Channels
    stride: int
    depths: tuple[int, ...]
    activation: str
    se: bool = False
    kind: str = DEFAULT_KIND
    kernels: tuple[int, ...] | None = None
    expands: tuple[float, ...] | None = None

    def __post_init__(self):
        require_channels("channels", self.channels)
        require(is_int(self.stride) and self.stride in (1, 2), "stride", self.stride, "1 or 2")
        require_choices("depths", self.depths, 1, 64)
        require(self.activation in ACTIVATIONS, "activation", self.activation, f"one of {list(ACTIVATIONS)}")
        require(isinstance(self.se, bool), "se", self.se, "true or false")
        kinds = [name for name, kind in KINDS.items() if kind.elastic]
        require(self.kind in kinds, "kind", self.kind, f"one of {kinds}")
        if self.kernels is not None:
            require_kernels(self.kernels)
        if self.expands is not None:
            require_expands(self.expands)

    def to_document(self) -> dict[str, Any]:
        """The stage as JSON values, without the default kind and what it takes from the space."""
        document = values(self)
        if self.kind == DEFAULT_KIND:
            del document["kind"]
        return {key: value for key, value in document.items() if value is not None}


@dataclass(frozen=True)
class Stream:
    """The tensor that one block or the blocks of a stage write, and the blocks after it read.

    Args:
        name: "image", "stem", "first", "stage1" and so on, or "head".
        channels: its channels to choose from, as they are built; ascending, but two choices may be rounded to the same.
    """

    name: str
    channels: tuple[int, ...]

    @property
    def elastic(self) -> bool:
        """Whether there is a choice, for which an arch has an entry and a code a gene."""
        return len(self.channels) > 1


@dataclass(frozen=True)
class Dimension:
    """Something that can be chosen: its choices, and where codes hold them.

    Args:
        name: "resolution", "depth", "kernel", "expand" or "channels"; the choices of channels are indices.
        genes: the columns of codes that hold its choices, as indices.
        choices: per gene, ascending.
        per_block: whether it has a gene for each block slot.
    """

    name: str
    genes: slice
    choices: tuple[tuple[int, ...], ...]
    per_block: bool = False

    @cached_property
    def size(self) -> int:
        """The most choices that any of its genes has."""
        return max(map(len, self.choices))

    def chosen(self, codes: np.ndarray) -> np.ndarray:
        """The values that codes of shape (archs, genes) choose: shape (archs, genes of this dimension)."""
        indices = codes[:, self.genes].T
        return np.stack([np.take(choices, of) for choices, of in zip(self.choices, indices, strict=True)], axis=1)
