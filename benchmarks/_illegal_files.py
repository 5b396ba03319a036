"""Files made illegal for an Ethos-U on purpose, each way from any legal int8 file of one image and one output."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

# mypy: disable-error-code="attr-defined,union-attr,index"


class Editor:
    """A file that is taken apart, changed, and packed again.

    Args:
        content: a `.tflite` file.
    """

    def __init__(self, content: bytes):
        self.model = schema.ModelT.InitFromPackedBuf(content, 0)
        self.graph = self.model.subgraphs[0]

    def packed(self) -> bytes:
        """The file as it is now."""
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def first(self, *names: str) -> Any | None:
        """The first operator of some kinds, or None."""
        codes = [self.model.operatorCodes[op.opcodeIndex].builtinCode for op in self.graph.operators]
        wanted = {getattr(schema.BuiltinOperator, name) for name in names}
        return next((op for op, code in zip(self.graph.operators, codes, strict=True) if code in wanted), None)

    @property
    def output(self) -> Any:
        """The tensor of the first output."""
        return self.graph.tensors[self.graph.outputs[0]]

    def tensor(self, shape: Sequence[int], dtype: str = "INT8", values: np.ndarray | None = None) -> int:
        """A new tensor, constant if it has values; its index."""
        made = schema.TensorT()
        made.name, made.shape, made.type = f"added{len(self.graph.tensors)}", list(shape), _type(dtype)
        made.buffer = 0
        if values is not None:
            data = schema.BufferT()
            data.data = np.ascontiguousarray(values).view(np.uint8).ravel()
            self.model.buffers.append(data)
            made.buffer = len(self.model.buffers) - 1
        elif not dtype.startswith("FLOAT"):
            made.quantization = scaled(0.05)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def append(
        self,
        name: str,
        shape: Sequence[int] | None = None,
        dtype: str = "INT8",
        more: Sequence[int] = (),
        options: Any = None,
        first: Sequence[int] = (),
    ) -> bytes:
        """The file with one more operator, of the output so far; of the output's shape unless another is given."""
        code, made = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        if name == "CUSTOM":
            code.customCode = b"made-up"
        self.model.operatorCodes.append(code)
        made.opcodeIndex = len(self.model.operatorCodes) - 1
        made.inputs = [*first, self.graph.outputs[0], *more]
        made.outputs = [self.tensor(self.output.shape if shape is None else shape, dtype)]
        if options is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            made.builtinOptions = options
        self.graph.operators.append(made)
        self.graph.outputs = list(made.outputs)
        for signature in self.model.signatureDefs or []:
            for end in signature.outputs:
                end.tensorIndex = made.outputs[0]
        return self.packed()


def scaled(*scales: float) -> Any:
    """A quantisation."""
    made = schema.QuantizationParametersT()
    made.scale, made.zeroPoint = list(scales), [0] * len(scales)
    return made


def _type(dtype: str) -> int:
    return getattr(schema.TensorType, dtype)


def _options(kind: str, **fields: Any) -> Any:
    made = getattr(schema, f"{kind}T")()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


# --- ways that append an operator -------------------------------------------------------------------------------------


def _unknown(name: str) -> Callable[[Editor], bytes]:
    return lambda editor: editor.append(name)


def _image(editor: Editor) -> list[int]:
    """Makes the output an image, if it is a vector; its shape."""
    shape = list(editor.output.shape)
    if len(shape) != 4:
        shape, quantisation = [1, 1, 1, shape[-1]], editor.output.quantization
        editor.append("RESHAPE", shape, more=[editor.tensor([4], "INT32", np.array(shape, np.int32))])
        editor.output.quantization = quantisation  # a reshape with another one is refused as a whole
    return shape


def _float_output(editor: Editor) -> bytes:
    return editor.append("DEQUANTIZE", dtype="FLOAT32")


def _float_tail(editor: Editor) -> bytes:
    editor.append("DEQUANTIZE", dtype="FLOAT32")
    return editor.append("RELU", dtype="FLOAT32")


def _wide_pool(editor: Editor) -> bytes:
    shape = _image(editor)
    options = _options("Pool2DOptions", filterWidth=9, filterHeight=9, strideW=1, strideH=1, padding=0)
    return editor.append("AVERAGE_POOL_2D", shape, options=options)


