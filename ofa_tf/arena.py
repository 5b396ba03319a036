"""How much RAM a full-integer subnet takes in TensorFlow Lite Micro, predicted from its blocks.

The interpreter keeps everything in one piece of memory, the arena: at one end its records, for as long as the network
is loaded, at the other the activations, each for as long as an operator still reads it. Records add up over blocks.
Activations are the most that lie there at the same time, which is the largest number over all operators: an export for
a microcontroller carries a plan that reaches it (`micro.plan`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ofa_tf.blocks import Block, walk
from ofa_tf.costs import arch_costs
from ofa_tf.ops import INPUT, Op
from ofa_tf.peaks import PeakCosts
from ofa_tf.space import Arch, SearchSpace

ALIGNMENT = 16  # bytes: the arena's buffers begin at multiples of it
# The interpreter's records in bytes, with pointers of 64 bits: read off `print_allocations` of tflite-micro
# 0.dev20261023182759 for files of single blocks and 30 subnets of `tiny` and `photos`. An operator's include those of
# the tensors that only it has: constants and output. Pointers of 32 bits, as microcontrollers have, make them smaller.
RECORDS_OF_NETWORK = 752
RECORDS = {
    "ADD": 172,
    "AVERAGE_POOL_2D": 160,
    "CONV_2D": 240,
    "DEPTHWISE_CONV_2D": 240,
    "FULLY_CONNECTED": 232,
    "HARD_SWISH": 120,
    "MAX_POOL_2D": 160,
    "MEAN": 218,
    "MUL": 140,
    "PAD": 160,
    "RESHAPE": 102,
}
PER_CHANNEL = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
RECORDS_PER_CHANNEL = 8  # a multiplier and a shift, of 4 bytes each, in two buffers
FUSED = ("none", "relu", "relu6")  # activations that become part of the operator before them
BUILT = {
    "conv": "CONV_2D",
    "depthwise": "DEPTHWISE_CONV_2D",
    "dense": "FULLY_CONNECTED",
    "mean": "MEAN",
    "max_pool": "MAX_POOL_2D",
    "average_pool": "AVERAGE_POOL_2D",
    "add": "ADD",
    "multiply": "MUL",
}


@dataclass(frozen=True)
class ArenaSize:
    """Bytes of an arena.

    Args:
        activation_bytes: the most that activations take at the same time.
        record_bytes: what the interpreter keeps for itself.
    """

    activation_bytes: int
    record_bytes: int

    @property
    def total_bytes(self) -> int:
        """The whole arena."""
        return self.activation_bytes + self.record_bytes


@dataclass(frozen=True)
class ArenaStep:
    """One operator of the file: what it reads and writes.

    Args:
        name: the operator, such as "CONV_2D".
        inputs: names of the activations that it reads.
        output: name of the one that it writes.
        output_bytes: size of that.
        channels: of the output.
        scratch_bytes: what it needs beside them while it runs.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    output_bytes: int
    channels: int
    scratch_bytes: int = 0


def aligned(size_bytes: int) -> int:
    """A size, up to the next multiple of the alignment."""
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def mean_scratch(channels: int) -> int:
    """What MEAN needs beside its tensors: a sum of 32 bits for each channel, and its axes."""
    return aligned(4 * channels) + 2 * ALIGNMENT


def channel_records(name: str, channels: int) -> int:
    """The records that an operator keeps for each channel of its output."""
    return 2 * aligned(RECORDS_PER_CHANNEL // 2 * channels) if name in PER_CHANNEL else 0


def steps(block: Block) -> Iterator[ArenaStep]:
    """The operators that a block becomes; the converter folds away the reshaping of an image of one pixel."""
    same: dict[str, str] = {}  # outputs that are another one by a new name
    for op in block.ops:
        inputs = tuple(same.get(name, name) for name in op.inputs)
        if op.kind not in BUILT:  # a reshaping
            same[op.suffix] = inputs[0]
            continue
        if op.margins != (0, 0):
            padded = (op.in_size + 2 * op.margins[0]) * (op.in_size + 2 * op.margins[1]) * op.in_channels
            yield ArenaStep("PAD", inputs, f"{op.suffix} padded", aligned(padded), op.in_channels)
            inputs = (f"{op.suffix} padded",)
        size_bytes = aligned(_elements(op))
        scratch = mean_scratch(op.out_channels) if op.summarises else 0
        plain = op.suffix if op.activation in FUSED else f"{op.suffix} before"
        yield ArenaStep(BUILT[op.kind], inputs, plain, size_bytes, op.out_channels, scratch)
        if op.activation == "hard_swish":
            yield ArenaStep("HARD_SWISH", (plain,), op.suffix, size_bytes, op.out_channels)
        elif op.activation not in FUSED:  # hard sigmoid: relu6(x + 3) is fused, / 6 is not
            yield ArenaStep("MUL", (plain,), op.suffix, size_bytes, op.out_channels)


def _elements(op: Op) -> int:
    return op.out_channels * (op.out_size**2 if op.takes_images else 1)


def block_records(block: Block) -> int:
    """Bytes that the interpreter keeps for a block."""
    return sum(RECORDS[step.name] + channel_records(step.name, step.channels) for step in steps(block))


def block_activations(block: Block) -> int:
    """The most bytes of activations that lie in the arena at the same time while a block runs."""
    done = list(steps(block))
    sizes = {INPUT: aligned(block.in_channels * (block.in_size**2 if block.takes_images else 1))}
    sizes |= {step.output: step.output_bytes for step in done}
    last = {name: turn for turn, step in enumerate(done) for name in (step.output, *step.inputs)}
    most, here = 0, {INPUT}
    for turn, step in enumerate(done):
        here.add(step.output)
        most = max(most, sum(sizes[name] for name in here) + step.scratch_bytes)
        here = {name for name in here if last[name] > turn} | {done[-1].output} & here
    return most


def arena_size(blocks: Sequence[Block]) -> ArenaSize:
    """The arena of an int8 file of a whole network, with a plan of its activations.

    Examples:
        >>> space = ofa.get_space("tiny")
        >>> ofa.arena_size(ofa.walk(space, space.smallest(), n_classes=10)).activation_bytes
        9216
    """
    records = RECORDS_OF_NETWORK + sum(map(block_records, blocks))
    return ArenaSize(max(map(block_activations, blocks)), aligned(records))


def arena_costs(space: SearchSpace, n_classes: int) -> PeakCosts:
    """Predicted bytes of the arena of the int8 file of every arch of a space."""
    records = arch_costs(space, block_records, n_classes)
    records = type(records)(space, records.fixed + RECORDS_OF_NETWORK, records.elastic)
    return PeakCosts(records, arch_costs(space, block_activations, n_classes, combine=max))


def image_bytes(space: SearchSpace) -> int:
    """Bytes of the smallest input image of a space, which no arena can do without."""
    return aligned(3 * min(space.resolutions) ** 2)


def arena_of(space: SearchSpace, arch: Arch, n_classes: int) -> ArenaSize:
    """The predicted arena of one arch."""
    return arena_size(walk(space, arch, n_classes))
