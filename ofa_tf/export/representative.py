"""The images that the ranges of int8 are taken from, and when a file takes raw pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ofa_tf.data import Images, Preprocessing
from ofa_tf.errors import ExportError

MOST_IMAGES, LEAST_IMAGES = 200, 32
MOST_MACS = 1.5e10  # of all images together, for which the interpreter of the converter takes about 5 s


@dataclass(frozen=True)
class Representative:
    """Images to take the ranges of activations from.

    Args:
        inputs: what the network sees, each of shape (1, resolution, resolution, 3).
        seed: the seed that they were drawn with.
    """

    inputs: list[np.ndarray] = field(repr=False)
    seed: int


def representative_inputs(
    images: Images, resolution: int, preprocessing: Preprocessing, seed: int, n_macs: int = 0
) -> Representative:
    """Draws training images, balanced over classes, at the resolution of a subnet.

    Args:
        images: to draw from; without labels they count as one class.
        resolution: height and width, in pixels.
        preprocessing: preprocessing of the pixels.
        seed: seed of the draw.
        n_macs: of the subnet; a large one gets fewer images, at least 32.

    Raises:
        ExportError: the images are of one colour.
    """
    count = MOST_IMAGES if not n_macs else int(np.clip(MOST_MACS / n_macs, LEAST_IMAGES, MOST_IMAGES))
    order = np.random.default_rng([seed, 7]).permutation(len(images))
    by_class = [order[images.labels[order] == label] for label in np.unique(images.labels)]
    turns = [members[turn] for turn in range(max(map(len, by_class))) for members in by_class if turn < len(members)]
    pixels = images.take(np.array(turns[:count])).resized(resolution).images
    if (pixels == pixels[:1, :1, :1]).all():
        raise ExportError(
            f"The {len(pixels)} representative images are all of one colour, {pixels[0, 0, 0].tolist()}: the ranges of "
            "int8 cannot be taken from them; give the workdir real images."
        )
    if even_range(preprocessing):
        pixels = _with_both_ends(pixels)
    return Representative([preprocessing(image[None]).numpy() for image in pixels], seed)


def even_range(preprocessing: Preprocessing) -> bool:
    """Whether `(pixel - mean) / std` is an int8 number as it stands: one whole `mean` from 0 to 255 and one `std`."""
    mean = preprocessing.mean[0]
    same = len(set(preprocessing.mean)) == len(set(preprocessing.std)) == 1
    return same and float(mean).is_integer() and 0 <= mean <= 255


def _with_both_ends(pixels: np.ndarray) -> np.ndarray:
    """With a black and a white pixel among them, so that 255 steps of the input's scale are 255 steps of a pixel."""
    pixels = pixels.copy()
    for place, value in enumerate((0, 255)):
        if not (pixels == value).any():
            pixels[0, 0, place] = value
    return pixels


def takes_raw_pixels(quantization: Mapping[str, float] | None, io: str, preprocessing: Preprocessing) -> bool:
    """Whether preprocessing and quantising leave a pixel as it is (uint8), or minus 128 (int8), for all 256 values.

    Args:
        quantization: `scale` and `zero_point` of the file's input; None for a float one.
        io: "int8" or "uint8".
        preprocessing: preprocessing of the pixels.
    """
    if quantization is None:
        return False
    shift = 128 if io == "int8" else 0
    values = np.arange(256)
    network_inputs = preprocessing(np.repeat(values[:, None], 3, axis=1)).numpy()
    stored = np.rint(network_inputs / quantization["scale"]) + quantization["zero_point"]
    return bool((stored == values[:, None] - shift).all())
