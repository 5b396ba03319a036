"""Search spaces and their points.

A space says what can be chosen (Cai et al., "Once-for-All", ICLR 2020, section 3.1): the number of blocks of every
stage, the kernel size and expand ratio of every block, and the input resolution of the whole network. An arch is one
choice. Work on many archs at once uses codes: integer matrices of shape (archs, genes), one row per arch, with the
columns `[resolution, depth of each stage, kernel of each block, expand ratio of each block]`, each an index into the
ascending tuple of choices. The genes of blocks that the depth leaves out are 0, so equal archs have equal codes.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from math import prod
from operator import mul
from typing import Any

import numpy as np

from ofa_tf.errors import SpaceError
from ofa_tf.jsonio import check_keys, from_document
from ofa_tf.kinds import KINDS

ACTIVATIONS = ("relu", "relu6", "hard_swish")
PADDINGS = ("same", "symmetric")
MAX_WIDTH = 65536
DEFAULT_KIND = "mbconv"  # of a stage's blocks


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _require(condition: bool, name: str, value: Any, rule: str) -> None:
    if not condition:
        shown = list(value) if isinstance(value, tuple) else value
        raise SpaceError(f"`{name}` (={shown!r}) must be {rule}.")


def _require_width(name: str, value: Any, smallest: int = 1) -> None:
    good = _is_int(value) and smallest <= value <= MAX_WIDTH
    _require(good, name, value, f"an integer from {smallest} to {MAX_WIDTH}")


def _require_choices(name: str, value: Any, smallest: int, largest: int) -> None:
    good = isinstance(value, tuple) and len(value) > 0
    good = good and all(_is_int(item) and smallest <= item <= largest for item in value)
    rule = f"an ascending list of integers from {smallest} to {largest}"
    _require(good and list(value) == sorted(set(value)), name, value, rule)


@dataclass(frozen=True)
class Stage:
    """One elastic stage. Its first block changes width and resolution; the others keep them.

    Args:
        width: output channels, before the space's width multiplier.
        stride: stride of the first block, 1 or 2.
        depths: the numbers of blocks to choose from, ascending.
        activation: "relu", "relu6" or "hard_swish".
        se: whether its blocks have squeeze-and-excite.
        kind: the kind of its blocks, an elastic one of `kinds.KINDS`.

    Examples:
        >>> ofa.Stage(width=24, stride=2, depths=(1, 2), activation="relu6").depths
        (1, 2)
    """

    width: int
    stride: int
    depths: tuple[int, ...]
    activation: str
    se: bool = False
    kind: str = DEFAULT_KIND

    def __post_init__(self):
        _require_width("width", self.width)
        _require(_is_int(self.stride) and self.stride in (1, 2), "stride", self.stride, "1 or 2")
        _require_choices("depths", self.depths, 1, 64)
        _require(self.activation in ACTIVATIONS, "activation", self.activation, f"one of {list(ACTIVATIONS)}")
        _require(isinstance(self.se, bool), "se", self.se, "true or false")
        kinds = [name for name, kind in KINDS.items() if kind.elastic]
        _require(self.kind in kinds, "kind", self.kind, f"one of {kinds}")

    def to_document(self) -> dict[str, Any]:
        """The stage as JSON values, without the default kind: it was the only one when there was no such key."""
        document = {**dataclasses.asdict(self), "depths": list(self.depths)}
        if self.kind == DEFAULT_KIND:
            del document["kind"]
        return document


@dataclass(frozen=True)
class Dimension:
    """Something that can be chosen: its choices, and where codes hold them.

    Args:
        name: "resolution", "depth", "kernel" or "expand".
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


