"""What any `.tflite` file is: `ofa-tf show`."""

from ofa_tf.arena import ArenaSize
from ofa_tf.micro.plan import file_arena
from ofa_tf.tflite.describe import Description, describe_file

__all__ = ["Description", "describe_file", "predict_arena"]


def predict_arena(description: Description) -> ArenaSize | None:
    """The RAM that a file would take in TensorFlow Lite Micro, predicted; None if it cannot be told."""
    return file_arena(description.content)
