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


def crop_boxes(augment: Augment, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Random crops (Szegedy et al., "Going deeper with convolutions", 2015, section 6).

    Returns:
        float32 of shape (batch, 4): top, left, bottom, right as shares of the image; left > right mirrors.
    """
    area = rng.uniform(*augment.area, batch)
    low_aspect, high_aspect = augment.aspect
    aspect = np.exp(rng.uniform(np.log(low_aspect), np.log(high_aspect), batch))
    most = 1.0 if augment.area[1] <= 1 else np.inf
    sides = np.minimum(np.sqrt([area / aspect, area * aspect]), most)
    low = rng.random(sides.shape) * (1 - sides)
    top, left = low
    bottom, right = low + sides
    mirror = (rng.random(batch) < 0.5) & augment.flip
    return np.stack([top, np.where(mirror, right, left), bottom, np.where(mirror, left, right)], axis=1).astype(
        np.float32
    )
