"""Random changes of training images: what they may be, and how a step's are drawn."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ofa_tf.errors import FormatError


def require_number(name: str, value: Any, low: float, high: float) -> None:
    """Refuses what is not a number within the bounds, naming the recipe's field."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise FormatError(f"Recipe: `{name}` (={value!r}) must be a number from {low:g} to {high:g}.")


@dataclass(frozen=True)
class Augment:
    """Random changes of the training images.

    Args:
        area: smallest and largest share of the image that a random crop covers; above 1 it reaches beyond the edges.
        aspect: smallest and largest ratio of a crop's width to its height.
        flip: whether half of the images are mirrored.
        brightness: the largest share by which the pixels of an image are scaled up or down.
        saturation: the largest share by which its colours are moved away from grey or towards it.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    brightness: float = 0.0
    saturation: float = 0.0

    def __post_init__(self):
        for name in ("area", "aspect"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) != 2:
                raise FormatError(f"Recipe: `{name}` (={value!r}) must be two numbers.")
            for number in value:
                require_number(name, number, 0.01, 4)
            if value[0] > value[1]:
                raise FormatError(f"Recipe: `{name}` (={list(value)}) must be ascending.")
        if not isinstance(self.flip, bool):
            raise FormatError(f"Recipe: `flip` (={self.flip!r}) must be true or false.")
        for name in ("brightness", "saturation"):
            require_number(name, getattr(self, name), 0, 1)


@dataclass(frozen=True)
class Crops:
    """Random crops, drawn before the shapes of the images are known.

    Args:
        area: share of the image that each covers, float64 of shape (n,).
        aspect: ratio of width to height in pixels, float64 of shape (n,).
        place: share of the room that is left above and beside it, float64 of shape (2, n).
        mirror: whether it is mirrored, bool of shape (n,).
        longest: the largest share of a side of the image that it may take.
    """

    area: np.ndarray
    aspect: np.ndarray
    place: np.ndarray
    mirror: np.ndarray
    longest: float

    def take(self, rows: slice) -> "Crops":
        """Some of the crops."""
        return Crops(self.area[rows], self.aspect[rows], self.place[:, rows], self.mirror[rows], self.longest)

    def boxes(self, image_aspect: float = 1.0) -> np.ndarray:
        """The crops in images whose width is `image_aspect` times their height.

        Returns:
            float32 of shape (n, 4): top, left, bottom, right as shares of the image; left > right mirrors.
        """
        aspect = self.aspect / image_aspect
        sides = np.minimum(np.sqrt([self.area / aspect, self.area * aspect]), self.longest)
        low = self.place * (1 - sides)
        top, left = low
        bottom, right = low + sides
        left, right = np.where(self.mirror, right, left), np.where(self.mirror, left, right)
        return np.stack([top, left, bottom, right], axis=1).astype(np.float32)


def draw_crops(augment: Augment, batch: int, rng: np.random.Generator) -> Crops:
    """Random crops (Szegedy et al., "Going deeper with convolutions", 2015, section 6)."""
    area = rng.uniform(*augment.area, batch)
    low, high = np.log(augment.aspect)
    aspect = np.exp(rng.uniform(low, high, batch))
    place = rng.random((2, batch))
    mirror = (rng.random(batch) < 0.5) & augment.flip
    return Crops(area, aspect, place, mirror, 1.0 if augment.area[1] <= 1 else np.inf)


def draw_colours(augment: Augment, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Factors of brightness and saturation: float32 of shape (batch, 2)."""
    most = np.array([augment.brightness, augment.saturation])
    return rng.uniform(1 - most, 1 + most, (batch, 2)).astype(np.float32)
