"""Small data sets that come as arrays: scikit-learn's digits, plain and on photographs, those of `keras.datasets`,
and Debian's Fashion-MNIST.
"""

import contextlib
import gzip
import importlib
import struct
import zlib
from pathlib import Path

import numpy as np

from ofa_tf.data import street_digits
from ofa_tf.data.images import ImageSet
from ofa_tf.data.in_memory import read_npz, write_npz
from ofa_tf.errors import DataError, FormatError
from ofa_tf.quiet import quiet

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # of the package `dataset-fashion-mnist`
MOST_PIXELS = 1 << 30
DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""
KERAS = {"mnist": DIGITS, "fashion_mnist": FASHION, "cifar10": CIFAR10, "cifar100": tuple(CIFAR100.split())}
STREET_DIGITS = "street-digits"
SOURCES = ("digits", STREET_DIGITS, *KERAS)


def load_digits() -> tuple[tuple[str, ...], ImageSet]:
    """Class names and the 1,797 handwritten digits that come with scikit-learn, 8 px."""
    from sklearn import datasets  # takes 1 s to import, and only this data set needs it

    digits = datasets.load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return DIGITS, _image_set(pixels, digits.target)


def load_street_digits(cache: Path | None) -> tuple[tuple[str, ...], dict[str, ImageSet]]:
    """Class names and images of `street-digits`, 32 px; drawing them takes a few seconds, so a cache keeps them.

    Args:
        cache: folder to keep them in, or None.
    """
    path = None if cache is None else cache / f"{STREET_DIGITS}-{street_digits.VERSION}.npz"
    if path is not None:
        with contextlib.suppress(DataError, FormatError):
            return read_npz(path)
    images = street_digits.load_street_digits(street_digits.N_TRAIN, street_digits.N_VAL)
    if path is not None:
        write_npz(path, DIGITS, images)
    return DIGITS, images


def load_keras(name: str) -> tuple[tuple[str, ...], ImageSet, ImageSet]:
    """Class names, training and test images of a data set of `keras.datasets`.

    Raises:
        DataError: it is not on this machine and cannot be downloaded.
    """
    if name == "fashion_mnist" and DEBIAN_FASHION_MNIST.is_dir():
        parts = [
            [read_idx(DEBIAN_FASHION_MNIST / f"{part}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")]
            for part in ("train", "t10k")
        ]
    else:
        try:
            with quiet():
                parts = importlib.import_module(f"keras.datasets.{name}").load_data()
        except Exception as error:  # whatever urllib, tarfile, pickle and NumPy raise
            raise DataError(
                f"The data set `{name}` is not on this machine and cannot be downloaded: {str(error).rstrip('.')}."
            ) from error
    classes = KERAS[name]
    for pixels, labels in parts:
        if len(pixels) != len(labels) or pixels.shape[1] != pixels.shape[2] or labels.max(initial=0) >= len(classes):
            raise DataError(f"The files of the data set `{name}` do not belong together: remove them.")
    train, test = (_image_set(pixels, labels) for pixels, labels in parts)
    return classes, train, test


def read_idx(path: Path) -> np.ndarray:
    """An array of bytes in the IDX format of the MNIST files, compressed with gzip.

    Raises:
        DataError: no such file, or one that is damaged.
    """
    try:
        with gzip.open(path) as file:
            zeros, kind, n_axes = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{n_axes}I", file.read(4 * n_axes))
            n_bytes = int(np.prod(shape, dtype=object))
            if zeros or kind != 8 or n_axes not in (1, 3) or n_bytes > MOST_PIXELS:
                raise DataError(f"{path} is damaged: it is not an IDX file of images or labels.")
            content = file.read(n_bytes + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{path} is damaged: {str(error).rstrip('.')}.") from None
    if len(content) != n_bytes:
        raise DataError(f"{path} is damaged: it does not hold the {n_bytes} bytes that it says.")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _image_set(pixels: np.ndarray, labels: np.ndarray) -> ImageSet:
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=3)
    return ImageSet(pixels, labels.ravel().astype(np.int32))
