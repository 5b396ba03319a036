"""Published Once-for-All networks: what there is, downloads, PyTorch checkpoints, imports. Nothing here needs PyTorch.

`importing` and `specialized` need TensorFlow, the others do not.
"""

from ofa_tf.zoo.download import default_cache, fetch, file_sha256
from ofa_tf.zoo.torch_file import read_checkpoint, state_dict

__all__ = ["default_cache", "fetch", "file_sha256", "read_checkpoint", "state_dict"]
