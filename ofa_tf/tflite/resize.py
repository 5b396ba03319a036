"""A `.tflite` file for images of another size, without converting the network again."""

import struct

from ofa_tf.errors import ExportError
from ofa_tf.tflite.inspect import read_root

SHAPE, SIGNATURE = 0, 7  # fields of a tensor


def resize_file(content: bytes, size: int) -> bytes:
    """The file with another height and width of its inputs, as `resize_tensor_input` has it at run time.

    The interpreter works out the shapes of all tensors; they are written over those of the file, which does not grow.

    Args:
        content: a `.tflite` file of convolutions, whose inputs have the shape (batch, height, width, channels).
        size: height and width in pixels.

    Raises:
        FormatError: not a `.tflite` file, or a damaged one.
        ExportError: the network cannot have inputs of that size.
    """
    graphs = read_root(content).tables(2)  # a file that is none is refused here, before the interpreter sees it
    shapes = _shapes_at(content, size)
    resized = bytearray(content)
    for tensor, shape in zip(graphs[0].tables(0), shapes, strict=False):  # the interpreter's own tensors come last
        for field in (SHAPE, SIGNATURE):
            start, count = tensor.span(field, 4)
            if count not in (0, len(shape)) or (field == SHAPE and count != len(shape)):
                raise ExportError(f"The file cannot be resized to {size} px: the rank of a tensor would change.")
            if count:
                struct.pack_into(f"<{count}i", resized, start, *shape)
    return bytes(resized)


def _shapes_at(content: bytes, size: int) -> list[list[int]]:
    """The shape of every tensor of the main graph, in the order of the file."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        interpreter = Interpreter(
            model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        for details in interpreter.get_input_details():
            batch, _, _, channels = details["shape"]
            interpreter.resize_tensor_input(details["index"], [batch, size, size, channels])
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"The file cannot be resized to {size} px: {str(error).strip().rstrip('.')}.") from None
    details = sorted(interpreter.get_tensor_details(), key=lambda tensor: tensor["index"])
    return [[int(length) for length in tensor["shape"]] for tensor in details]
