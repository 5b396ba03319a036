"""Decodes one image to pixels: upright, RGB, 8 bits. Everything that reads images goes through here."""

import io
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ofa_tf.data.augment import Crops
from ofa_tf.errors import DataError
from ofa_tf.limits import LARGE, MOST_DECODED, MOST_JPEG

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # Pillow knows others, of which one runs a program
GAP = 2.0  # a JPEG is decoded at an eighth, a quarter or half of its size if that is this many times the size needed
BILINEAR = Image.Resampling.BILINEAR
JPEG_QUALITY = 95

_large = threading.Lock()

Image.init()  # loads the formats; it is not safe in threads


def decode_square(content: bytes, size: int, name: str, exact: bool = True) -> np.ndarray:
    """The centre square of an image, resized.

    Args:
        content: the file.
        size: height and width wanted, in pixels.
        name: name of the image, for messages.
        exact: whether a large JPEG is decoded at its full size.

    Returns:
        uint8 of shape (size, size, 3).

    Raises:
        DataError: the file is not an image that can be read in full.
    """
    with _opened(content, name) as file:
        if not exact or math.prod(file.size) > MOST_DECODED:
            _draft(file, size * GAP, size * GAP)
        return np.asarray(ImageOps.fit(_upright_rgb(file), (size, size), BILINEAR))


def decode_crop(content: bytes, crop: Crops, size: int, name: str) -> np.ndarray:
    """A crop of an image, resized.

    Args:
        content: the file.
        crop: one crop; what lies beyond the edges is black.
        size: height and width wanted, in pixels.
        name: name of the image, for messages.

    Returns:
        uint8 of shape (size, size, 3).

    Raises:
        DataError: the file is not an image that can be read in full.
    """
    with _opened(content, name) as file:
        width, height = _upright_size(file)
        ((top, left, bottom, right),) = crop.boxes(width / height).tolist()
        _draft(file, GAP * size / abs(right - left), GAP * size / (bottom - top))
        image = _upright_rgb(file)
        box = [round(share * side, 2) for share, side in zip((left, top, right, bottom), image.size * 2, strict=True)]
        box[0], box[2] = sorted((box[0], box[2]))
        low = [math.floor(value) for value in box[:2]]
        high = [max(math.ceil(value), least + 1) for value, least in zip(box[2:], low, strict=True)]
        inner = [value - least for value, least in zip(box, low * 2, strict=True)]
        part = image.crop((*low, *high)).resize((size, size), BILINEAR, box=tuple(inner), reducing_gap=GAP)
        return np.asarray(ImageOps.mirror(part) if left > right else part)


def check(content: bytes, name: str) -> None:
    """Decodes an image and forgets it.

    Raises:
        DataError: the file is not an image that can be read in full.
    """
    with _opened(content, name) as file:
        _draft(file, 1, 1)
        _upright_rgb(file)


def shorter_side(content: bytes, name: str) -> int:
    """The shorter side of an image in pixels, read from its header.

    Raises:
        DataError: the file is not an image.
    """
    with _opened(content, name) as file:
        return min(file.size)


def shrink(content: bytes, side: int, name: str) -> bytes:
    """The image as a JPEG whose shorter side is `side` pixels; the same bytes if it is no longer than that.

    Raises:
        DataError: the file is not an image that can be read in full.
    """
    with _opened(content, name) as file:
        scale = side / min(file.size)
        if scale < 1:
            _draft(file, side * GAP, side * GAP)
        image = _upright_rgb(file)
        if scale >= 1:
            return content
        scale = side / min(image.size)
        width, height = (max(side, round(length * scale)) for length in image.size)
        smaller, stream = image.resize((width, height), BILINEAR, reducing_gap=GAP), io.BytesIO()
        smaller.save(stream, "JPEG", quality=JPEG_QUALITY)
        return stream.getvalue()


def encode(pixels: np.ndarray) -> bytes:
    """uint8 pixels of shape (height, width, 3) as a PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            n_pixels, most = math.prod(file.size), MOST_JPEG if file.format == "JPEG" else MOST_DECODED
            if n_pixels > most:
                raise DataError(f"it has {n_pixels} pixels, more than {most}")
            with _large if n_pixels > LARGE else nullcontext():
                yield file
    except UnidentifiedImageError as error:
        raise DataError(f"{name} cannot be read as an image: its format is none of {', '.join(FORMATS)}.") from error
    except Exception as error:  # Pillow's decoders raise some ten kinds for broken files
        raise DataError(f"{name} cannot be read as an image: {str(error).rstrip('.')}.") from error


def _turned(file: Image.Image) -> bool:
    return file.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)


def _upright_size(file: Image.Image) -> tuple[int, int]:
    return file.size[::-1] if _turned(file) else file.size


def _draft(file: Image.Image, width: float, height: float) -> None:
    """Has a JPEG decoded at the smallest of its sizes that is at least this large, seen upright, or that may be."""
    if file.format == "JPEG":
        if math.prod(file.size) > MOST_DECODED:
            most = _upright_size(file)
            width, height = min(width, most[0] / 2), min(height, most[1] / 2)
        least = (math.ceil(width), math.ceil(height))
        file.draft(None, least[::-1] if _turned(file) else least)


def _upright_rgb(file: Image.Image) -> Image.Image:
    file.load()
    ImageOps.exif_transpose(file, in_place=True)
    image = file
    if image.mode.startswith("I"):  # 16 bits, which `convert` would clip
        image = Image.fromarray(np.rint(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
