"""The table of what an Ethos-U runs: operator -> the rules it must keep.

Source: what Vela 5.2.0 prints with `--supported-ops-report`, and, where that says less or something else, its verdict
on files (`tests/test_ethosu_lint.py`). It has one table for Ethos-U55 and U65, and one for U85.
"""

from collections.abc import Mapping, Sequence
from math import prod

from ofa_tf.tflite.fallback import Rule, axes, integers, kernel
from ofa_tf.tflite.operators import Operator, Tensor

VALID = 1  # of the schema's paddings; SAME is 0
# fmt: off
BOTH = frozenset((
    "ABS", "ADD", "ARG_MAX", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "ELU",
    "EXP", "EXPAND_DIMS", "FULLY_CONNECTED", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "MAXIMUM",
    "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "NEG", "PACK", "PAD", "PADV2", "PRELU", "QUANTIZE",
    "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "RSQRT", "SLICE", "SOFTMAX", "SPLIT", "SPLIT_V", "SQUARED_DIFFERENCE",
    "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TILE", "TRANSPOSE", "TRANSPOSE_CONV",
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNPACK",
))
U85_ONLY = frozenset((
    "ASSIGN_VARIABLE", "CAST", "DIV", "EQUAL", "GATHER", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL",
    "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "NOT_EQUAL", "READ_VARIABLE", "REDUCE_ALL", "REDUCE_ANY", "SCATTER_ND",
    "SELECT", "SELECT_V2",
))
WIDE = frozenset((  # that may have 32-bit feature maps on U55 and U65
    "ADD", "BATCH_MATMUL", "EXPAND_DIMS", "FULLY_CONNECTED", "MUL", "NEG", "RESHAPE", "SQUEEZE", "SUB", "SUM",
    "TRANSPOSE", "MIRROR_PAD", "ARG_MAX",
))
UNSCALED = frozenset((  # that need no quantisation
    "ARG_MAX", "EXPAND_DIMS", "MIRROR_PAD", "PAD", "PADV2", "QUANTIZE", "TRANSPOSE",
))
# fmt: on
PER_CHANNEL = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"))
INTEGERS = ("INT8", "UINT8", "INT16", "INT32", "INT64")
NARROW = ("INT8", "UINT8", "INT16")
MOST_PLACES = 65_536
MOST_AXIS = 4096
MOST_WEIGHTS, MOST_WEIGHTS_OF_16_BITS = 127 << 16, 127 << 24  # the latter only of an Ethos-U85
MOST_REDUCED = {"INT8": 1 << 24, "UINT8": 1 << 23, "INT16": 1 << 16}


def _parameters(op: Operator, most_of_16_bits: int = MOST_WEIGHTS) -> str | None:
    """Weights of 8 bits that do not overflow, and a constant bias."""
    weights, bias = (op.inputs[index] if index < len(op.inputs) else None for index in (1, 2))
    if op.name == "TRANSPOSE_CONV":
        bias = op.inputs[3] if len(op.inputs) > 3 else None
    if weights is None or weights.type not in ("INT8", "UINT8"):
        return f"its weights are {'missing' if weights is None else weights.type}, not 8 bits"
    if bias is not None and not bias.constant:
        return "its bias is not a constant"
    if bias is not None and bias.type not in ("INT32", "INT64"):
        return f"its bias is {bias.type}, not INT32 or INT64"
    return _weights(op, weights, most_of_16_bits)


def _weights(op: Operator, weights: Tensor, most_of_16_bits: int) -> str | None:
    """A bound on the sum over a filter; most have too few weights to exceed it."""
    image, axis = _feature_maps(op)[0], -1 if op.name == "DEPTHWISE_CONV_2D" else 0
    most = MOST_WEIGHTS if image.type in ("INT8", "UINT8") else most_of_16_bits
    if not weights.shape or 255 * prod(weights.shape) < most * weights.shape[axis]:
        return None
    found = weights.largest_sum(axis)
    return None if found <= most else f"the weights of a filter add up to {found:,}, of which {most:,} are supported"


