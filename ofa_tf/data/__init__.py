"""Data: sources, splits, preprocessing and training batches.

What follows loads without TensorFlow; sources (`data.source`) and batches (`data.batches`) do not.
"""

from ofa_tf.data.encoded import EncodedImageSet
from ofa_tf.data.images import Data, Images, ImageSet, Preprocessing

__all__ = ["Data", "EncodedImageSet", "ImageSet", "Images", "Preprocessing"]
