"""Search spaces and their points.

A space says what can be chosen (Cai et al., "Once-for-All", ICLR 2020, section 3.1): the number of blocks of every
stage, the kernel size and expand ratio of every block, and the input resolution of the whole network. An arch is one
choice. Work on many archs at once uses codes: integer matrices of shape (archs, genes), one row per arch, with the
columns `[resolution, depth of each stage, kernel of each block, expand ratio of each block, channels of each elastic
stream]`, each an index into the ascending tuple of choices. The genes of blocks that the depth leaves out are 0, so
equal archs have equal codes.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice, pairwise
from math import prod
from operator import mul
from typing import Any

import numpy as np

from ofa_tf import rules
from ofa_tf.arch import Arch, require_channel_choices, require_entries
from ofa_tf.channels import divisible
from ofa_tf.errors import SpaceError
from ofa_tf.jsonio import check_keys, from_document
from ofa_tf.rules import MAX_CHANNELS, Channels
from ofa_tf.stage import ACTIVATIONS, Dimension, Stage, Stream, renamed

PADDINGS = ("same", "symmetric")


@dataclass(frozen=True)
class SearchSpace:
    """The frozen description of all choices.

    Channels are given before `width_mult`, with which they are multiplied and rounded to multiples of 8. Those of the
    stem, the first block, the head and each stage may be a list of choices: ascending multiples of 8.

    Args:
        name: its name, which its archs carry.
        stem_channels: channels of the first 3x3 convolution; 0 for no such convolution.
        stem_stride: its stride, 1 or 2.
        stem_activation: its activation.
        first_channels: channels of the first block (3x3, no expansion); 0 for no such block.
        first_activation: its activation.
        stages: the elastic stages.
        kernels: kernel sizes to choose from, odd and ascending, where a stage has none of its own.
        expands: expand ratios to choose from, ascending, where a stage has none of its own. At a ratio of 1 there is no
            expansion convolution, unless the same stage offers larger ones.
        resolutions: input sizes in pixels to choose from, ascending.
        head_channels: channels of the last 1x1 convolution, before the global average; 0 for no such convolution.
        feature_channels: outputs of the dense layer after the global average; 0 for no such layer.
        head_activation: activation of both.
        width_mult: multiplier of all channels; a list of choices, ascending, makes all of them elastic, each on its
            own, but for `feature_channels`.
        padding: "same" (TensorFlow's) or "symmetric" (k//2 on each side, as in PyTorch).
        bn_epsilon: epsilon of every batch norm.
        first_skip: whether the first block adds its input to its output where both have the same channels.
        first_depth: number of blocks like the first one, which follow each other.
        coupled: whether one choice per stage sets depth and expand ratio together, the n-th of each (Sahni et al.,
            "CompOFA", ICLR 2021). Each stage then has as many depths as expand ratios, and one kernel size.

    Examples:
        >>> space = ofa.get_space("tiny")
        >>> space.size()
        729000
        >>> codes = space.sample(np.random.default_rng(0), 3)
        >>> space.decode(codes)[0].resolution in space.resolutions
        True
    """

    name: str
    stem_channels: Channels
    stem_stride: int
    stem_activation: str
    first_channels: Channels
    first_activation: str
    stages: tuple[Stage, ...]
    kernels: tuple[int, ...]
    expands: tuple[float, ...]
    resolutions: tuple[int, ...]
    head_channels: Channels
    feature_channels: int
    head_activation: str
    width_mult: float | tuple[float, ...] = 1.0
    padding: str = "same"
    bn_epsilon: float = 1e-5
    first_skip: bool = True
    first_depth: int = 1
    coupled: bool = False

    def __post_init__(self):
        good = isinstance(self.name, str) and self.name.isascii() and self.name.isidentifier()
        rules.require(good, "name", self.name, "a name made of a-z, 0-9 and _")
        for name in ("stem_channels", "first_channels", "head_channels"):
            rules.require_channels(name, getattr(self, name), smallest=0)
        good = rules.is_int(self.feature_channels) and 0 <= self.feature_channels <= MAX_CHANNELS
        rules.require(good, "feature_channels", self.feature_channels, f"an integer from 0 to {MAX_CHANNELS}")
        rules.require(
            rules.is_int(self.stem_stride) and self.stem_stride in (1, 2), "stem_stride", self.stem_stride, "1 or 2"
        )
        for name in ("stem_activation", "first_activation", "head_activation"):
            rules.require(getattr(self, name) in ACTIVATIONS, name, getattr(self, name), f"one of {list(ACTIVATIONS)}")
        good = isinstance(self.stages, tuple) and 0 < len(self.stages) <= rules.MAX_STAGES
        good = good and all(isinstance(stage, Stage) for stage in self.stages)
        rules.require(good, "stages", self.stages, f"a list of 1 to {rules.MAX_STAGES} stages")
        rules.require_kernels(self.kernels)
        rules.require_expands(self.expands)
        rules.require_choices("resolutions", self.resolutions, 8, 8192)
        mults = self.width_mults
        good = len(mults) > 0 and all(rules.is_number(mult) and 0 < mult < 100 for mult in mults)
        rule = "a number between 0 and 100, or an ascending list of such numbers"
        rules.require(good and list(mults) == sorted(set(mults)), "width_mult", self.width_mult, rule)
        ends = (self.stem_channels, self.first_channels, self.head_channels)
        if len(mults) > 1 and any(isinstance(of, tuple) for of in (*ends, *(stage.channels for stage in self.stages))):
            raise SpaceError("`width_mult` must be one number where a stage or an end has a list of channels.")
        rules.require(rules.is_number(self.bn_epsilon) and 0 < self.bn_epsilon < 1, "bn_epsilon", self.bn_epsilon,
                 "a number between 0 and 1")  # fmt: skip
        rules.require(self.padding in PADDINGS, "padding", self.padding, f"one of {list(PADDINGS)}")
        for name in ("first_skip", "coupled"):
            rules.require(isinstance(getattr(self, name), bool), name, getattr(self, name), "true or false")
        good = rules.is_int(self.first_depth) and 1 <= self.first_depth <= 64
        rules.require(good, "first_depth", self.first_depth, "an integer from 1 to 64")
        for number, stage in enumerate(self.stages, start=1):
            stage.check(f"Stage {number}", self.stage_kernels[number - 1], self.stage_expands[number - 1], self.coupled)
        rules.require_bounded(self)
        for stream in self.streams:
            rounded = sorted(set(stream.channels))
            if len(mults) == 1 and len(rounded) < len(stream.channels):
                raise SpaceError(
                    f"`width_mult` (={self.width_mult!r}) makes two choices of channels of {stream.name} the same: "
                    f"{list(stream.channels)}."
                )

    # --- what follows from the fields ---------------------------------------------------------------------------

    @property
    def width_mults(self) -> tuple[float, ...]:
        """The width multipliers to choose from."""
        return self.width_mult if isinstance(self.width_mult, tuple) else (self.width_mult,)

    @cached_property
    def stage_kernels(self) -> tuple[tuple[int, ...], ...]:
        """The kernel sizes that the blocks of each stage choose from."""
        return tuple(self.kernels if stage.kernels is None else stage.kernels for stage in self.stages)

    @cached_property
    def stage_expands(self) -> tuple[tuple[float, ...], ...]:
        """The expand ratios that the blocks of each stage choose from."""
        return tuple(self.expands if stage.expands is None else stage.expands for stage in self.stages)

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        """The tensors between blocks, from the image on, with the channels that each may have."""

        def built(channels: Channels) -> tuple[int, ...]:
            widths = channels if isinstance(channels, tuple) else (channels,)
            return tuple(divisible(width * mult) for width in widths for mult in self.width_mults)

        ends = {"stem": self.stem_channels, "first": self.first_channels}
        stages = {f"stage{number}": stage.channels for number, stage in enumerate(self.stages, start=1)}
        channels = {**ends, **stages, "head": self.head_channels}
        made = (Stream(name, built(of)) for name, of in channels.items() if of)
        return (Stream("image", (3,)), *made)

    @cached_property
    def elastic_streams(self) -> tuple[Stream, ...]:
        """The streams with a choice of channels: an arch has an entry for each, in this order."""
        return tuple(stream for stream in self.streams if stream.elastic)

    def channels_of(self, arch: Arch) -> dict[str, int]:
        """The channels that an arch has in each stream, by name."""
        choices = iter(arch.channels)
        return {stream.name: stream.channels[next(choices) if stream.elastic else 0] for stream in self.streams}

    @cached_property
    def _reads_alike(self) -> dict[str, bool]:
        return {
            after.name: not (before.elastic or after.elastic) and before.channels == after.channels
            for before, after in pairwise(self.streams)
        }

    def reads_alike(self, name: str) -> bool:
        """Whether the stream before a named one has as many channels in every arch, so that a skip may lead there."""
        return self._reads_alike[name]

    @property
    def feature_outputs(self) -> int:
        """Outputs of the dense layer after the global average, as it is built; 0 for no such layer."""
        return divisible(self.feature_channels * self.width_mults[-1]) if self.feature_channels else 0

    @cached_property
    def first_stage_stream(self) -> int:
        """Index of the first stage's stream among the streams."""
        return 1 + bool(self.stem_channels) + bool(self.first_channels)

    @cached_property
    def block_streams(self) -> tuple[tuple[int, int], ...]:
        """For each block slot the indices of the streams that it reads and writes."""
        slots = zip(self.block_stages, self.block_positions, strict=True)
        written = ((self.first_stage_stream + stage, position) for stage, position in slots)
        return tuple((stream - (position == 0), stream) for stream, position in written)

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
        stages = self.block_stages
        per_block = {
            "kernel": tuple(self.stage_kernels[stage] for stage in stages),
            "expand": tuple(self.stage_expands[stage] for stage in stages),
        }
        choices = {"resolution": (self.resolutions,), "depth": tuple(s.depths for s in self.stages), **per_block}
        if self.elastic_streams:
            choices["channels"] = tuple(tuple(range(len(stream.channels))) for stream in self.elastic_streams)
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
    def channel_genes(self) -> slice:
        """The genes of the elastic streams; empty where there is none."""
        return self._genes("channels") if self.elastic_streams else slice(self.n_genes, self.n_genes)

    def stream_choices(self, codes: np.ndarray) -> np.ndarray:
        """Index of the channels of each stream, 0 for those without a choice: shape (archs, streams)."""
        elastic = [stream.elastic for stream in self.streams]
        chosen = np.zeros((len(codes), len(elastic)), codes.dtype)
        chosen[:, elastic] = codes[:, self.channel_genes]
        return chosen

    @cached_property
    def stage_slots(self) -> tuple[slice, ...]:
        """The block slots of each stage."""
        ends = accumulate(stage.depths[-1] for stage in self.stages)
        return tuple(slice(end - stage.depths[-1], end) for stage, end in zip(self.stages, ends, strict=True))

    @cached_property
    def option_sizes(self) -> tuple[int, ...]:
        """The most choices in each block dimension."""
        return tuple(dimension.size for dimension in self.block_dimensions)

    @cached_property
    def _first_choice(self) -> np.ndarray:
        """The first of its stage's choices of a depth, which ascend, that uses a block slot: shape (blocks,)."""
        slots = zip(self.block_stages, self.block_positions, strict=True)
        return np.array([sum(depth <= position for depth in self.stages[stage].depths) for stage, position in slots])

    def size(self) -> int:
        """Exact number of different subnets, resolution not counted."""
        n_subnets = prod(len(set(stream.channels)) for stream in self.streams)
        if self.coupled:
            return n_subnets * prod(len(stage.depths) for stage in self.stages)
        options = (prod(map(len, of)) for of in zip(*(d.choices for d in self.block_dimensions), strict=True))
        for stage in self.stages:
            of_depths = list(accumulate(islice(options, stage.depths[-1]), mul))
            n_subnets *= sum(of_depths[depth - 1] for depth in stage.depths)
        return n_subnets

    # --- one arch ------------------------------------------------------------------------------------------------

    def arch(
        self,
        resolution: int,
        depths: Sequence[int],
        kernels: Sequence[int],
        expands: Sequence[float],
        channels: Sequence[int] = (),
    ) -> Arch:
        """Makes a canonical arch of this space.

        Args:
            resolution: input size in pixels.
            depths: blocks per stage.
            kernels: kernel size per block slot; entries of blocks left out may be anything.
            expands: expand ratio per block slot; entries of blocks left out may be anything.
            channels: index of the choice of channels, from 0, for each of the space's `elastic_streams`.

        Raises:
            SpaceError: a value is not among the space's choices; names the argument, the value and the choices.
        """
        good = rules.is_int(resolution) and resolution in self.resolutions
        rules.require(good, "resolution", resolution, f"one of {list(self.resolutions)}")
        require_entries("depths", depths, self.n_stages)
        for depth, stage in zip(depths, self.stages, strict=True):
            rules.require(
                depth in stage.depths, "depths", tuple(depths), f"chosen from {[list(s.depths) for s in self.stages]}"
            )
        slots = zip(self.block_stages, self.block_positions, strict=True)
        active = [position < depths[stage] for stage, position in slots]
        per_block = []
        for (name, value), dimension in zip(
            {"kernels": kernels, "expands": expands}.items(), self.block_dimensions, strict=True
        ):
            require_entries(name, value, self.n_blocks, "numbers" if name == "expands" else "integers")
            of_slots = list(zip(value, dimension.choices, active, strict=True))
            for choices in (choices for item, choices, used in of_slots if used and item not in choices):
                of = "the space's" if len(set(dimension.choices)) == 1 else "its stage's"
                rules.require(False, name, tuple(value), f"chosen from {of} {choices} for every block in use")
            per_block.append(tuple(choices[choices.index(item)] if used else 0 for item, choices, used in of_slots))
        require_channel_choices(channels, self.elastic_streams, self.name)
        if self.coupled:
            self._require_coupled(depths, expands)
        in_use_kernels, in_use_expands = per_block
        return Arch(
            self.name, int(resolution), tuple(map(int, depths)), in_use_kernels, in_use_expands,
            tuple(map(int, channels)),
        )  # fmt: skip

    def _require_coupled(self, depths: Sequence[int], expands: Sequence[float]) -> None:
        for stage, slots, depth, together in zip(
            self.stages, self.stage_slots, depths, self.stage_expands, strict=True
        ):
            wanted = together[stage.depths.index(depth)]
            good = all(expand == wanted for expand in expands[slots][:depth])
            pairs = ", ".join(f"{depth} with {expand:g}" for depth, expand in zip(stage.depths, together, strict=True))
            rules.require(good, "expands", tuple(expands), f"coupled to the depths: {pairs}")

    def arch_from_document(self, document: Mapping[str, Any], where: str = "The arch") -> Arch:
        """Reads an arch from JSON values.

        Raises:
            FormatError: unknown or missing keys.
            SpaceError: an arch of another space, or values that are not choices.
        """
        keys = ("resolution", "depths", "kernels", "expands", "channels")
        check_keys(document, {"space", *keys[:-1]}, {"channels"}, where)
        if document["space"] != self.name:
            raise SpaceError(f"{where} is of the space {document['space']!r}, not of {self.name!r}.")
        return self.arch(*(document.get(key, ()) for key in keys))

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
        """The codes with the genes of unused blocks set to 0, and coupled expand ratios to those of the depths."""
        active = self.active(codes)
        codes = codes.copy()
        if self.coupled:
            codes[:, self.expand_genes] = codes[:, self.depth_genes].take(self.block_stages, axis=1)
        for dimension in self.block_dimensions:
            codes[:, dimension.genes] *= active
        return codes

    def sample(self, rng: np.random.Generator, n: int, **open_choices: int | None) -> np.ndarray:
        """Draws archs, every gene uniformly and independently, as in the paper.

        Args:
            rng: the source of randomness.
            n: number of archs.
            **open_choices: `depth_choices`, `kernel_choices`, `expand_choices`, `channels_choices`: how many of the
                largest choices of that dimension may be drawn; None for all. 1 is only the largest. In a coupled space
                the depths set the expand ratios.

        Returns:
            Canonical codes, int32 of shape (n, genes).

        Raises:
            SpaceError: a number of choices below 1.
        """
        lowest = self.lowest_genes(**open_choices)
        return self.canonical(rng.integers(lowest, self.gene_sizes, (n, self.n_genes), dtype=np.int32))

    def lowest_code(self, **open_choices: int | None) -> np.ndarray:
        """Code of the smallest arch among those that `sample` draws with these arguments: int32 of shape (genes,)."""
        return self.canonical(self.lowest_genes(**open_choices)[None])[0]

    def lowest_genes(self, **open_choices: int | None) -> np.ndarray:
        """The smallest value of each gene that `sample` draws with these arguments: int32 of shape (genes,)."""
        lowest = np.zeros(self.n_genes, np.int32)
        limited = {f"{dimension.name}_choices": dimension.genes for dimension in self.dimensions[1:]}
        limited.setdefault("channels_choices", self.channel_genes)
        if unknown := open_choices.keys() - limited.keys():
            raise TypeError(f"`{min(unknown)}` must be one of {list(limited)}.")
        for name, genes in limited.items():
            if (choices := open_choices.get(name)) is not None:
                rules.require(rules.is_int(choices) and choices >= 1, name, choices, "an integer of at least 1")
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
        return {**rules.values(self), "stages": [stage.to_document() for stage in self.stages]}

    @classmethod
    def from_document(cls, document: Mapping[str, Any], where: str = "The space") -> "SearchSpace":
        """Reads a space from JSON values, also those of schema 1.

        Raises:
            FormatError: unknown or missing keys.
            SpaceError: a value that breaks a rule.
        """
        document = renamed(document)
        check_keys(document, {"stages"}, {field.name for field in dataclasses.fields(cls)}, where)
        if not isinstance(stages := document["stages"], list):
            raise SpaceError(f"`stages` (={stages!r}) must be a list of at least one stage.")
        parsed = [from_document(Stage, renamed(stage), f"{where}, stage {i + 1},") for i, stage in enumerate(stages)]
        return from_document(cls, {**document, "stages": parsed}, where)