def _convolution(op: Operator) -> str | None:
    return _parameters(op) or _large_stride(op)


def _large_stride(op: Operator) -> str | None:
    option = op.options.get
    strides = option("stride_width", 1), option("stride_height", 1)
    dilated = (option("dilation_width", 1), option("dilation_height", 1)) != (1, 1)
    if max(strides) <= 3 or not (dilated or _is_padded(op, strides)):
        return None
    return f"its stride of {max(strides)} is above 3 and it is {'dilated' if dilated else 'padded'}"


def _is_padded(op: Operator, strides: tuple[int, int]) -> bool:
    """Whether anything is added around the image where strides count: SAME by itself does not say so."""
    source, result = op.inputs[0] if op.inputs else None, op.outputs[0] if op.outputs else None
    if op.options.get("padding", 0) == VALID or source is None or result is None or result.shape[1:3] == (1, 1):
        return False
    sizes = kernel(op) or (op.options.get("filter_height", 1), op.options.get("filter_width", 1))
    spans = [(n - 1) * stride + size for n, stride, size in zip(result.shape[1:3], strides[::-1], sizes, strict=False)]
    return any(span > n for span, n in zip(spans, source.shape[1:3], strict=False))


def _depthwise(op: Operator) -> str | None:
    largest = max(op.options.get("stride_width", 1), op.options.get("stride_height", 1))
    return _parameters(op) or (None if largest <= 3 else f"its stride of {largest} is above 3")


def _parameters_u85(op: Operator) -> str | None:
    return _parameters(op, MOST_WEIGHTS_OF_16_BITS)


def _dense(op: Operator) -> str | None:
    return _flat(op) or _parameters(op)


def _flat(op: Operator) -> str | None:
    weights = op.inputs[1] if len(op.inputs) > 1 else None
    if weights is not None and any(size != 1 for size in weights.shape[1:-1]):
        return f"its weights {list(weights.shape)} have more than two dimensions"
    return None


def _average_pool(op: Operator) -> str | None:
    return _pool_kernel(op, 8) or _large_stride(op)


def _max_pool(op: Operator) -> str | None:
    return _pool_kernel(op, 256) or _large_stride(op)


def _pool_kernel(op: Operator, most_padded: int) -> str | None:
    width, height = op.options.get("filter_width", 1), op.options.get("filter_height", 1)
    if op.options.get("padding", 0) != VALID and max(width, height) > most_padded:
        return f"its kernel {width}x{height} is larger than {most_padded} and padded"
    if height > 256 or width * height > MOST_PLACES:
        return f"its kernel {width}x{height} is larger than 256x256"
    return None


def _mean(op: Operator) -> str | None:
    source = op.inputs[0] if op.inputs else None
    if source is None or source.type not in MOST_REDUCED:
        return f"its input is {'missing' if source is None else source.type}"
    if len(op.inputs) < 2 or op.inputs[1] is None or not op.inputs[1].constant:
        return "its axes are not constants"
    if not integers(op, 1):
        return "its axes are not integers of 32 bits"
    reduced, rank, _ = axes(op)
    if rank == 4 and source.shape[0] != 1:
        return f"it has a batch of {source.shape[0]}"
    sizes = [source.shape[axis] for axis in reduced]
    if max(sizes, default=0) >= MOST_AXIS or prod(sizes) > MOST_REDUCED[source.type]:
        return f"it is over {prod(sizes):,} elements"
    if rank > 1 and rank - 1 in reduced and all(size != 1 for size in source.shape[-3:]):
        return "it is over the channels"
    return None


def _softmax(op: Operator) -> str | None:
    source = op.inputs[0] if op.inputs else None
    places = prod(source.shape[1:-1]) if source is not None else 0
    return None if places < MOST_PLACES else f"it is over {places:,} places, of which {MOST_PLACES - 1:,} are supported"


def _constant_parameters(op: Operator) -> str | None:
    """Axes, paddings and the like."""
    if all(tensor is None or tensor.constant for tensor in op.inputs[1:]):
        return None
    return "what it does depends on a tensor that is not constant"