@dataclass(frozen=True)
class Arch:
    """One point of a space. `SearchSpace.arch` makes valid ones; entries of blocks that are left out are 0.

    Args:
        space: name of the space.
        resolution: height and width of the input, in pixels.
        depths: number of blocks of each stage.
        kernels: kernel size of each block of the deepest network.
        expands: expand ratio of each block of the deepest network.

    Examples:
        >>> arch = ofa.get_space("tiny").smallest()
        >>> arch
        Arch(space='tiny', resolution=24, depths=(1, 1, 1), kernels=(3, 0, 3, 0, 3, 0), expands=(3, 0, 3, 0, 3, 0))
        >>> print(arch)
        24 px | 3x3 | 3x3 | 3x3
    """

    space: str
    resolution: int
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[int, ...]

    @property
    def values(self) -> tuple[int, ...]:
        """All that is chosen, in the order of the genes; 0 for blocks left out."""
        return (self.resolution, *self.depths, *self.kernels, *self.expands)

    def to_document(self) -> dict[str, Any]:
        """The arch as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self.__dict__.items()}

    def __str__(self) -> str:
        """Such as `32 px | 7x6 3x4 | 5x3`: per stage, kernel x expand ratio of each block."""
        used = (f"{kernel}x{expand}" for kernel, expand in zip(self.kernels, self.expands, strict=True) if kernel)
        return " | ".join([f"{self.resolution} px", *(" ".join(islice(used, depth)) for depth in self.depths)])


@dataclass(frozen=True)
class SearchSpace:
    """The frozen description of all choices.

    Widths are given before `width_mult`; `blocks.walk` applies it and rounds to multiples of 8.

    Args:
        name: its name, which its archs carry.
        stem_width: channels of the first 3x3 convolution.
        stem_stride: its stride, 1 or 2.
        stem_activation: its activation.
        first_width: channels of the first block, which is not elastic (3x3, no expansion).
        first_activation: its activation.
        stages: the elastic stages.
        kernels: kernel sizes to choose from: ascending, odd, each 2 more than the one before.
        expands: expand ratios to choose from, ascending, at least 2.
        resolutions: input sizes in pixels to choose from, ascending.
        head_width: channels of the last 1x1 convolution, before the global average.
        feature_width: outputs of the dense layer after the global average; 0 for no such layer.
        head_activation: activation of both.
        width_mult: multiplier of all widths.
        padding: "same" (TensorFlow's) or "symmetric" (k//2 on each side, as in PyTorch).
        bn_epsilon: epsilon of every batch norm.
        first_skip: whether the first block adds its input to its output where both have the same width.

    Examples:
        >>> space = ofa.get_space("tiny")
        >>> space.size()
        729000
        >>> codes = space.sample(np.random.default_rng(0), 3)
        >>> space.decode(codes)[0].resolution in space.resolutions
        True
    """

    name: str
    stem_width: int
    stem_stride: int
    stem_activation: str
    first_width: int
    first_activation: str
    stages: tuple[Stage, ...]
    kernels: tuple[int, ...]
    expands: tuple[int, ...]
    resolutions: tuple[int, ...]
    head_width: int
    feature_width: int
    head_activation: str
    width_mult: float = 1.0
    padding: str = "same"
    bn_epsilon: float = 1e-5
    first_skip: bool = True

    def __post_init__(self):
        good = isinstance(self.name, str) and self.name.isascii() and self.name.isidentifier()
        _require(good, "name", self.name, "a name made of a-z, 0-9 and _")
        for name in ("stem_width", "first_width", "head_width"):
            _require_width(name, getattr(self, name))
        _require_width("feature_width", self.feature_width, smallest=0)
        _require(_is_int(self.stem_stride) and self.stem_stride in (1, 2), "stem_stride", self.stem_stride, "1 or 2")
        for name in ("stem_activation", "first_activation", "head_activation"):
            _require(getattr(self, name) in ACTIVATIONS, name, getattr(self, name), f"one of {list(ACTIVATIONS)}")
        good = (
            isinstance(self.stages, tuple) and len(self.stages) > 0 and all(isinstance(s, Stage) for s in self.stages)
        )
        _require(good, "stages", self.stages, "a list of at least one stage")
        _require_choices("kernels", self.kernels, 3, 31)
        steps = all(b - a == 2 for a, b in zip(self.kernels, self.kernels[1:], strict=False))
        _require(self.kernels[0] % 2 == 1 and steps, "kernels", self.kernels, "odd and consecutive, such as [3, 5, 7]")
        _require_choices("expands", self.expands, 2, 64)
        _require_choices("resolutions", self.resolutions, 8, 8192)
        for name, limit in (("width_mult", 100), ("bn_epsilon", 1)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            _require(number and 0 < value < limit, name, value, f"a number between 0 and {limit}")
        _require(self.padding in PADDINGS, "padding", self.padding, f"one of {list(PADDINGS)}")
        _require(isinstance(self.first_skip, bool), "first_skip", self.first_skip, "true or false")

    # --- shape of the code -------------------------------------------------------------------------------------

    @property
    def n_stages(self) -> int:
        return len(self.stages)

    @cached_property
    def block_stages(self) -> tuple[int, ...]:
        """Stage of each block slot."""
        return tuple(index for index, stage in enumerate(self.stages) for _ in range(stage.depths[-1]))

    @cached_property
    def block_positions(self) -> tuple[int, ...]:
        """Position of each block slot within its stage, from 0."""
        return tuple(position for stage in self.stages for position in range(stage.depths[-1]))

    @property
    def n_blocks(self) -> int:
        """Block slots: the blocks of the deepest network."""
        return len(self.block_stages)

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """All that can be chosen, in the order of the genes. Work on codes loops over these: a new one is searched."""
        per_block = {"kernel": (self.kernels,) * self.n_blocks, "expand": (self.expands,) * self.n_blocks}
        choices = {"resolution": (self.resolutions,), "depth": tuple(s.depths for s in self.stages), **per_block}
        ends = accumulate(map(len, choices.values()))
        return tuple(
            Dimension(name, slice(end - len(of), end), of, name in per_block)
            for (name, of), end in zip(choices.items(), ends, strict=True)
        )

    @cached_property
    def block_dimensions(self) -> tuple[Dimension, ...]:
        """What can be chosen for each block, in the order of the genes: an option of a block is one choice of each."""
        return tuple(dimension for dimension in self.dimensions if dimension.per_block)

    @cached_property
    def _gene_choices(self) -> tuple[tuple[int, ...], ...]:
        return tuple(choices for dimension in self.dimensions for choices in dimension.choices)

    @cached_property
    def gene_sizes(self) -> np.ndarray:
        """Number of choices of each gene, shape (genes,)."""
        return np.array([len(choices) for choices in self._gene_choices], np.int32)

    @property
    def n_genes(self) -> int:
        return len(self.gene_sizes)

    def _genes(self, name: str) -> slice:
        return next(dimension.genes for dimension in self.dimensions if dimension.name == name)

    @cached_property
    def depth_genes(self) -> slice:
        return self._genes("depth")

    @cached_property
    def kernel_genes(self) -> slice:
        return self._genes("kernel")

    @cached_property
    def expand_genes(self) -> slice:
        return self._genes("expand")

    @cached_property
    def _first_choice(self) -> np.ndarray:
        """The first of its stage's choices of a depth, which ascend, that uses a block slot: shape (blocks,)."""
        slots = zip(self.block_stages, self.block_positions, strict=True)
        return np.array([sum(depth <= position for depth in self.stages[stage].depths) for stage, position in slots])

    def size(self) -> int:
        """Exact number of different subnets, resolution not counted."""
        options = (prod(map(len, of)) for of in zip(*(d.choices for d in self.block_dimensions), strict=True))
        n_subnets = 1
        for stage in self.stages:
            of_depths = list(accumulate(islice(options, stage.depths[-1]), mul))
            n_subnets *= sum(of_depths[depth - 1] for depth in stage.depths)
        return n_subnets

    # --- one arch ------------------------------------------------------------------------------------------------

    def arch(self, resolution: int, depths: Sequence[int], kernels: Sequence[int], expands: Sequence[int]) -> Arch:
        """Makes a canonical arch of this space.

        Args:
            resolution: input size in pixels.
            depths: blocks per stage.
            kernels: kernel size per block slot; entries of blocks left out may be anything.
            expands: expand ratio per block slot; entries of blocks left out may be anything.

        Raises:
            SpaceError: a value is not among the space's choices; names the argument, the value and the choices.
        """
        lengths = {"depths": self.n_stages, "kernels": self.n_blocks, "expands": self.n_blocks}
        per_block = {"kernels": kernels, "expands": expands}
        for name, value in {"depths": depths, **per_block}.items():
            good = isinstance(value, list | tuple) and all(_is_int(item) for item in value)
            _require(good and len(value) == lengths[name], name, value, f"a list of {lengths[name]} integers")
        good = _is_int(resolution) and resolution in self.resolutions
        _require(good, "resolution", resolution, f"one of {list(self.resolutions)}")
        for depth, stage in zip(depths, self.stages, strict=True):
            _require(
                depth in stage.depths, "depths", tuple(depths), f"chosen from {[list(s.depths) for s in self.stages]}"
            )
        slots = zip(self.block_stages, self.block_positions, strict=True)
        active = [position < depths[stage] for stage, position in slots]
        for (name, value), dimension in zip(per_block.items(), self.block_dimensions, strict=True):
            in_use = zip(value, dimension.choices, active, strict=True)
            for choices in (choices for item, choices, used in in_use if used and item not in choices):
                _require(False, name, tuple(value), f"chosen from the space's {choices} for every block in use")
        return Arch(
            self.name,
            int(resolution),
            tuple(int(depth) for depth in depths),
            *(
                tuple(int(item) if used else 0 for item, used in zip(value, active, strict=True))
                for value in per_block.values()
            ),
        )

    def arch_from_document(self, document: Mapping[str, Any], where: str = "The arch") -> Arch:
        """Reads an arch from JSON values.

        Raises:
            FormatError: unknown or missing keys.
            SpaceError: an arch of another space, or values that are not choices.
        """
        check_keys(document, {"space", "resolution", "depths", "kernels", "expands"}, set(), where)
        if document["space"] != self.name:
            raise SpaceError(f"{where} is of the space {document['space']!r}, not of {self.name!r}.")
        return self.arch(*(document[key] for key in ("resolution", "depths", "kernels", "expands")))

    def largest(self, resolution: int | None = None) -> Arch:
        """The arch with the most of everything, at the largest or the given resolution."""
        return self._uniform(-1, resolution)

    def smallest(self, resolution: int | None = None) -> Arch:
        """The arch with the least of everything, at the smallest or the given resolution."""
        return self._uniform(0, resolution)

    def _uniform(self, choice: int, resolution: int | None) -> Arch:
        own, *others = ([choices[choice] for choices in dimension.choices] for dimension in self.dimensions)
        return self.arch(own[0] if resolution is None else resolution, *others)

    # --- many archs ----------------------------------------------------------------------------------------------

    def encode(self, archs: Arch | Iterable[Arch]) -> np.ndarray:
        """Codes of archs of this space: int32 of shape (archs, genes), or (genes,) for a single arch."""
        if isinstance(archs, Arch):
            return self.encode([archs])[0]
        rows = [
            [of.index(value) if value else 0 for of, value in zip(self._gene_choices, arch.values, strict=True)]
            for arch in archs
        ]
        return np.array(rows, np.int32).reshape(-1, self.n_genes)

    def decode(self, codes: np.ndarray) -> list[Arch]:
        """Archs of codes of shape (archs, genes)."""
        return [self.decode_one(code) for code in np.atleast_2d(codes)]

    def decode_one(self, code: np.ndarray) -> Arch:
        """The arch of one code of shape (genes,)."""
        values = [choices[index] for choices, index in zip(self._gene_choices, code, strict=True)]
        (resolution,), *others = (values[dimension.genes] for dimension in self.dimensions)
        return self.arch(resolution, *others)

    def active(self, codes: np.ndarray) -> np.ndarray:
        """Which block slots each arch uses: bool of shape (archs, blocks)."""
        return codes[:, self.depth_genes].take(self.block_stages, axis=1) >= self._first_choice

    def canonical(self, codes: np.ndarray) -> np.ndarray:
        """The codes with the genes of unused blocks set to 0."""
        active = self.active(codes)
        codes = codes.copy()
        for dimension in self.block_dimensions:
            codes[:, dimension.genes] *= active
        return codes

    def sample(self, rng: np.random.Generator, n: int, **open_choices: int | None) -> np.ndarray:
        """Draws archs, every gene uniformly and independently, as in the paper.

        Args:
            rng: the source of randomness.
            n: number of archs.
            **open_choices: `depth_choices`, `kernel_choices`, `expand_choices`: how many of the largest choices of that
                dimension may be drawn; None for all. 1 is only the largest.

        Returns:
            Canonical codes, int32 of shape (n, genes).

        Raises:
            SpaceError: a number of choices below 1.
        """
        lowest = self._lowest_genes(open_choices)
        return self.canonical(rng.integers(lowest, self.gene_sizes, (n, self.n_genes), dtype=np.int32))

    def lowest_code(self, **open_choices: int | None) -> np.ndarray:
        """Code of the smallest arch among those that `sample` draws with these arguments: int32 of shape (genes,)."""
        return self.canonical(self._lowest_genes(open_choices)[None])[0]

    def _lowest_genes(self, open_choices: Mapping[str, int | None]) -> np.ndarray:
        lowest = np.zeros(self.n_genes, np.int32)
        limited = {f"{dimension.name}_choices": dimension.genes for dimension in self.dimensions[1:]}
        if unknown := open_choices.keys() - limited.keys():
            raise TypeError(f"`{min(unknown)}` must be one of {list(limited)}.")
        for name, genes in limited.items():
            if (choices := open_choices.get(name)) is not None:
                _require(_is_int(choices) and choices >= 1, name, choices, "an integer of at least 1")
                lowest[genes] = np.maximum(self.gene_sizes[genes] - choices, 0)
        return lowest

    def mutate(self, codes: np.ndarray, rng: np.random.Generator, probability: float = 0.1) -> np.ndarray:
        """Redraws each gene with the given probability."""
        fresh = rng.integers(0, self.gene_sizes, codes.shape, dtype=np.int32)
        return self.canonical(np.where(rng.random(codes.shape) < probability, fresh, codes))

    def crossover(self, first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Takes each gene from one of two parents, row by row; all of shape (archs, genes)."""
        return self.canonical(np.where(rng.random(first.shape) < 0.5, first, second))

    # --- JSON ----------------------------------------------------------------------------------------------------

    def to_document(self) -> dict[str, Any]:
        """The space as JSON values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        document = {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
        document["stages"] = [stage.to_document() for stage in self.stages]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any], where: str = "The space") -> "SearchSpace":
        """Reads a space from JSON values.

        Raises:
            FormatError: unknown or missing keys.
            SpaceError: a value that breaks a rule.
        """
        check_keys(document, {"stages"}, {field.name for field in dataclasses.fields(cls)}, where)
        stages = document["stages"]
        if not isinstance(stages, list):
            raise SpaceError(f"`stages` (={stages!r}) must be a list of at least one stage.")
        parsed = [from_document(Stage, stage, f"{where}, stage {i + 1},") for i, stage in enumerate(stages)]
        return from_document(cls, {**document, "stages": parsed}, where)
