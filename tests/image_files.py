"""Images for tests, as files and in memory."""

from pathlib import Path

import numpy as np
from PIL import Image

from ofa_tf.data.decode import decode_square
from ofa_tf.data.encoded import EncodedImageSet, Records
from ofa_tf.data.images import ImageSet


def pixels(seed=0, size=16, channels=3):
    shape = (size, size, channels) if channels > 1 else (size, size)
    return np.random.default_rng(seed).integers(256, size=shape).astype(np.uint8)


def make_folder(root, counts, part="train", suffix="jpg"):
    """Makes `part/<class>/` with so many random images each; returns all paths."""
    paths = []
    for name, count in counts.items():
        folder = root / part / name
        folder.mkdir(parents=True)
        for index in range(count):
            paths.append(folder / f"{index:03}.{suffix}")
            Image.fromarray(pixels(len(paths))).save(paths[-1])
    return paths


def image_set(n=20, size=12):
    images = np.random.default_rng(1).integers(256, size=(n, size, size, 3)).astype(np.uint8)
    return ImageSet(images, np.arange(n, dtype=np.int32))


def encoded(paths):
    """The images of these files, each of a class of its own."""
    return EncodedImageSet(Records.of_files(paths), np.arange(len(paths), dtype=np.int32))


def decode(path, size):
    """The centre square of the image in a file."""
    return decode_square(Path(path).read_bytes(), size, str(path))


def identities(images):
    return [image.tobytes() for image in images.images]
