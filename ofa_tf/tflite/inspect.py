"""What a `.tflite` file consists of, read off the FlatBuffer without running it.

Numbers of fields are those of the TFLite schema, `tensorflow/compiler/mlir/lite/schema/schema.fbs`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite, prod

from ofa_tf.tflite.flatbuffer import FlatBuffer, Table

IDENTIFIER = b"TFL3"
COMPILED = "CUSTOM edgetpu-custom-op"  # the operator that the compiler for the Edge TPU makes of others
MOST_DIMENSIONS = 16  # of a tensor


@dataclass(frozen=True)
class TensorFacts:
    """An input or output of a file.

    Args:
        name: as the converter wrote it.
        shape: -1 where the file leaves a dimension open.
        dtype: element type, such as "INT8".
        scale: scale of its quantisation, `scale * (stored - zero_point)`; None if it is not quantised.
        zero_point: zero point of its quantisation, or None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class FileFacts:
    """What a `.tflite` file consists of.

    Args:
        ops: operators, with the number of times each occurs; custom ones as "CUSTOM name".
        tensor_types: element types, with the number of tensors of each.
        size_bytes: size of the file.
        inputs: of the main subgraph.
        outputs: of the main subgraph.
        n_macs: multiply-accumulates of its convolutions and fully connected layers, for one run.
        parameter_bytes: weights, biases and other constants.
        n_subgraphs: one, unless there are loops or branches.
    """

    ops: Mapping[str, int]
    tensor_types: Mapping[str, int]
    size_bytes: int
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    n_macs: int
    parameter_bytes: int
    n_subgraphs: int

    @property
    def n_float_tensors(self) -> int:
        """Tensors of a floating-point type; a full-integer file has none."""
        return sum(count for name, count in self.tensor_types.items() if name.startswith(("FLOAT", "BFLOAT")))


def read_root(content: bytes, name: str = "The file") -> Table:
    """The outermost table of a `.tflite` file.

    Args:
        content: the bytes of the file.
        name: name of the file, for messages.

    Raises:
        FormatError: not a `.tflite` file.
        DamagedError: one cut short.
    """
    return FlatBuffer(content, name).root(IDENTIFIER, "a TFLite model")


def inspect_file(content: bytes, name: str = "The file") -> FileFacts:
    """Reads what a `.tflite` file consists of.

    Args:
        content: the bytes of the file.
        name: name of the file, for messages.

    Raises:
        FormatError: not a `.tflite` file.
        DamagedError: one cut short, or one whose parts refer to what is not there.

    Examples:
        >>> content = Path("work/exports/first/model.tflite").read_bytes()
        >>> ofa.inspect_file(content).tensor_types
        {'INT32': ..., 'INT8': ...}
    """
    model = read_root(content, name)
    damaged = model.buffer.damaged
    codes = [operator_name(code) for code in model.tables(1)]
    buffer_bytes = [_buffer_bytes(buffer) for buffer in model.tables(4)]
    subgraphs = model.tables(2)
    if not subgraphs:
        raise damaged("it has no subgraph")
    ops: Counter[str] = Counter()
    types: Counter[str] = Counter()
    constants: set[int] = set()
    n_macs, ends = 0, None
    for subgraph in subgraphs:  # a hostile file has many that share what they hold: none of them is kept
        graph = _read_graph(subgraph, codes)
        ops.update(graph.ops)
        types.update(graph.tensor_types)
        constants.update(graph.constants)
        n_macs += graph.n_macs
        ends = ends or (graph.inputs, graph.outputs)
    assert ends is not None, "there is a subgraph"
    if max(constants, default=0) >= len(buffer_bytes) > 0:
        raise damaged(f"a tensor refers to data that is none of its {len(buffer_bytes)} buffers")
    return FileFacts(
        ops=dict(sorted(ops.items())),
        tensor_types=dict(sorted(types.items())),
        size_bytes=len(content),
        inputs=ends[0],
        outputs=ends[1],
        n_macs=n_macs,
        parameter_bytes=sum(buffer_bytes[index] for index in constants if index < len(buffer_bytes)),
        n_subgraphs=len(subgraphs),
    )


@dataclass(frozen=True)
class _GraphFacts:
    """What a subgraph consists of; `constants` are the buffers that its tensors refer to."""

    ops: Counter[str]
    tensor_types: Counter[str]
    constants: frozenset[int]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    n_macs: int


