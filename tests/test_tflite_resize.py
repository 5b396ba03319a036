"""Files for images of another size."""

import numpy as np
import pytest
from ethosu_files import relu_file

from ofa_tf.errors import ExportError, FormatError
from ofa_tf.tflite.operators import read_operators
from ofa_tf.tflite.resize import resize_file


def shapes(content: bytes) -> list[tuple[int, ...]]:
    return [op.outputs[0].shape for op in read_operators(content) if op.outputs[0] is not None]


def test_all_shapes_follow_and_nothing_else_changes(clean):
    """The file runs at its new size, and is itself again when it is resized back."""
    from ai_edge_litert.interpreter import Interpreter

    (size,) = {op.inputs[0].shape[1] for op in read_operators(clean)[:1] if op.inputs[0] is not None}
    resized = resize_file(clean, size * 2)
    assert len(resized) == len(clean)
    assert resize_file(resized, size) == clean
    before, after = shapes(clean), shapes(resized)
    assert before != after
    images = [(old, new) for old, new in zip(before, after, strict=True) if len(old) == 4 and old[1] > 1]
    assert len(images) > 10
    assert all(new[1:3] == tuple(2 * n for n in old[1:3]) for old, new in images)
    assert before[-1] == after[-1]
    interpreter = Interpreter(model_content=resized)
    interpreter.allocate_tensors()
    (details,) = interpreter.get_input_details()
    assert details["shape"].tolist() == [1, 2 * size, 2 * size, 3]
    interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    interpreter.invoke()


def test_what_cannot_have_the_size_is_one_sentence():
    with pytest.raises(ExportError, match="cannot be resized to 9 px"):
        resize_file(relu_file(shape=(1, 10)), 9)
    fixed = relu_file(
        name="RESHAPE", shape=(1, 8, 8, 4), constants=[((2,), np.array([1, 256], np.int32))], out_shape=(1, 256)
    )
    with pytest.raises(ExportError, match="cannot be resized to 9 px"):
        resize_file(fixed, 9)
    with pytest.raises(FormatError):
        resize_file(b"no model", 9)
