"""Small `.tflite` files whose answers are known, what they may say about themselves, and ways to break files."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ofa_tf.tflite.metadata import Metadata

WHAT = Metadata(
    name="tints",
    description="Which colour is the strongest.",
    version="3",
    author="A. Painter",
    license="Apache-2.0",
    labels=("red", "green ish", "blau-grün"),
    mean=(123.5, 116.25, 103.0),
    std=(58.5, 57.0, 57.5),
    arch={"schema": 1, "space": "tiny", "resolution": 32},
)


def tint_file(
    order=(0, 1, 2), dtype: str = "float32", size: int = 32, mean: float = 128.0, std: float = 128.0
) -> bytes:
    """A file that compares the mean colours of an image: output i is that of colour `order[i]`, -1 is none.

    Args:
        order: the colour of each output.
        dtype: of input and output.
        size: of the image, in pixels.
        mean: the input is `(pixel - mean) / std`.
        std: likewise.
    """
    import keras
    import tensorflow as tf

    weights = np.zeros((3, len(order)), np.float32)
    for output, colour in enumerate(order):
        if colour >= 0:
            weights[colour, output] = 1
    bias = np.array([-1.0 if colour < 0 else 0.0 for colour in order], np.float32)
    image = keras.Input((size, size, 3), batch_size=1)
    scores = keras.layers.Dense(len(order))(keras.layers.GlobalAveragePooling2D()(image))
    model = keras.Model(image, scores)
    model.layers[-1].set_weights([weights, bias])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if dtype != "float32":
        pixels = np.array([[0, 255, 128], [90, 130, 110], [150, 100, 128], [110, 110, 150]], np.float32)
        samples = ((pixels - mean) / std)[:, None, None, None] * np.ones((1, 1, size, size, 1), np.float32)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(dtype)
    return converter.convert()


def edited(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The file with a change made to its model, an object of the schema's `ModelT`."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def interpreter_of(content: bytes):
    """The file in the interpreter, without the delegate, whose rounding is its own."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    return interpreter
