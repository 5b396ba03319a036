"""Data: sources, splits, preprocessing and training batches."""

from ofa_tf.data.batches import training_batches
from ofa_tf.data.images import Data, ImageSet, Preprocessing
from ofa_tf.data.source import SOURCES, load_data, load_images

__all__ = ["SOURCES", "Data", "ImageSet", "Preprocessing", "load_data", "load_images", "training_batches"]