def _far_stride(editor: Editor) -> bytes:
    batch, height, width, channels = _image(editor)
    if height <= 4:  # to one place, where no stride counts
        height, width = 8 * height, 8 * width
        shape = [batch, height, width, channels]
        editor.append("RESIZE_NEAREST_NEIGHBOR", shape, more=[_pair(editor, height, width)], options=_nearest())
    shape = [batch, -(-height // 4), -(-width // 4), channels]
    options = _options("Pool2DOptions", filterWidth=5, filterHeight=5, strideW=4, strideH=4, padding=0)
    return editor.append("MAX_POOL_2D", shape, options=options)


def _resized_by_3(editor: Editor) -> bytes:
    batch, height, width, channels = _image(editor)
    if height == 1:
        height = width = 2
        editor.append(
            "RESIZE_NEAREST_NEIGHBOR", [batch, 2, 2, channels], more=[_pair(editor, 2, 2)], options=_nearest()
        )
    size = [3 * height, 3 * width]
    return editor.append(
        "RESIZE_NEAREST_NEIGHBOR", [batch, *size, channels], more=[_pair(editor, *size)], options=_nearest()
    )


def _nearest() -> Any:
    return _options("ResizeNearestNeighborOptions", alignCorners=False, halfPixelCenters=False)


def _pair(editor: Editor, height: int, width: int) -> int:
    return editor.tensor([2], "INT32", np.array([height, width], np.int32))


def _wide_integers(editor: Editor) -> bytes:
    editor.append("QUANTIZE", dtype="INT16")
    return editor.append("RELU", dtype="INT32")


def _unequal_maximum(editor: Editor) -> bytes:
    other = editor.tensor(editor.output.shape, "INT8", np.zeros(editor.output.shape, np.int8))
    editor.graph.tensors[other].quantization = scaled(0.5)
    return editor.append("MAXIMUM", more=[other], options=_options("MaximumMinimumOptions"))


def _batch_argmax(editor: Editor) -> bytes:
    shape = _image(editor)
    axis = editor.tensor([1], "INT32", np.array([1], np.int32))
    return editor.append("ARG_MAX", [1, *shape[2:]], "INT32", [axis], _options("ArgMaxOptions", outputType=2))


def _stride_3_transposed(editor: Editor) -> bytes:
    batch, height, width, channels = _image(editor)
    shape = [batch, 3 * height, 3 * width, 4]
    weights = editor.tensor([4, 3, 3, channels], "INT8", np.ones((4, 3, 3, channels), np.int8))
    editor.graph.tensors[weights].quantization = scaled(0.1)
    size = editor.tensor([4], "INT32", np.array(shape, np.int32))
    options = _options("TransposeConvOptions", padding=0, strideW=3, strideH=3)
    return editor.append("TRANSPOSE_CONV", shape, options=options, first=[size, weights])


# --- ways that change what is there -----------------------------------------------------------------------------------


def _unscaled(editor: Editor) -> bytes:
    editor.append("RELU")
    editor.output.quantization = None
    return editor.packed()


def _scale_per_channel(editor: Editor) -> bytes:
    editor.append("RELU")
    quantisation = scaled(*[0.1] * editor.output.shape[-1])
    quantisation.quantizedDimension = len(editor.output.shape) - 1
    editor.output.quantization = quantisation
    return editor.packed()


def _open_height(editor: Editor) -> bytes:
    _image(editor)
    editor.append("RELU")
    for index in (editor.graph.operators[-1].inputs[0], editor.graph.outputs[0]):
        tensor = editor.graph.tensors[index]
        tensor.shapeSignature = [1, -1, *tensor.shape[2:]]
    return editor.packed()


def _computed_bias(editor: Editor) -> bytes:
    op = editor.first("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    if op is None or len(op.inputs) < 3 or op.inputs[2] < 0:
        return editor.append("SIN")
    editor.graph.tensors[op.inputs[2]].buffer = 0
    editor.graph.inputs = [*editor.graph.inputs, op.inputs[2]]
    editor.model.signatureDefs = []
    return editor.packed()


def _wide_weights(editor: Editor) -> bytes:
    op = editor.first("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    if op is None:
        return editor.append("COS")
    weights = editor.graph.tensors[op.inputs[1]]
    values = np.asarray(editor.model.buffers[weights.buffer].data, np.uint8).view(np.int8).astype(np.int16)
    data = schema.BufferT()
    data.data = values.view(np.uint8)
    editor.model.buffers.append(data)
    weights.buffer, weights.type = len(editor.model.buffers) - 1, _type("INT16")
    return editor.packed()


def _wide_bias(editor: Editor) -> bytes:
    op = editor.first("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    if op is None or len(op.inputs) < 3 or op.inputs[2] < 0:
        return editor.append("FLOOR")
    bias = editor.graph.tensors[op.inputs[2]]
    bias.type = _type("FLOAT32")
    return editor.packed()


WAYS: Mapping[str, Callable[[Editor], bytes]] = {
    "an operator that it lacks, SIN": _unknown("SIN"),
    "an operator that it lacks, FLOOR": _unknown("FLOOR"),
    "an operator that it lacks, L2_NORMALIZATION": _unknown("L2_NORMALIZATION"),
    "a custom operator": _unknown("CUSTOM"),
    "a float output": _float_output,
    "a float operator": _float_tail,
    "a padded pooling of 9x9": _wide_pool,
    "a padded pooling of stride 4": _far_stride,
    "resized three times": _resized_by_3,
    "integers of 32 bits": _wide_integers,
    "a maximum of other scales": _unequal_maximum,
    "an argmax over rows": _batch_argmax,
    "a transposed convolution of stride 3": _stride_3_transposed,
    "no quantisation": _unscaled,
    "a scale for each channel": _scale_per_channel,
    "an open height": _open_height,
    "a bias that is computed": _computed_bias,
    "weights of 16 bits": _wide_weights,
    "a bias of floats": _wide_bias,
}


def make_illegal(content: bytes, way: str) -> bytes:
    """The file made illegal in one of the `WAYS`."""
    return WAYS[way](Editor(content))
