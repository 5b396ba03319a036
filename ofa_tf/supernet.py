"""The supernet: one Keras model that holds the weights of every subnet of a space."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.blocks import Block, walk
from ofa_tf.layers import BLOCK_LAYERS, BlockLayer, Choices
from ofa_tf.space import Arch, SearchSpace


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
        dtype: "float32", or "mixed_bfloat16" to compute in bfloat16; weights and logits are float32 in both.
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
        self.block_layers = {block.name: self._layer(block) for block in blocks}
        self.stem, self.first = self.block_layers["stem"], self.block_layers["first"]
        self.head, self.pool = self.block_layers["head"], self.block_layers["pool"]
        self.elastic_blocks = [self.block_layers[block.name] for block in blocks if block.slot >= 0]
        self.feature = self.block_layers.get("feature")
        self.classifier = self.block_layers["classifier"]
        for block in blocks:
            self.block_layers[block.name].build((None, block.in_channels))
        self.built = True
        self._initialize(np.random.default_rng(seed))
        self.largest_code = tuple(int(gene) for gene in self.space.encode(self.space.largest()))

    def _layer(self, block: Block) -> BlockLayer:
        kernels, expands = self.space.kernels, self.space.expands
        if block.slot < 0:
            kernels, expands = (block.kernel,), (1,)
        elif self.arch is not None:
            kernels, expands = (block.kernel,), (self.arch.expands[block.slot],)
        choices = Choices(kernels, expands, self.space.bn_epsilon, self.formulation, self.dtype_policy)
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
        """The part of the call that all archs have in common: stem and first block."""
        mode = {"training": training, "momentum": momentum}
        return self.first(self.stem(images, **mode), **mode)

    def finish(self, x, code=None, training=False, momentum=None, dropout=0.0, dropout_seed=None):
        """The rest of the call, from what `begin` returns."""
        mode = {"training": training, "momentum": momentum}
        if self.arch is None:
            x = self._call_elastic(x, self.largest_code if code is None else code, mode)
        else:
            for block in self.elastic_blocks:
                x = block(x, **mode)
        x = self.pool(self.head(x, **mode), **mode)
        if self.feature is not None:
            x = self.feature(x, **mode)
        if dropout and training:
            x = tf.nn.experimental.stateless_dropout(x, dropout, dropout_seed)
        return tf.cast(self.classifier(x, **mode), tf.float32)

    def _call_elastic(self, x, code, mode):
        """The blocks that an arch uses, each at its kernel size and width."""
        space = self.space
        depths, kernels, expands = code[space.depth_genes], code[space.kernel_genes], code[space.expand_genes]
        momentum = mode["momentum"]
        slots = zip(self.elastic_blocks, space.block_stages, space.block_positions, strict=True)
        for slot, (block, stage, position) in enumerate(slots):
            depth, choices = depths[stage], space.stages[stage].depths

            def run(x=x, block=block, slot=slot, mode=mode):
                return block(x, kernel_index=kernels[slot], expand_index=expands[slot], **mode)

            if position < choices[0] or (isinstance(depth, int) and position < choices[depth]):
                x = run()
                continue
            if isinstance(depth, int):
                continue
            kept = tf.gather(np.array(choices, np.int32), depth) > position
            if self.formulation == "sliced":
                x = tf.cond(kept, run, lambda x=x: x)
            else:
                blended = None if momentum is None else tf.where(kept, momentum, 1.0)
                x = tf.where(kept, run(mode={**mode, "momentum": blended}), x)
        return x

    def sort_channels(self) -> None:
        """Sorts the middle channels of every block by importance; the largest subnet's function does not change."""
        for block in self.elastic_blocks:
            block.sort_channels()

    def get_config(self):
        return {
            **super().get_config(),
            "space": self.space.to_document(),
            "n_classes": self.n_classes,
            "seed": self.seed,
            "formulation": self.formulation,
            "arch": None if self.arch is None else self.arch.to_document(),
        }