def _padding(op: Operator) -> str | None:
    amounts = op.inputs[1] if len(op.inputs) > 1 else None
    if amounts is not None and amounts.type not in ("INT32", "INT64"):
        return f"its paddings are {amounts.type}"
    return _constant_parameters(op)


def _same_in_and_out(*types: str) -> Rule:
    def rule(op: Operator) -> str | None:
        ends = [tensor for tensor in (*op.inputs[:1], *op.outputs[:1]) if tensor is not None]
        good = len({(tensor.type, tensor.shape) for tensor in ends}) == 1 and ends[0].type in types
        return None if good else f"its input and output are not of one shape and {' or '.join(types)}"

    return rule


def _equal_scales(op: Operator) -> str | None:
    scales = {tensor.scales for tensor in op.tensors}
    return None if len(scales) == 1 else "its tensors are not quantised alike"


def _rsqrt(op: Operator) -> str | None:
    source = op.inputs[0] if op.inputs else None
    return None if source is not None and source.type in ("INT8", "INT16") else "its input is not INT8 or INT16"


def _argmax(op: Operator) -> str | None:
    shape = op.inputs[0].shape if op.inputs and op.inputs[0] is not None else ()
    (axis,) = integers(op, 1)[:1] or [0]
    if not shape or axis % len(shape) != len(shape) - 1:
        return "it is not along the channels"
    return None if shape[-1] <= 127 else f"it is over {shape[-1]} channels, of which 127 are supported"


def _transpose_conv(op: Operator) -> str | None:
    strides = op.options.get("stride_width", 1), op.options.get("stride_height", 1)
    if reason := _parameters(op):
        return reason
    image, weights = (op.inputs[2] if len(op.inputs) > 2 else None), op.inputs[1]
    if image is None:
        return "its input is missing"
    if strides in ((1, 1), (2, 2)) or weights is None:
        return None
    flat = {(2, 1): 1, (1, 2): 2}.get(strides)
    if flat is not None and image.shape[flat : flat + 1] == weights.shape[flat : flat + 1] == (1,):
        return None
    return f"its stride is {strides[0]}x{strides[1]}"


def _resize(op: Operator) -> str | None:
    if factors := _factors(op):
        half = op.options.get("half_pixel_centers", 0) and op.name == "RESIZE_BILINEAR"
        if not factors <= ({2.0} if half else {2.0, 4.0, 8.0}):
            return f"it resizes {' and '.join(f'{factor:g}' for factor in sorted(factors))} times"
    return None


def _resize_u85(op: Operator) -> str | None:
    if op.options.get("align_corners", 0) and op.options.get("half_pixel_centers", 0):
        return "it has both aligned corners and half-pixel centres"
    powers = {2.0**power for power in range(12 if op.options.get("align_corners", 0) else 11)}
    most = max(powers)
    for factor in _factors(op):
        if factor > most or (op.name == "RESIZE_BILINEAR" and factor not in powers):
            return f"it resizes {factor:g} times"
    return None


def _factors(op: Operator) -> set[float]:
    """How many times larger height and width become; empty where any size is as good."""
    if not op.inputs or op.inputs[0] is None or not op.outputs or op.outputs[0] is None:
        return set()
    before, after = op.inputs[0].shape[1:3], op.outputs[0].shape[1:3]
    if before in ((1, 1), after):
        return set()
    less = bool(op.options.get("align_corners", 0))
    pairs = [(old - less, new - less) for old, new in zip(before, after, strict=False) if (old, new) != (1, 1)]
    return {new / old if old else float(new) for old, new in pairs}


def _batch_matmul(op: Operator) -> str | None:
    types = {tensor.type for tensor in op.inputs if tensor is not None}
    return None if types == {"INT8"} else "its inputs are not INT8"


