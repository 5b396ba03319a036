"""Running a classification file on images: from pixels to its input, from its output to numbers."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from ofa_tf.data import Images, Preprocessing
from ofa_tf.errors import ExportError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.tflite.inspect import COMPILED, FileFacts, TensorFacts, inspect_file

__all__ = ["FileFacts", "ModelFile", "inspect_file"]

DTYPES: Mapping[str, Any] = {"FLOAT32": np.float32, "UINT8": np.uint8, "INT8": np.int8}
MOST_PIXELS = 4096  # height and width of an input


class ModelFile:
    """A classification file: one image in, one number for each class out.

    Args:
        content: the bytes of the file.
        run: takes an input of the type that the file stores, and returns its output. By default ai-edge-litert in this
            process, without delegates, which is only for files that we made ourselves.
        name: name of the file, for messages.

    Raises:
        ExportError: it is no classification file, or the interpreter refuses it.
        DamagedError: it is damaged.
    """

    def __init__(self, content: bytes, run: Callable[[np.ndarray], np.ndarray] | None = None, name: str = "The file"):
        self._input, self._output = check_classifier(inspect_file(content, name), name)
        self._run = run or _interpreter(content)

    @property
    def resolution(self) -> int:
        """Height and width of its input, in pixels."""
        return self._input.shape[1]

    @property
    def n_outputs(self) -> int:
        """Numbers that it gives for an image."""
        return prod(self._output.shape[1:])

    @property
    def input_quantization(self) -> Mapping[str, float] | None:
        """Scale and zero point of its input; None if it takes floats."""
        if not self._input.scale:
            return None
        return {"scale": self._input.scale, "zero_point": self._input.zero_point or 0}

    def logits(self, images: Images, preprocessing: Preprocessing, progress: Progress = SILENT) -> np.ndarray:
        """Outputs for images, as floats: shape (images, classes). Quantisation parameters are honoured."""
        outputs = []
        with progress.task("running the file", len(images), "images") as advance:
            for pixels, _ in images.batches(1, self.resolution):
                stored = self._run(quantise(preprocessing(pixels).numpy(), self._input))
                outputs.append(dequantise(stored, self._output).reshape(1, -1))
                advance(1)
        return np.concatenate(outputs)


def check_classifier(facts: FileFacts, name: str = "The file") -> tuple[TensorFacts, TensorFacts]:
    """The input and the output of a file that puts one image into classes.

    Raises:
        ExportError: says what is different.
    """
    if len(facts.inputs) != 1 or len(facts.outputs) != 1:
        raise ExportError(
            f"{name} has {len(facts.inputs)} inputs and {len(facts.outputs)} outputs; a classification file has one "
            "image and one vector of scores."
        )
    check_runnable(facts, name)
    (image,), (scores,) = facts.inputs, facts.outputs
    size = image.shape[1:3]
    if len(image.shape) != 4 or abs(image.shape[0]) != 1 or image.shape[3] != 3 or len(set(size)) != 1:
        raise ExportError(f"{name} takes inputs of shape {list(image.shape)}; [1, size, size, 3] is needed.")
    if not 1 <= size[0] <= MOST_PIXELS:
        raise ExportError(f"{name} takes images of {size[0]} pixels; sizes from 1 to {MOST_PIXELS} are known.")
    if prod(scores.shape[1:]) < 2 or scores.dtype not in DTYPES:
        raise ExportError(
            f"{name} gives {scores.dtype.lower()} of shape {list(scores.shape)}; [1, classes] of float32, uint8 or "
            "int8 is needed."
        )
    return image, scores


def check_runnable(facts: FileFacts, name: str = "The file") -> None:
    """Refuses a file that ai-edge-litert cannot run, or whose inputs cannot be made from images.

    Raises:
        ExportError: says why.
    """
    for operator in facts.ops:
        if operator.startswith("CUSTOM Flex"):
            raise ExportError(
                f"{name} uses TensorFlow's own operator {operator.removeprefix('CUSTOM Flex')}, which the TFLite "
                "runtime lacks: convert it without SELECT_TF_OPS."
            )
        if operator == COMPILED:
            raise ExportError(f"{name} is compiled for an Edge TPU: give the file that it was compiled from.")
    for tensor in facts.inputs:
        if tensor.dtype not in DTYPES:
            raise ExportError(f"{name} takes {tensor.dtype.lower()}; float32, uint8 and int8 are known.")
        if any(length < 1 for length in tensor.shape[1:]):
            raise ExportError(
                f"{name} leaves its input of shape {list(tensor.shape)} open: fix its size when it is converted."
            )


def quantise(values: np.ndarray, tensor: TensorFacts) -> np.ndarray:
    """Floats as a tensor stores them."""
    dtype = DTYPES[tensor.dtype]
    if dtype == np.float32:
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    stored = np.rint(values / (tensor.scale or 1.0)) + (tensor.zero_point or 0)
    return np.clip(stored, limits.min, limits.max).astype(dtype)


def dequantise(stored: np.ndarray, tensor: TensorFacts) -> np.ndarray:
    """The floats that stored numbers stand for."""
    values = stored.astype(np.float32)
    return (values - (tensor.zero_point or 0)) * tensor.scale if tensor.scale else values


def _interpreter(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        interpreter = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"The file is not a TFLite model that the interpreter accepts: {error}.") from None
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(stored: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(entry["index"], stored)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return run
