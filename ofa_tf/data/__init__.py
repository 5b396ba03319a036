"""Data: sources, splits, preprocessing and training batches."""

from ofa_tf.data.batches import training_batches
from ofa_tf.data.images import Data, ImageSet, Preprocessing
from ofa_tf.data.source import SOURCES, load_data

__all__ = ["SOURCES", "Data", "ImageSet", "Preprocessing", "load_data", "training_batches"]
