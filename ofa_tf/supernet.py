"""The supernet: one Keras model that holds the weights of every subnet of a space."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.blocks import Block, walk
from ofa_tf.layers import BLOCK_LAYERS, BlockLayer, Choices
from ofa_tf.layers.sorting import sort_channels
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.stage import Stream


@keras.saving.register_keras_serializable(package="ofa_tf")
class Supernet(keras.Model):
    """All subnets of a space with shared weights (Cai et al., ICLR 2020, section 3).

    The arch is an argument of the call: its code as an int32 tensor. One traced graph therefore serves every arch, and,
    as the image size is free, every resolution.

    Args:
        space: the search space, or its JSON document.
        n_classes: number of outputs of the classifier.
        seed: seed of the initial weights.
        formulation: "sliced", or "masked" for compilers that need static shapes (XLA, TPUs): what the arch leaves out
            is computed and multiplied by zero. Both compute the same function of the same weights.
        dtype: "float32", "float64", or "mixed_bfloat16" to compute in bfloat16 with weights and logits in float32.
        arch: the only arch that it holds, or its JSON document: a network that shares nothing, to compare subnets with.
            Codes are then ignored. None for all of the space.

    Raises:
        ValueError: an unknown formulation.
        SpaceError: an arch of another space.

    Input shape: images `(batch, height, width, 3)`, `code` `(genes,)`; output float32 logits `(batch, n_classes)`. A
    code that is a tuple of numbers, as `largest_code` and the default, gives a graph of only that arch. The code's
    resolution gene is ignored: the size of the images counts. With `dropout`, that share of the classifier's
    inputs is zero in training; `dropout_seed` are two integers.

    Examples:
        >>> supernet = ofa.Supernet(ofa.get_space("tiny"), n_classes=10)
        >>> supernet(np.zeros((1, 24, 24, 3), np.float32)).shape
        TensorShape([1, 10])
    """

    def __init__(
        self,
        space: SearchSpace | dict[str, Any],
        n_classes: int,
        seed: int = 0,
        formulation: str = "sliced",
        dtype: Any = "float32",
        arch: Arch | dict[str, Any] | None = None,
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.space = space if isinstance(space, SearchSpace) else SearchSpace.from_document(space)
        self.n_classes = n_classes
        self.seed = seed
        self.formulation = formulation
        if arch is not None:
            document = arch.to_document() if isinstance(arch, Arch) else arch
            arch = self.space.arch_from_document(document)
        self.arch = arch
        blocks = walk(self.space, arch or self.space.largest(), n_classes)
        self._places = _places(self.space, blocks)
        self.block_layers = {place.block.name: self._layer(place) for place in self._places}
        shared = [place.block for place in takewhile(lambda place: place.shared, self._places)]
        self.shared_layers = [self.block_layers[block.name] for block in shared]
        self.shared_channels = shared[-1].out_channels if shared else blocks[0].in_channels
        self.elastic_blocks = [self.block_layers[block.name] for block in blocks if block.slot >= 0]
        for block in blocks:
            self.block_layers[block.name].build((None, block.in_channels))
        self.built = True
        self._initialize(np.random.default_rng(seed))
        self.largest_code = tuple(int(gene) for gene in self.space.encode(self.space.largest()))

    def _layer(self, place: "_Place") -> BlockLayer:
        block, space = place.block, self.space
        kernels: tuple[int, ...] = (block.kernel,)
        expands: tuple[float, ...] = (1,)
        channels: dict[str, tuple[int, ...]] = {}
        if self.arch is None:
            streams = {"in_channels": place.read, "out_channels": place.written}
            channels = {name: stream.channels for name, stream in streams.items() if stream and stream.elastic}
        if block.slot >= 0 and self.arch is not None:
            expands = (self.arch.expands[block.slot],)
        elif block.slot >= 0:
            stage = space.block_stages[block.slot]
            kernels, expands = space.stage_kernels[stage], space.stage_expands[stage]
        choices = Choices(kernels, expands, space.bn_epsilon, self.formulation, self.dtype_policy, **channels)
        return BLOCK_LAYERS[block.kind](block, choices)

    def _initialize(self, rng: np.random.Generator) -> None:
        """He's by fan-out for convolutions, by fan-in for dense layers; kernel matrices stay identities."""
        for variable in self.trainable_variables:
            shape = variable.shape
            if "kernel" not in variable.path.rsplit("/", 1)[-1]:
                continue
            std = np.sqrt(2.0 / (shape[0] * shape[1] * shape[3]) if len(shape) == 4 else 1.0 / shape[0])
            variable.assign(rng.normal(0.0, std, shape).astype(np.float32))

    def call(self, images, code=None, training=False, momentum=None, dropout=0.0, dropout_seed=None):
        x = self.begin(images, training, momentum)
        return self.finish(x, code, training, momentum, dropout, dropout_seed)

    def begin(self, images, training=False, momentum=None):
        """The part of the call that all archs have in common: the blocks before the first elastic one."""
        x = images
        for layer in self.shared_layers:
            x = layer(x, training=training, momentum=momentum)
        return x

    def finish(self, x, code=None, training=False, momentum=None, dropout=0.0, dropout_seed=None):
        """The rest of the call, from what `begin` returns."""
        mode = {"training": training, "momentum": momentum}
        chosen = None if self.arch is not None else self._chosen(self.largest_code if code is None else code)
        *places, _ = self._places[len(self.shared_layers) :]
        for place in places:
            if chosen is None:
                x = self.block_layers[place.block.name](x, **mode)
            else:
                x = self._call_elastic(place, x, chosen, mode)
        if dropout and training:
            x = tf.nn.experimental.stateless_dropout(x, dropout, dropout_seed)
        return tf.cast(self.block_layers["classifier"](x, **mode), self.variable_dtype)

    def _chosen(self, code) -> dict[str, Any]:
        """The genes of a code by dimension, and those of the elastic streams by name."""
        space = self.space
        genes = {dimension.name: code[dimension.genes] for dimension in space.dimensions[1:]}
        streams = {stream.name: genes["channels"][index] for index, stream in enumerate(space.elastic_streams)}
        return genes | streams

    def _call_elastic(self, place, x, chosen, mode):
        """One block at its kernel size and channels, if the arch uses it."""
        space, slot, layer = self.space, place.block.slot, self.block_layers[place.block.name]
        ends = {"in_index": place.read, "out_index": place.written}
        indices = {name: chosen[stream.name] for name, stream in ends.items() if stream and stream.elastic}
        if slot < 0:
            return layer(x, **indices, **mode)
        indices |= {"kernel_index": chosen["kernel"][slot], "expand_index": chosen["expand"][slot]}
        stage, position, momentum = space.block_stages[slot], space.block_positions[slot], mode["momentum"]
        depth, choices = chosen["depth"][stage], space.stages[stage].depths

        def run(mode=mode):
            return layer(x, **indices, **mode)

        if position < choices[0] or (isinstance(depth, int) and position < choices[depth]):
            return run()
        if isinstance(depth, int):
            return x
        kept = tf.gather(np.array(choices, np.int32), depth) > position
        if self.formulation == "sliced":
            return tf.cond(kept, run, lambda: x)
        blended = None if momentum is None else tf.where(kept, momentum, 1.0)
        return tf.where(kept, run({**mode, "momentum": blended}), x)

    def sort_channels(
        self, middle: bool = True, streams: bool = True, trained: Sequence[Arch] = (), importance: str = "weights"
    ) -> None:
        """Sorts channels by importance; the largest subnet's function does not change.

        Args:
            middle: whether those within elastic blocks are sorted.
            streams: whether those of elastic streams are sorted.
            trained: narrower archs, whose functions do not change, either.
            importance: "weights" or "contribution", as for `layers.sorting.sort_channels`.
        """
        elastic = [place.block.name for place in self._places if place.written and place.written.elastic]
        sort_channels(
            [place.block for place in self._places],
            lambda block: self.block_layers[block.name].op_weights(),
            elastic if streams else (),
            middle,
            [walk(self.space, arch, self.n_classes) for arch in trained],
            importance,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "space": self.space.to_document(),
            "n_classes": self.n_classes,
            "seed": self.seed,
            "formulation": self.formulation,
            "arch": None if self.arch is None else self.arch.to_document(),
        }


@dataclass(frozen=True)
class _Place:
    """A block, and the streams that it reads and writes; None behind the global average for what is no stream."""

    block: Block
    read: Stream | None
    written: Stream | None

    @property
    def shared(self) -> bool:
        """Whether nothing of the block is elastic."""
        streams = (self.read, self.written)
        return self.block.slot < 0 and not any(stream and stream.elastic for stream in streams)


def _places(space: SearchSpace, blocks: Sequence[Block]) -> list[_Place]:
    streams = {stream.name: stream for stream in space.streams}
    places: list[_Place] = []
    read: Stream | None = space.streams[0]
    for block in blocks:
        # A block has the name of its stream, with a number; what has no weights hands on what it reads.
        written = streams.get(block.name.partition("_")[0], None if block.n_params else read)
        places.append(_Place(block, read, written))
        read = written
    return places
