"""What spaces consist of: stages, streams and dimensions, and the rules for their values."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ofa_tf import rules
from ofa_tf.errors import SpaceError
from ofa_tf.kinds import KINDS
from ofa_tf.rules import Channels

ACTIVATIONS = ("relu", "relu6", "hard_swish")
DEFAULT_KIND = "mbconv"  # of a stage's blocks
# What schema 1 called the channels of a stage and of the blocks at both ends.
RENAMED = {"width": "channels"} | {f"{part}_width": f"{part}_channels" for part in ("stem", "first", "head", "feature")}


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
        rules.require_channels("channels", self.channels)
        rules.require(rules.is_int(self.stride) and self.stride in (1, 2), "stride", self.stride, "1 or 2")
        rules.require_choices("depths", self.depths, 1, 64)
        rules.require(self.activation in ACTIVATIONS, "activation", self.activation, f"one of {list(ACTIVATIONS)}")
        rules.require(isinstance(self.se, bool), "se", self.se, "true or false")
        kinds = [name for name, kind in KINDS.items() if kind.elastic]
        rules.require(self.kind in kinds, "kind", self.kind, f"one of {kinds}")
        if self.kernels is not None:
            rules.require_kernels(self.kernels)
        if self.expands is not None:
            rules.require_expands(self.expands)

    def check(self, where: str, kernels: tuple[int, ...], expands: tuple[float, ...], coupled: bool) -> None:
        """Refuses what the stage may not choose from.

        Args:
            where: the beginning of the message.
            kernels: its kernel sizes, its own or the space's.
            expands: its expand ratios, likewise.
            coupled: whether the space is.

        Raises:
            SpaceError: says what is wrong.
        """
        kind = KINDS[self.kind]
        if message := kind.refuses(kernels, expands):
            raise SpaceError(f"{where}: {message}")
        if self.se and not kind.squeezes:
            raise SpaceError(f"{where}: blocks of the kind {self.kind!r} have no squeeze-and-excite (`se`).")
        if coupled and len(self.depths) != len(expands):
            raise SpaceError(
                f"{where}: `coupled` needs as many `depths` (={list(self.depths)}) as `expands` (={list(expands)}), "
                "because the n-th of both are chosen together."
            )
        if coupled and len(kernels) > 1:
            raise SpaceError(f"{where}: `coupled` needs one kernel size, not `kernels` (={list(kernels)}).")

    def to_document(self) -> dict[str, Any]:
        """The stage as JSON values, without the default kind and what it takes from the space."""
        document = rules.values(self)
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
    choices: tuple[tuple[Any, ...], ...]
    per_block: bool = False

    @cached_property
    def size(self) -> int:
        """The most choices that any of its genes has."""
        return max(map(len, self.choices))

    def chosen(self, codes: np.ndarray) -> np.ndarray:
        """The values that codes of shape (archs, genes) choose: shape (archs, genes of this dimension)."""
        indices = codes[:, self.genes].T
        return np.stack([np.take(choices, of) for choices, of in zip(self.choices, indices, strict=True)], axis=1)


def renamed(document: Any) -> Any:
    """A document of schema 1 with the names of today."""
    if not isinstance(document, Mapping):
        return document
    return {RENAMED.get(key, key): value for key, value in document.items()}
