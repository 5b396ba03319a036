"""Where the activations of a file lie in the arena of TensorFlow Lite Micro.

Its own planner places the largest tensor first, each in the first gap that is large enough, and so needs up to a tenth
more than lies there at any one time. A file may carry another plan, as the interpreter's documentation describes under
"offline memory planning"; one for our networks never needs more than that.
"""

import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import inf, prod

from ofa_tf.arena import RECORDS, RECORDS_OF_NETWORK, ArenaSize, aligned, channel_records, mean_scratch
from ofa_tf.errors import ExportError, FormatError
from ofa_tf.tflite.inspect import read_root
from ofa_tf.tflite.metadata_writer import add_entry
from ofa_tf.tflite.operators import Operator, read_operators

ENTRY = "OfflineMemoryAllocation"  # the metadata that the interpreter looks for
HEADER = struct.Struct("<iii")  # version, subgraph, number of tensors; an offset for each of them follows
BYTES = {"INT8": 1, "UINT8": 1, "BOOL": 1, "INT16": 2, "INT32": 4, "FLOAT32": 4, "INT64": 8}
UNPLANNED = -1
MOST_TENSORS = 1000  # of a file that is planned: networks have some hundred
MOST_STEPS = 20_000  # before no plan is found; networks of ours take one for each tensor


@dataclass(frozen=True)
class Buffer:
    """A piece of the arena.

    Args:
        size_bytes: its size, aligned.
        first: the operator that writes it, by its place; 0 for an input of the network.
        last: the last one that reads it.
        tensor: its index in the file; -1 for what an operator needs only while it runs.
    """

    size_bytes: int
    first: int
    last: int
    tensor: int = -1

    def meets(self, other: "Buffer") -> bool:
        """Whether both are needed at the same time."""
        return self.first <= other.last and other.first <= self.last


def buffers_of(operators: Sequence[Operator], results: Collection[int]) -> list[Buffer]:
    """The buffers of a file, in the order of its tensors.

    Args:
        operators: its operators.
        results: indices of the tensors that the network answers with.

    Raises:
        FormatError: the size of a tensor is not known.
    """
    spans: dict[int, list[int]] = {}
    for turn, operator in enumerate(operators):
        made = {output.index for output in operator.outputs if output is not None}
        for tensor in operator.tensors:
            if not tensor.constant:
                if tensor.type not in BYTES or min(tensor.shape, default=1) < 1:
                    raise FormatError(f"The size of the tensor {tensor.name!r} is not known.")
                size_bytes = aligned(prod(tensor.shape) * BYTES[tensor.type])
                spans.setdefault(tensor.index, [size_bytes, turn if tensor.index in made else 0, turn])[2] = turn
    for index in spans.keys() & set(results):
        spans[index][2] = len(operators)
    found = [Buffer(size, first, last, index) for index, (size, first, last) in sorted(spans.items())]
    for turn, operator in enumerate(operators):
        output = operator.outputs[0] if operator.outputs else None
        if operator.name == "MEAN" and output is not None:
            found.append(Buffer(mean_scratch(output.shape[-1] if output.shape else 1), turn, turn))
    return found


def most_at_once(buffers: Sequence[Buffer]) -> int:
    """The most bytes that are needed at the same time: no plan needs less."""
    turns = {buffer.first for buffer in buffers}
    return max((sum(b.size_bytes for b in buffers if b.first <= turn <= b.last) for turn in turns), default=0)


def greedy_peak(buffers: Sequence[Buffer], offsets: dict[int, int] | None = None) -> int:
    """The bytes that the interpreter's planner needs, the largest buffer first, of equal ones the last first.

    Args:
        buffers: the buffers.
        offsets: of those that a plan has placed, by their place among `buffers`.
    """
    placed = dict(offsets or {})
    for place in sorted(set(range(len(buffers))) - set(placed), key=lambda of: (-buffers[of].size_bytes, -of)):
        placed[place] = next(_lowest_gaps(buffers, placed, place))[0]
    return max((offset + buffers[place].size_bytes for place, offset in placed.items()), default=0)


def _lowest_gaps(
    buffers: Sequence[Buffer], placed: dict[int, int], place: int, most: float = inf
) -> Iterator[tuple[int, float]]:
    """The gaps between the buffers that are needed at the same time, from the lowest: where each begins and ends."""
    own, begin = buffers[place], 0.0
    others: list[tuple[float, float]] = sorted(
        (at, at + buffers[other].size_bytes) for other, at in placed.items() if own.meets(buffers[other])
    )
    for low, high in [*others, (most, most)]:
        if low - begin >= own.size_bytes:
            yield int(begin), low
        begin = max(begin, high)


