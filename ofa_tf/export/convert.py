"""From a Keras model to the bytes of a `.tflite` file."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.blocks import Block
from ofa_tf.errors import ExportError
from ofa_tf.precision import get_precision
from ofa_tf.quiet import quiet
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.subnet import block_model, build_subnet


def to_tflite(
    model: keras.Model,
    precision: str,
    representative: Sequence[np.ndarray] | np.ndarray = (),
    io: str = "int8",
    trained_ranges: bool = False,
) -> bytes:
    """Converts a model with post-training quantisation, or one that was trained with quantisation.

    Args:
        model: of static input shape, of Keras or tf_keras; the file has a batch of 1.
        precision: one of `PRECISIONS`: "int8" (full integer, input and output too), "fp16" (weights), "fp32", or
            "dynamic" (int8 weights, float activations, quantised as the file runs).
        representative: inputs that the ranges of int8 are taken from, each of shape (1, ...).
        io: "int8" or "uint8": element type of input and output of an int8 file.
        trained_ranges: whether the model has the ranges of int8 in itself.

    Raises:
        ExportError: no such precision, or the converter fails; the end of what it printed is in the message.
    """
    kind = get_precision(precision)
    weights = tf.as_dtype(kind.weights)
    shape = (1, *model.inputs[0].shape[1:])
    function = tf.function(
        lambda image: model(image, training=False),
        input_signature=[tf.TensorSpec(shape, name="image")],
        autograph=False,
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], model)
    # Straight from the graph: the detour over a SavedModel on disk, the default, takes three times as long.
    converter.experimental_lower_to_saved_model = False
    if weights != tf.float32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [weights] if weights.is_floating else []
    if kind.integer:
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(kind.ends(io))
    if kind.needs_images and not trained_ranges:
        if not len(representative):
            raise ExportError("Full-integer quantisation needs representative images, and there are none.")
        converter.representative_dataset = lambda: ([sample] for sample in representative)
        if kind.integer:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    try:
        with quiet():
            return converter.convert()
    except (RuntimeError, ValueError) as error:  # what the converter raises: ConverterError is a ValueError
        said = " ".join(str(error).split())[:300]
        raise ExportError(f"The network could not be converted to TFLite: {said}") from error


class BlockConverter:
    """Makes the files that a latency table is measured with: fresh weights, random ranges.

    Args:
        space: of the archs.
        n_classes: outputs of their classifiers.
        precision: "int8", "fp16" or "fp32": one that there are tables of.
    """

    def __init__(self, space: SearchSpace, n_classes: int, precision: str):
        self.space = space
        self.n_classes = n_classes
        self.precision = precision

    def block(self, block: Block) -> bytes:
        """A file of one block; its input may be resized."""
        return self._convert(block_model(block, self.space.bn_epsilon))

    def network(self, arch: Arch) -> bytes:
        """A file of a whole subnet."""
        return self._convert(build_subnet(self.space, arch, self.n_classes))

    def convert(self, item: Block | Arch) -> bytes:
        """A file of a block or of a whole subnet."""
        return self.block(item) if isinstance(item, Block) else self.network(item)

    def _convert(self, model: keras.Model) -> bytes:
        shape = (1, *model.inputs[0].shape[1:])
        noise = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)
        return to_tflite(model, self.precision, noise)
