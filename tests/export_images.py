"""Images and networks for the tests of exports."""

import numpy as np

from ofa_tf.data import ImageSet, Preprocessing

PIXELS = Preprocessing()


def images_of(pixels, labels=None) -> ImageSet:
    """Images with these labels, or all of the first class."""
    labels = np.zeros(len(pixels)) if labels is None else labels
    return ImageSet(np.asarray(pixels, np.uint8), np.asarray(labels, np.int32))


def noise(n: int, size: int, low: int = 0, high: int = 256) -> np.ndarray:
    """Random images, the same every time: uint8 of shape (n, size, size, 3)."""
    return np.random.default_rng(0).integers(low, high, (n, size, size, 3)).astype(np.uint8)


def vivid(model):
    """Random statistics for every batch norm of a model."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if "BatchNormalization" in type(layer).__name__:
            shape = layer.gamma.shape
            low_high = ((0.5, 1.5), (-0.3, 0.3), (-0.3, 0.3), (0.5, 1.5))
            layer.set_weights([rng.uniform(low, high, shape) for low, high in low_high])
    return model