def _read_graph(graph: Table, codes: Sequence[str]) -> _GraphFacts:
    damaged = graph.buffer.damaged
    tensors = graph.tables(0)
    shapes = [tensor.numbers(0, "i") for tensor in tensors]
    if max(map(len, shapes), default=0) > MOST_DIMENSIONS:
        raise damaged(f"a tensor has {max(map(len, shapes))} dimensions")
    ops: Counter[str] = Counter()
    n_macs = 0
    for operator in graph.tables(3):
        opcode, inputs, outputs = operator_indices(operator, len(codes), len(tensors))
        used, made = ([() if index < 0 else shapes[index] for index in indices] for indices in (inputs, outputs))
        ops[codes[opcode]] += 1
        n_macs += _macs(codes[opcode], used, made)
    ends = [graph.numbers(field, "i") for field in (1, 2)]
    if not all(0 <= index < len(tensors) for indices in ends for index in indices):
        raise damaged(f"an input or output is none of its {len(tensors)} tensors")
    first, last = (tuple(_tensor_facts(tensors[index]) for index in indices) for indices in ends)
    return _GraphFacts(
        ops=ops,
        tensor_types=Counter(type_name(tensor) for tensor in tensors),
        constants=frozenset(tensor.scalar(2, "I") for tensor in tensors),
        inputs=first,
        outputs=last,
        n_macs=n_macs,
    )


def _buffer_bytes(buffer: Table) -> int:
    """Size of constant data, which may also lie outside the FlatBuffer, in files of more than 2 GB."""
    offset, size = buffer.scalar(1, "Q"), buffer.scalar(2, "Q")
    if offset + size > len(buffer.buffer.content):
        raise buffer.buffer.damaged(f"a buffer of {size} bytes at byte {offset} ends outside it")
    return size or len(buffer.data(0))


def _tensor_facts(tensor: Table) -> TensorFacts:
    scales: Sequence[float] = ()
    zero_points: Sequence[int] = ()
    quantization = tensor.table(4)
    if quantization is not None:
        scales, zero_points = quantization.numbers(2, "f"), quantization.numbers(3, "q")
    if not all(isfinite(scale) for scale in scales[:1]):
        raise tensor.buffer.damaged(f"the scale of an input or output is {scales[0]}")
    return TensorFacts(
        name=tensor.text(3),
        shape=tensor.numbers(7, "i") or tensor.numbers(0, "i"),
        dtype=type_name(tensor),
        scale=float(scales[0]) if scales else None,
        zero_point=int(zero_points[0]) if scales and zero_points else None,
    )


def _macs(name: str, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> int:
    if len(inputs) < 2 or not outputs:
        return 0
    weights = inputs[1]
    if name == "TRANSPOSE_CONV" and len(inputs) > 2:
        return _size(inputs[2]) * _size(weights[:3])
    per_output = {"CONV_2D": weights[1:], "DEPTHWISE_CONV_2D": weights[1:3], "FULLY_CONNECTED": weights[1:]}
    return _size(outputs[0]) * _size(per_output[name]) if name in per_output and weights else 0


def _size(shape: Sequence[int]) -> int:
    return prod(max(length, 1) for length in shape)


def operator_indices(operator: Table, n_codes: int, n_tensors: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Which of the operator codes it has, and which tensors go in and come out; -1 for one that is left out.

    Raises:
        DamagedError: there is no such code or tensor.
    """
    opcode, inputs, outputs = operator.scalar(0, "I"), operator.numbers(1, "i"), operator.numbers(2, "i")
    if opcode >= n_codes:
        raise operator.buffer.damaged(f"an operator is of kind {opcode} of {n_codes}")
    for index in inputs + outputs:
        if not -1 <= index < n_tensors:
            raise operator.buffer.damaged(f"an operator uses tensor {index} of {n_tensors}")
    return opcode, inputs, outputs


def operator_name(code: Table) -> str:
    """The kind of an operator code; a custom one is "CUSTOM name"."""
    # Files from before 2020 have the number in the first field, which is a byte.
    number = max(code.scalar(0, "b"), code.scalar(3, "i"))
    name = _enumerations()[0].get(number, f"OPERATOR_{number}")
    return f"CUSTOM {code.text(1)}" if name == "CUSTOM" else name


def type_name(tensor: Table) -> str:
    """The element type of a tensor, such as "INT8"."""
    number = tensor.scalar(1, "b")
    return _enumerations()[1].get(number, f"TYPE_{number}")


@cache
def _enumerations() -> tuple[dict[int, str], dict[int, str]]:
    """Names of operators and of element types."""
    from ai_edge_litert import schema_py_generated as schema

    operators, types = (
        {number: name for name, number in vars(kind).items() if isinstance(number, int)}
        for kind in (schema.BuiltinOperator, schema.TensorType)
    )
    return operators, types
