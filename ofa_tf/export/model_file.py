"""Looking into a `.tflite` file, and running it on images."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ofa_tf.data import Images, Preprocessing
from ofa_tf.errors import ExportError


@dataclass(frozen=True)
class FileFacts:
    """What a `.tflite` file consists of.

    Args:
        ops: operators with how often each occurs.
        tensor_types: element types with how many tensors have each.
        size_bytes: size of the file.
    """

    ops: Mapping[str, int]
    tensor_types: Mapping[str, int]
    size_bytes: int

    @property
    def n_float_tensors(self) -> int:
        """Tensors of a floating-point type; a full-integer file has none."""
        return sum(count for name, count in self.tensor_types.items() if name.startswith(("FLOAT", "BFLOAT")))


def inspect_file(content: bytes) -> FileFacts:
    """Reads operators and tensor types off the flatbuffer."""
    from tensorflow.lite.python import schema_py_generated as schema

    operators = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    model = schema.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    names = [operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    ops = Counter(names[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength()))
    kinds = Counter(types[graph.Tensors(i).Type()] for i in range(graph.TensorsLength()))
    return FileFacts(dict(sorted(ops.items())), dict(sorted(kinds.items())), len(content))


class ModelFile:
    """A classification file, run by ai-edge-litert.

    Args:
        content: the bytes of the file.
    """

    def __init__(self, content: bytes):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        try:
            self._interpreter = Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"The file is not a TFLite model that the interpreter accepts: {error}.") from None
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    @property
    def resolution(self) -> int:
        """Height and width of its input, in pixels."""
        return int(self._input["shape"][1])

    @property
    def input_quantization(self) -> Mapping[str, float] | None:
        """Scale and zero point of its input; None if it takes floats."""
        scale, zero_point = self._input["quantization"]
        return {"scale": float(scale), "zero_point": int(zero_point)} if scale else None

    def logits(self, images: Images, preprocessing: Preprocessing) -> np.ndarray:
        """Outputs for images, as floats: shape (images, classes). Quantisation parameters are honoured."""
        outputs = []
        for pixels, _ in images.batches(1, self.resolution):
            self._interpreter.set_tensor(self._input["index"], self._quantise(preprocessing(pixels).numpy()))
            self._interpreter.invoke()
            outputs.append(self._dequantise(self._interpreter.get_tensor(self._output["index"])))
        return np.concatenate(outputs)

    def _quantise(self, values: np.ndarray) -> np.ndarray:
        scale, zero_point = self._input["quantization"]
        if not scale:
            return values.astype(self._input["dtype"])
        limits = np.iinfo(self._input["dtype"])
        return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(self._input["dtype"])

    def _dequantise(self, values: np.ndarray) -> np.ndarray:
        scale, zero_point = self._output["quantization"]
        return (values.astype(np.float32) - zero_point) * scale if scale else values.astype(np.float32)
