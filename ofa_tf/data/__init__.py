"""Data: sources, splits, preprocessing and training batches."""

from ofa_tf.data.batches import training_batches
from ofa_tf.data.encoded import EncodedImageSet
from ofa_tf.data.images import Data, Images, ImageSet, Preprocessing
from ofa_tf.data.source import SOURCES, load_data, load_images, load_validation, pack

__all__ = [
    "SOURCES",
    "Data",
    "EncodedImageSet",
    "ImageSet",
    "Images",
    "Preprocessing",
    "load_data",
    "load_images",
    "load_validation",
    "pack",
    "training_batches",
]
