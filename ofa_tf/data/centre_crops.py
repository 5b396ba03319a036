"""The middle of images, as published ImageNet networks are evaluated on it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ofa_tf.data.augment import Crops
from ofa_tf.data.images import Images


@dataclass(frozen=True)
class CentreCrops(Images):
    """Images of which only the middle is seen, but for training.

    A square of `resolution / share` pixels is made of an image, and `resolution` pixels are cut out of its middle.

    Args:
        images: the images.
        share: of the side of the centre square, above 0, at most 1.
    """

    images: Images
    share: float

    @property
    def labels(self) -> np.ndarray:  # type: ignore[override]
        return self.images.labels

    def take(self, indices: np.ndarray) -> "CentreCrops":
        return CentreCrops(self.images.take(indices), self.share)

    def batches(self, size: int, resolution: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        larger = larger_size(resolution, self.share)
        low = (larger - resolution) // 2
        for pixels, labels in self.images.batches(size, larger):
            yield pixels[:, low : low + resolution, low : low + resolution], labels

    def shorter_sides(self) -> np.ndarray:
        return self.images.shorter_sides()

    def crops(self, indices: np.ndarray, crops: Crops, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        return self.images.crops(indices, crops, resolution)


def larger_size(resolution: int, share: float) -> int:
    """Height and width of the square that a crop of `resolution` pixels is cut out of."""
    return round(resolution / share)


def centre_crops(images: Images, share: float) -> Images:
    """The images themselves where the share is 1, else their middle."""
    return images if share == 1 else CentreCrops(images, share)
