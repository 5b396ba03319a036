"""The operators of a `.tflite` file as plain records, read so that no file can do harm."""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ofa_tf.errors import ExportError

MOST_ITEMS = 200_000  # operators, tensors and their dimensions in one file; real ones have thousands
MOST_INTEGERS = 32
# What a rule needs to know of an operator's options: operator -> class in the schema, fields.
OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "AVERAGE_POOL_2D": ("Pool2DOptions", ("FusedActivationFunction",)),
    "MAX_POOL_2D": ("Pool2DOptions", ("FusedActivationFunction",)),
    "CONCATENATION": ("ConcatenationOptions", ("FusedActivationFunction",)),
    "CONV_2D": ("Conv2DOptions", ("DilationWFactor", "DilationHFactor")),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", ("DilationWFactor", "DilationHFactor")),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("WeightsFormat",)),
    "PACK": ("PackOptions", ("Axis",)),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor: name, element type such as "INT8", shape (-1 where it is not known), and its values if constant."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: np.ndarray | None = field(default=None, repr=False)

    @property
    def constant(self) -> bool:
        """Whether its values are in the file."""
        return self.data is not None

    def integers(self) -> list[int]:
        """The values of a short constant of int32, such as axes; none of anything else."""
        if self.data is None or self.type != "INT32" or len(self.data) > 4 * MOST_INTEGERS or len(self.data) % 4:
            return []
        return self.data.view("<i4").tolist()


@dataclass(frozen=True)
class Operator:
    """An operator with its tensors (None for an input left out) and the options that `OPTIONS` names."""

    name: str
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor | None, ...]
    options: Mapping[str, int] = field(default_factory=dict)

    @property
    def tensors(self) -> Iterable[Tensor]:
        """All its tensors."""
        return (tensor for tensor in (*self.inputs, *self.outputs) if tensor is not None)


def read_operators(content: bytes) -> list[Operator]:
    """The operators of the main graph, in the order in which they run.

    Raises:
        ExportError: the bytes are not a TFLite model, or a damaged one.
    """
    if content[4:8] != b"TFL3":
        raise ExportError("The file is not a TFLite model: its first bytes lack the mark TFL3.")
    try:
        return _Reader(content).operators()
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ExportError(f"The file is a damaged TFLite model: {error}.") from None


def _text(name: bytes) -> str:
    """A name that may be printed."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:100].decode(errors="replace"))


class _Reader:
    def __init__(self, content: bytes):
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._content = content
        self._names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
        self._types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
        self._items = 0

    def operators(self) -> list[Operator]:
        model = self._schema.Model.GetRootAsModel(self._content, 0)
        if not self._count(model.SubgraphsLength()):
            raise ValueError("it has no graph")
        graph = model.Subgraphs(0)
        codes = self._list(model.OperatorCodesLength(), model.OperatorCodes, self._code)
        tensors = self._list(graph.TensorsLength(), graph.Tensors, lambda tensor: self._tensor(model, tensor))
        return self._list(graph.OperatorsLength(), graph.Operators, lambda op: self._operator(op, codes, tensors))

    def _count(self, n: int) -> int:
        """Lengths are written in the file: a damaged one may claim billions."""
        self._items += n
        if self._items > MOST_ITEMS:
            raise ValueError(f"it claims more than {MOST_ITEMS:,} parts")
        return n

    def _list(self, n: int, get: Callable[[int], Any], make: Callable[[Any], Any]) -> list[Any]:
        return [make(get(index)) for index in range(self._count(n))]

    def _code(self, code) -> tuple[str, int]:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self._names.get(number, f"operator {number}")
        if name == "CUSTOM":
            name = _text(code.CustomCode() or b"CUSTOM")
        return name, code.Version()

    def _tensor(self, model, tensor) -> Tensor:
        shape = self._list(tensor.ShapeLength(), tensor.Shape, int)
        signature = self._list(tensor.ShapeSignatureLength(), tensor.ShapeSignature, int)
        known = signature if len(signature) == len(shape) else shape  # the signature has -1 where a size may change
        shape = [size if size >= 0 and fixed >= 0 else -1 for size, fixed in zip(shape, known, strict=True)]
        index, data = tensor.Buffer(), None
        if 0 < index < model.BuffersLength():
            buffer = model.Buffers(index)
            if buffer.DataLength():
                data = buffer.DataAsNumpy()  # a view: many tensors may share one buffer
        return Tensor(
            _text(tensor.Name() or b""), self._types.get(tensor.Type(), f"type {tensor.Type()}"), tuple(shape), data
        )

    def _operator(self, operator, codes: list[tuple[str, int]], tensors: list[Tensor]) -> Operator:
        def pick(index: int) -> Tensor | None:
            if not -1 <= index < len(tensors):
                raise ValueError(f"an operator uses tensor {index} of {len(tensors)}")
            return None if index == -1 else tensors[index]

        name, version = codes[operator.OpcodeIndex()]
        inputs = self._list(operator.InputsLength(), operator.Inputs, pick)
        outputs = self._list(operator.OutputsLength(), operator.Outputs, pick)
        return Operator(name, version, tuple(inputs), tuple(outputs), self._options(operator, name))

    def _options(self, operator, name: str) -> dict[str, int]:
        table = operator.BuiltinOptions()
        if name not in OPTIONS or table is None:
            return {}
        kind, fields = OPTIONS[name]
        options = getattr(self._schema, kind)()
        options.Init(table.Bytes, table.Pos)
        return {field: getattr(options, field)() for field in fields}
