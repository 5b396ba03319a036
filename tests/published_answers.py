"""Holding networks against the answers of the published project."""

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ofa_tf.subnet import build_subnet


def answers_in_float64(space, arch, model, images):
    """What a subnet answers without the rounding of float32."""
    keras.config.set_dtype_policy("float64")
    try:
        twin = build_subnet(space, arch, model.output_shape[-1], fixed_size=False)
        twin.set_weights(model.get_weights())
        outputs = twin(images.astype(np.float64)).numpy()
    finally:
        keras.config.set_dtype_policy("float32")
    assert outputs.dtype == np.float64
    return outputs


def relative_error(actual, expected):
    return float(np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max())


def is_rough(space, arch):
    """Whether the published answer is itself more than 1e-5 from that in float64.

    Gates of squeeze-and-excite close to zero are differences of sums of thousands in the largest MobileNetV3 of the
    fixture: 1.5e-5 is lost there in the published float32. Ours is 4.5e-6 from float64 without oneDNN, and so the tests
    run. With it that depends on the processor, in eager mode: on Intel's with AVX-512 within 1e-5 of the published
    answer, on AMD's 1.1e-5 from it and 2.5e-5 from float64, with AVX2 alone 1.8e-5 and 4e-6. In a graph it has been up
    to 7e-5 from it.
    """
    return space.name == "mobilenet_v3" and arch == space.largest()


def assert_answers(outputs, expected, space, arch, model, images):
    """Within 1e-5 of the published answer; where that one is rough, within 1e-5 of it or of float64."""
    if is_rough(space, arch) and relative_error(outputs, expected) >= 1e-5:
        expected = answers_in_float64(space, arch, model, images)
    assert relative_error(outputs, expected) < 1e-5


def answers(content: bytes, inputs: np.ndarray) -> np.ndarray:
    """What a .tflite file answers, image by image."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (given,), (taken,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for image in inputs:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(taken["index"]))
    return np.concatenate(outputs)
