"""The operators of a `.tflite` file as plain records: what they compute on, and the options that rules ask for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from ofa_tf.tflite.flatbuffer import Table
from ofa_tf.tflite.inspect import operator_indices, operator_name, read_root, type_name

MOST_INTEGERS = 32
# What a rule needs to know of an operator's options: name, number of the field in the schema, kind, default.
_STRIDES = (("padding", 0, "b", 0), ("stride_width", 1, "i", 0), ("stride_height", 2, "i", 0))
_POOL = (*_STRIDES, ("filter_width", 3, "i", 0), ("filter_height", 4, "i", 0), ("fused_activation", 5, "b", 0))
_RESIZE = (("align_corners", 2, "b", 0), ("half_pixel_centers", 3, "b", 0))
OPTIONS: Mapping[str, tuple[tuple[str, int, str, int], ...]] = {
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "CONCATENATION": (("fused_activation", 1, "b", 0),),
    "CONV_2D": (*_STRIDES, ("dilation_width", 4, "i", 1), ("dilation_height", 5, "i", 1)),
    "DEPTHWISE_CONV_2D": (*_STRIDES, ("dilation_width", 5, "i", 1), ("dilation_height", 6, "i", 1)),
    "FULLY_CONNECTED": (("weights_format", 1, "b", 0),),
    "PACK": (("axis", 1, "i", 0),),
    "RESIZE_BILINEAR": _RESIZE,
    "RESIZE_NEAREST_NEIGHBOR": (("align_corners", 0, "b", 0), ("half_pixel_centers", 1, "b", 0)),
    "TRANSPOSE_CONV": _STRIDES,
}


MOST_DIMENSIONS = 32
MOST_SHARED = 4  # times that tensors may share all data of a file, on average
PART = 1 << 20  # weights at once


@dataclass(frozen=True)
class Tensor:
    """A tensor.

    Args:
        name: as the converter wrote it.
        type: element type, such as "INT8".
        shape: -1 where a size is not known; an open batch has the size that the file gives for it, usually 1.
        data: its bytes, if it is constant.
        index: its place among the tensors of the file.
        open_batch: whether the first dimension may change.
        scales: of its quantisation, one for all or one for each channel; empty if it has none.
        zero_points: likewise.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    data: np.ndarray | None = field(default=None, repr=False)
    index: int = -1
    open_batch: bool = False
    scales: tuple[float, ...] = field(default=(1.0,), repr=False)
    zero_points: tuple[int, ...] = field(default=(), repr=False)
    _sums: dict[int, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def constant(self) -> bool:
        """Whether its values are in the file."""
        return self.data is not None

    def integers(self) -> list[int]:
        """The values of a short constant of int32, such as axes; none of anything else."""
        if self.data is None or self.type != "INT32" or len(self.data) > 4 * MOST_INTEGERS or len(self.data) % 4:
            return []
        return self.data.view("<i4").tolist()

    def largest_sum(self, axis: int) -> int:
        """The largest sum of absolute weights, less their zero point, over a filter.

        Args:
            axis: along which the filters lie: 0, or -1 of depthwise weights.

        Returns:
            The sum; 0 of anything but constants of 8 bits that fill the shape.
        """
        if axis not in self._sums:  # many operators may share a tensor
            self._sums[axis] = _largest_sum(self, axis)
        return self._sums[axis]


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
        FormatError: not a `.tflite` file.
        DamagedError: one cut short, or one whose parts refer to what is not there.
    """
    model = read_root(content)
    codes = [(operator_name(code), code.scalar(2, "i", 1)) for code in model.tables(1)]
    buffers, graphs = model.tables(4), model.tables(2)
    if not graphs:
        raise model.buffer.damaged("it has no subgraph")
    tensors = [_tensor(tensor, index, buffers) for index, tensor in enumerate(graphs[0].tables(0))]
    return [_operator(operator, codes, tensors) for operator in graphs[0].tables(3)]


def _tensor(tensor: Table, index: int, buffers: Sequence[Table]) -> Tensor:
    shape, signature = tensor.numbers(0, "i"), tensor.numbers(7, "i")
    if len(shape) > MOST_DIMENSIONS:
        raise tensor.buffer.damaged(f"a tensor has {len(shape)} dimensions")
    known = signature if len(signature) == len(shape) else shape  # the signature has -1 where a size may change
    open_batch, known = known[:1] == (-1,), shape[:1] + known[1:]
    shape = tuple(size if size >= 0 and fixed >= 0 else -1 for size, fixed in zip(shape, known, strict=True))
    data, buffer = None, tensor.scalar(2, "I")
    if 0 < buffer < len(buffers):
        data = np.frombuffer(buffers[buffer].data(0), np.uint8)  # a view: many tensors may share one buffer
    data = data if data is not None and len(data) else None
    quantisation = tensor.table(4)
    scales = () if quantisation is None else quantisation.numbers(2, "f")
    zero_points = () if quantisation is None else quantisation.numbers(3, "q")
    # What looks at weights looks at all of them once, and many tensors may share a buffer.
    tensor.buffer.spend(0 if data is None else len(data) // MOST_SHARED)
    return Tensor(tensor.text(3), type_name(tensor), shape, data, index, open_batch, scales, zero_points)


def _largest_sum(tensor: Tensor, axis: int) -> int:
    full = tensor.data is not None and min(tensor.shape, default=0) > 0 and prod(tensor.shape) == len(tensor.data)
    if tensor.data is None or not full or tensor.type not in ("INT8", "UINT8"):
        return 0
    weights = np.moveaxis(tensor.data.view(tensor.type.lower()).reshape(tensor.shape), axis, 0)
    filters = weights.reshape(len(weights), -1)
    zeros = tensor.zero_points if len(tensor.zero_points) == len(filters) else (tensor.zero_points or (0,))[:1]
    return max(_absolute_sum(weights, zeros[index % len(zeros)]) for index, weights in enumerate(filters))


def _absolute_sum(weights: np.ndarray, zero_point: int) -> int:
    zero_point = min(max(zero_point, -(2**31)), 2**31)  # which no legal one is near
    parts = (weights[start : start + PART].astype(np.int64) for start in range(0, len(weights), PART))
    return sum(int(np.abs(part - zero_point).sum()) for part in parts)


def _operator(operator: Table, codes: Sequence[tuple[str, int]], tensors: Sequence[Tensor]) -> Operator:
    opcode, *indices = operator_indices(operator, len(codes), len(tensors))
    name, version = codes[opcode]
    inputs, outputs = (tuple(None if index < 0 else tensors[index] for index in some) for some in indices)
    # What looks at an operator looks at the shapes and scales of its tensors, which many operators may share.
    operator.buffer.spend(sum(len(t.shape) + len(t.scales) for t in (*inputs, *outputs) if t is not None))
    options, asked = operator.table(4), OPTIONS.get(name, ())
    found = (
        {} if options is None else {key: options.scalar(number, kind, default) for key, number, kind, default in asked}
    )
    return Operator(name, version, inputs, outputs, found)