def find_offsets(buffers: Sequence[Buffer]) -> dict[int, int] | None:
    """A plan that needs no more than the most that is needed at once; None where none was found.

    Each buffer, in the order in which they are written, goes to one of the ends of a gap, first to the one that is
    nearest to an end of the arena; where that leaves no room for a later one, the next end is tried.

    Returns:
        Offsets by the place among `buffers`.
    """
    most = most_at_once(buffers)
    order = sorted(range(len(buffers)), key=lambda place: (buffers[place].first, -buffers[place].last))
    placed: dict[int, int] = {}

    def ends(place: int) -> Iterator[int]:
        size = buffers[place].size_bytes
        gaps = _lowest_gaps(buffers, placed, place, most)
        found = {end for low, high in gaps for end in (low, int(high) - size)}
        return iter(sorted(found, key=lambda end: (min(end, most - size - end), end)))

    waiting = [ends(order[0])] if order else []
    for _ in range(MOST_STEPS):
        if not waiting:
            return placed if not order else None
        place = order[len(waiting) - 1]
        placed.pop(place, None)
        offset = next(waiting[-1], None)
        if offset is None:
            waiting.pop()
            continue
        placed[place] = offset
        if len(placed) == len(order):
            return placed
        waiting.append(ends(order[len(waiting)]))
    return None


def read_buffers(content: bytes) -> list[Buffer]:
    """The buffers of a file with one subgraph; errors as for `buffers_of`, and for a damaged file."""
    return buffers_of(read_operators(content), read_root(content).tables(2)[0].numbers(2, "i"))


def with_plan(content: bytes) -> bytes:
    """The file with a plan of its memory; the same file where that would not help.

    It does not where the interpreter's own planner does as well, no plan is found, or there are too many buffers.

    Raises:
        ExportError: there are several subgraphs, or a tensor's size is not known.
    """
    graphs = read_root(content).tables(2)
    if len(graphs) != 1:
        raise ExportError(f"The memory of the file cannot be planned: it has {len(graphs)} subgraphs.")
    try:
        buffers = read_buffers(content)
    except FormatError as error:
        raise ExportError(f"The memory of the file cannot be planned: {error}") from None
    if len(buffers) > MOST_TENSORS or greedy_peak(buffers) == most_at_once(buffers):
        return content
    offsets = find_offsets(buffers)
    if offsets is None or max(offsets.values(), default=0) >= 2**31:  # a plan has 32 bits for each
        return content
    by_tensor = [UNPLANNED] * len(graphs[0].tables(0))
    for place, offset in offsets.items():
        if buffers[place].tensor >= 0:
            by_tensor[buffers[place].tensor] = offset
    data = HEADER.pack(1, 0, len(by_tensor)) + struct.pack(f"<{len(by_tensor)}i", *by_tensor)
    return add_entry(content, ENTRY, data)


def planned_offsets(content: bytes, buffers: Sequence[Buffer]) -> dict[int, int]:
    """Offsets that a file gives, by the place among `buffers`; empty where it has no plan.

    Raises:
        DamagedError: the plan lies outside the file, or is of another number of tensors.
    """
    model = read_root(content)
    tables, n_tensors = model.tables(4), len(model.tables(2)[0].tables(0))
    for entry in model.tables(6):
        if entry.text(0) != ENTRY:
            continue
        place = entry.scalar(1, "I")
        data = bytes(tables[place].data(0)) if place < len(tables) else b""
        if len(data) != HEADER.size + 4 * n_tensors or HEADER.unpack_from(data)[2] != n_tensors:
            raise model.buffer.damaged("its plan of the memory is not of its tensors")
        offsets = struct.unpack_from(f"<{n_tensors}i", data, HEADER.size)
        return {
            index: offsets[buffer.tensor]
            for index, buffer in enumerate(buffers)
            if buffer.tensor >= 0 and offsets[buffer.tensor] >= 0
        }
    return {}


def file_arena(content: bytes) -> ArenaSize | None:
    """The arena that a `.tflite` file will need, predicted; None where its operators or tensors are not known."""
    try:
        operators = read_operators(content)
        if not operators or len(read_root(content).tables(2)) != 1:
            return None
        buffers = read_buffers(content)
        if len(buffers) > MOST_TENSORS:
            return None
        peak = greedy_peak(buffers, planned_offsets(content, buffers))
    except FormatError:
        return None
    records = RECORDS_OF_NETWORK
    for operator in operators:
        output = operator.outputs[0] if operator.outputs else None
        if operator.name not in RECORDS or output is None or not output.type.startswith(("INT8", "UINT8")):
            return None
        records += RECORDS[operator.name] + channel_records(operator.name, output.shape[-1] if output.shape else 1)
    return ArenaSize(peak, aligned(records))
