"""Published Once-for-All networks: downloads and PyTorch checkpoints; nothing here needs TensorFlow or PyTorch."""

from ofa_tf.zoo.download import default_cache, fetch, file_sha256
from ofa_tf.zoo.torch_file import read_checkpoint, state_dict

__all__ = ["default_cache", "fetch", "file_sha256", "read_checkpoint", "state_dict"]