RULES: Mapping[str, Rule] = {
    "ARG_MAX": _argmax,
    "AVERAGE_POOL_2D": _average_pool,
    "BATCH_MATMUL": _batch_matmul,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "ELU": _same_in_and_out("INT8"),
    "FULLY_CONNECTED": _dense,
    "GELU": _same_in_and_out("INT8", "UINT8"),
    "LOG": _same_in_and_out("INT8", "INT16"),
    "MAXIMUM": _equal_scales,
    "MAX_POOL_2D": _max_pool,
    "MEAN": _mean,
    "MINIMUM": _equal_scales,
    "MIRROR_PAD": _padding,
    "PAD": _padding,
    "PADV2": _padding,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "RSQRT": _rsqrt,
    "SLICE": _constant_parameters,
    "SOFTMAX": _softmax,
    "STRIDED_SLICE": _constant_parameters,
    "TRANSPOSE": _constant_parameters,
    "TRANSPOSE_CONV": _transpose_conv,
}
# What the U85 does that the others do not: no bound on strides, and other operators.
U85_RULES: Mapping[str, Rule] = {
    **{name: rule for name, rule in RULES.items() if name not in ("ARG_MAX", "BATCH_MATMUL")},
    "AVERAGE_POOL_2D": lambda op: _pool_kernel(op, 8),
    "CONV_2D": _parameters_u85,
    "DEPTHWISE_CONV_2D": _parameters_u85,
    "FULLY_CONNECTED": lambda op: _flat(op) or _parameters_u85(op),
    "MAX_POOL_2D": lambda op: _pool_kernel(op, 256),
    "RESIZE_BILINEAR": _resize_u85,
    "RESIZE_NEAREST_NEIGHBOR": _resize_u85,
    "TRANSPOSE_CONV": _parameters_u85,
}


def fallback_reason(op: Operator, family: str) -> str | None:
    """Why an operator does not run on an Ethos-U of a family, such as `ethos-u55`; None if it does."""
    u85 = family.endswith("85")
    if op.name not in BOTH and not (u85 and op.name in U85_ONLY):
        return f"an {family.replace('ethos-u', 'Ethos-U')} has no such operator"
    rule = (U85_RULES if u85 else RULES).get(op.name)
    return _tensor_reason(op, u85) or (rule(op) if rule else None)


def _tensor_reason(op: Operator, u85: bool) -> str | None:
    """What is wrong with its tensors."""
    if not any(True for _ in _feature_maps(op)):
        return "it has no input or no output"
    for tensor in op.tensors:
        if -1 in tensor.shape and not tensor.constant:
            return f"the shape of `{tensor.name}` is not known before it runs"
        if not (tensor.shape or tensor.constant):
            return f"`{tensor.name}` is a single number, without dimensions"
    for tensor in _feature_maps(op):
        if tensor.type not in (*INTEGERS, "BOOL")[: len(INTEGERS) + u85]:
            return f"`{tensor.name}` is {tensor.type}, and only integers are supported"
        if not u85 and tensor.type == "INT64" and op.name != "ARG_MAX":
            return f"`{tensor.name}` is INT64, and at most 32 bits are supported"
        if not u85 and tensor.type not in NARROW and op.name not in WIDE:
            return f"`{tensor.name}` is {tensor.type}, and at most 16 bits are supported"
    for index, tensor in enumerate(op.tensors):
        computed = tensor.type in NARROW and not (tensor.constant and index > 0 and tensor.type == "INT32")
        if computed and op.name not in UNSCALED and (not tensor.scales or min(tensor.scales) <= 0):
            return f"`{tensor.name}` is not quantised"
        if len(tensor.scales) > 1 and op.name not in PER_CHANNEL:
            return f"`{tensor.name}` has a scale for each channel"
    return None


def _feature_maps(op: Operator) -> Sequence[Tensor]:
    """What is computed; not weights and biases, and no constants such as axes."""
    inputs = op.inputs
    if op.name in PER_CHANNEL:
        inputs = op.inputs[2:3] if op.name == "TRANSPOSE_CONV" else op.inputs[:1]
    return [tensor for tensor in (*inputs, *op.outputs) if tensor is not None and not tensor.constant]
