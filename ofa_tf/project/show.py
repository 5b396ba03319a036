"""What any `.tflite` file is: `ofa-tf show`."""

from ofa_tf.tflite.describe import Description, describe_file

__all__ = ["Description", "describe_file"]
