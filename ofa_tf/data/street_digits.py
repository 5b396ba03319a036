"""The data set `street-digits`: digits on photographs, drawn from the data sets that come with scikit-learn.

The digits by themselves are so easy that the smallest network reads nearly all of them. Here each is rotated, scaled
and placed at random, in a random bright colour, on a crop of one of two photographs, next to parts of other digits. No
handwritten digit is in both the training and the validation images.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ofa_tf.data.images import ImageSet

VERSION = 1  # raised whenever the images change, so that an old cache is not used

SIZE = 32  # height and width, in pixels
N_TRAIN, N_VAL = 8000, 2000
VAL_SHARE = 0.2  # of the handwritten digits
HEIGHTS = 12, 20  # of a digit, in pixels
MAX_ROTATION = 25.0  # degrees
MIN_CONTRAST = 80.0  # by which a digit is brighter than what is behind it, on a scale of 255
DIMMED = 0.6  # brightness of the photographs, so that digits stand out
CROPS = 40, 200  # side of the crop that becomes the background, in pixels of the photograph
MAX_NEIGHBOURS = 2  # other digits, each mostly beyond the edge


def load_street_digits(n_train: int, n_val: int, seed: int = 0) -> dict[str, ImageSet]:
    """Draws the images of `train` and `val`; the same seed gives the same images.

    Args:
        n_train: number of training images.
        n_val: number of validation images.
        seed: seed for everything random.
    """
    from sklearn import datasets  # takes 1 s to import

    digits = datasets.load_digits()
    glyphs = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    photographs = [Image.fromarray(photograph) for photograph in datasets.load_sample_images().images]
    rng = np.random.default_rng([seed, 10])
    order = rng.permutation(len(glyphs))
    n_held_out = int(len(order) * VAL_SHARE)

    def draw(n: int, chosen: np.ndarray) -> ImageSet:
        rows = chosen[rng.integers(len(chosen), size=n)]
        others = glyphs[chosen]
        images = np.stack([_draw(rng, glyphs[row], others, photographs) for row in rows])
        return ImageSet(images, digits.target[rows].astype(np.int32))

    return {"train": draw(n_train, order[n_held_out:]), "val": draw(n_val, order[:n_held_out])}


def _draw(
    rng: np.random.Generator, glyph: np.ndarray, others: np.ndarray, photographs: Sequence[Image.Image]
) -> np.ndarray:
    """One image: uint8 of shape (SIZE, SIZE, 3)."""
    pixels = _background(rng, photographs[int(rng.integers(len(photographs)))])
    for _ in range(rng.integers(MAX_NEIGHBOURS + 1)):
        side = rng.choice([-1, 1])
        centre = (SIZE / 2 + side * rng.uniform(0.5, 0.75) * SIZE, rng.uniform(0.2, 0.8) * SIZE)
        pixels = _paint(rng, pixels, others[rng.integers(len(others))], centre)
    pixels = _paint(rng, pixels, glyph, (rng.uniform(0.38, 0.62) * SIZE, rng.uniform(0.38, 0.62) * SIZE))
    pixels = pixels + rng.normal(0, rng.uniform(0, 12), pixels.shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _background(rng: np.random.Generator, photograph: Image.Image) -> np.ndarray:
    """A random square of a photograph, mirrored half the time: float64 of shape (SIZE, SIZE, 3)."""
    side = int(rng.integers(CROPS[0], CROPS[1] + 1))
    left, top = (int(rng.integers(length - side + 1)) for length in photograph.size)
    crop = photograph.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    pixels = np.asarray(crop, np.float64) * DIMMED
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _paint(rng: np.random.Generator, pixels: np.ndarray, glyph: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """Paints a digit over an image, in a colour that stands out from what is behind it."""
    height = int(rng.integers(HEIGHTS[0], HEIGHTS[1] + 1))
    large = Image.fromarray(glyph).resize((height, height), Image.Resampling.BICUBIC)
    rotated = large.rotate(rng.uniform(-MAX_ROTATION, MAX_ROTATION), Image.Resampling.BICUBIC, expand=True)
    mask = Image.new("L", (SIZE, SIZE))
    mask.paste(rotated, (round(centre[0] - rotated.width / 2), round(centre[1] - rotated.height / 2)))
    alpha = np.asarray(mask, np.float64)[..., None] / 255
    behind = (pixels * alpha).sum((0, 1)) / max(alpha.sum(), 1e-9)
    return pixels * (1 - alpha) + _colour(rng, behind) * alpha


def _colour(rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    """A random colour, lightened until it stands out from the background or is white."""
    colour = rng.uniform(0, 255, 3)
    return np.minimum(colour + max(0.0, behind.mean() + MIN_CONTRAST - colour.mean()), 255)
