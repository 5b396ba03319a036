"""The table of what an Edge TPU runs: operator -> the rule it must keep.

Sources: the operator table and model requirements of the Edge TPU documentation (coral.ai/docs/edgetpu/models-intro),
reports about version 16.0, the last of the compiler, and what it maps in published files.
"""

from collections.abc import Mapping, Sequence
from math import prod

from ofa_tf.tflite.fallback import Rule, axes, integers, kernel
from ofa_tf.tflite.operators import Operator, Tensor

TOO_NEW = {"CONV_2D": 6, "FULLY_CONNECTED": 12, "EXP": 2}  # versions that compiler 16.0 is reported to refuse
MAY_STAY = {"RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}  # on the CPU, where their tensors are large
LARGE = 2**20  # elements; the documentation says "large" and gives no number
LSTM, STATES, CELL_STATE = "UNIDIRECTIONAL_SEQUENCE_LSTM", (18, 19), 19  # indices of inputs
WITH_BIAS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", LSTM}  # and weights, both constant
MOST_SOFTMAX = 16_384  # the documentation says 16,000; compiler 16.0 maps this many


def _no_fused_activation(op: Operator) -> str | None:
    return "it has a fused activation" if op.options.get("fused_activation", 0) else None


def _same_dilation(op: Operator) -> str | None:
    width, height = op.options.get("dilation_width", 1), op.options.get("dilation_height", 1)
    if width == height or 1 in kernel(op):  # where the kernel is 1 wide, dilation has no effect
        return None
    return f"its dilation differs in x ({width}) and y ({height})"


def _dense(op: Operator) -> str | None:
    if op.options.get("weights_format", 0):
        return "its weights are not in the default format"
    return None if _one_dimensional(op.outputs[:1]) else "its output has more than one dimension"


def _softmax(op: Operator) -> str | None:
    if not _one_dimensional(op.inputs[:1]):
        return "its input has more than one dimension"
    n = max((prod(tensor.shape) for tensor in op.tensors), default=0)
    return None if n <= MOST_SOFTMAX else f"it is over {n:,} elements, of which {MOST_SOFTMAX:,} are supported"


def _mean(op: Operator) -> str | None:
    reduced, rank, channels = axes(op)
    if 0 in reduced:
        return "it is over the batch"
    good = rank - 1 not in reduced or channels % 4 == 0
    return None if good else f"it is over {channels} channels, which is not a multiple of 4"


def _not_over_batch(op: Operator) -> str | None:
    return "it is over the batch" if 0 in axes(op)[0] else None


def _pack(op: Operator) -> str | None:
    return "it stacks along the batch" if op.options.get("axis", 0) == 0 else None


def _pad(op: Operator) -> str | None:
    return "it pads the batch" if any(integers(op, 1)[:2]) else None


def _prelu(op: Operator) -> str | None:
    return None if _one_dimensional(op.inputs[1:2]) else "its alpha has more than one dimension"


def _squeeze(op: Operator) -> str | None:
    if len(op.inputs) != 1 or op.inputs[0] is None or len(op.outputs) != 1 or op.outputs[0] is None:
        return "its tensors are not known"
    before, after = op.inputs[0].shape, op.outputs[0].shape
    leading = len(before) - len(after)
    good = before[leading:] == after and all(size == 1 for size in before[:leading])
    return None if good else "it takes out other dimensions than leading ones"


def _strides_of_one(op: Operator) -> str | None:
    strides = integers(op, 3)
    return None if strides and all(stride == 1 for stride in strides) else f"its strides are {strides}, not 1"


# fmt: off
ALWAYS = frozenset((
    "ADD", "EXPAND_DIMS", "L2_NORMALIZATION", "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "QUANTIZE", "RELU", "RELU6",
    "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SLICE", "SPACE_TO_DEPTH",
    "SPLIT", "SQUARED_DIFFERENCE", "SUB", "SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV",
))
# fmt: on
MAPPED = frozenset(("TILE", LSTM))  # by the compiler, in files that Coral publishes, but not documented
WITH_RULE: Mapping[str, Rule] = {
    "AVERAGE_POOL_2D": _no_fused_activation,
    "CONCATENATION": _no_fused_activation,
    "CONV_2D": _same_dilation,
    "DEPTHWISE_CONV_2D": _same_dilation,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _no_fused_activation,
    "MEAN": _mean,
    "PACK": _pack,
    "PAD": _pad,
    "PRELU": _prelu,
    "REDUCE_MAX": _not_over_batch,
    "REDUCE_MIN": _not_over_batch,
    "SOFTMAX": _softmax,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strides_of_one,
}


def _one_dimensional(tensors: Sequence[Tensor | None]) -> bool:
    return all(sum(size != 1 for size in tensor.shape) <= 1 for tensor in tensors if tensor is not None)


def _tensor_reason(op: Operator) -> str | None:
    """What is wrong with its tensors."""
    for tensor in op.tensors:
        if not tensor.constant and -1 in tensor.shape:
            return f"the shape of `{tensor.name}` is not known before it runs"
        if not _is_of_legal_type(op, tensor):
            return f"`{tensor.name}` is {tensor.type}, and only INT8 and UINT8 are supported"
        if not tensor.constant and len(tensor.shape) == 4 and tensor.shape[0] != 1:
            return f"`{tensor.name}` has a batch of {tensor.shape[0]}, not 1"
        if not tensor.constant and any(size != 1 for size in tensor.shape[:-3]):
            return f"`{tensor.name}` {list(tensor.shape)} has more than three dimensions larger than 1"
    computed = {"TRANSPOSE_CONV": (2,), LSTM: (0, *STATES)}.get(op.name, (0,))
    parameters = [tensor for index, tensor in enumerate(op.inputs) if index not in computed]
    if op.name in WITH_BIAS and not all(tensor is None or tensor.constant for tensor in parameters):
        return "its parameters are not constants"
    return None


def _is_of_legal_type(op: Operator, tensor: Tensor) -> bool:
    if tensor.type == "INT16":
        return op.name == LSTM and any(tensor is state for state in op.inputs[CELL_STATE : CELL_STATE + 1])
    return tensor.type in ("INT8", "UINT8") or (tensor.type == "INT32" and tensor.constant)


def fallback_reason(op: Operator) -> str | None:
    """Why an operator does not run on an Edge TPU; None if it does."""
    if op.name not in ALWAYS | MAPPED and op.name not in WITH_RULE:
        return "an Edge TPU has no such operator"
    rule = WITH_RULE.get(op.name)
    return _tensor_reason(op) or (rule(op) if rule else None)
