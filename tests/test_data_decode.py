"""Decoding: every kind of image, crops, files that are damaged or hostile."""

import contextlib
import io
import struct
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from image_files import decode, pixels
from PIL import ExifTags, Image, ImageFile

from ofa_tf.data.augment import Augment, Crops, draw_crops
from ofa_tf.data.decode import check, decode_crop, decode_square, encode
from ofa_tf.errors import DataError

# --- kinds of images --------------------------------------------------------------------------------------------------


def test_every_kind_of_image_becomes_upright_rgb(tmp_path):
    grey = np.repeat(np.repeat(np.array([[0, 80], [160, 240]], np.uint8), 8, 0), 8, 1)
    expected = np.repeat(grey[..., None], 3, axis=2)
    path = tmp_path / "x"

    def save_and_compare(image, suffix, atol=0, **arguments):
        file = path.with_suffix(suffix)
        image.save(file, **arguments)
        actual = decode(file, 16)
        assert (actual.shape, actual.dtype) == ((16, 16, 3), np.uint8)
        np.testing.assert_allclose(actual.astype(int), expected, atol=atol)

    save_and_compare(Image.fromarray(grey), ".png")
    save_and_compare(Image.fromarray(grey).convert("LA"), ".png")
    save_and_compare(Image.fromarray(expected).convert("RGBA"), ".png")
    save_and_compare(Image.fromarray(expected).quantize(8, dither=Image.Dither.NONE), ".png", atol=2)
    save_and_compare(Image.fromarray(grey.astype(np.uint16) * 257), ".png")
    save_and_compare(Image.fromarray(grey.astype(np.uint16) * 257 + 100), ".tif")
    save_and_compare(Image.fromarray(grey.astype(np.int32) * 257 - 100), ".tif")
    save_and_compare(Image.fromarray(grey), ".jpg", atol=3)
    save_and_compare(Image.fromarray(expected).convert("CMYK"), ".jpg", atol=6)
    frames = {"save_all": True, "append_images": [Image.new("RGB", (16, 16), "white")] * 2}
    save_and_compare(Image.fromarray(grey), ".gif", **frames)
    save_and_compare(Image.fromarray(expected), ".webp", lossless=True, **frames)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: to be shown clockwise
    save_and_compare(Image.fromarray(np.rot90(expected)), ".png", exif=exif)
    save_and_compare(Image.fromarray(np.rot90(expected)), ".jpg", atol=3, exif=exif)
    save_and_compare(Image.fromarray(np.rot90(grey.astype(np.uint16) * 257)), ".png", exif=exif)


def test_colours_behind_transparency_are_kept_without_a_warning(tmp_path):
    image = Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8), 4).reshape(4, 4), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    for suffix, transparency in ((".png", bytes([0, 128, 255, 255])), (".png", 1), (".gif", 1)):
        path = (tmp_path / "x").with_suffix(suffix)
        image.save(path, transparency=transparency)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            actual = decode(path, 4)
        np.testing.assert_array_equal(actual[:, 0], np.arange(10, 130, 10).reshape(4, 3))


def test_the_centre_square_is_taken(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = pixels(size=10)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    np.testing.assert_array_equal(decode(tmp_path / "wide.png", 10), pixels(size=10))
    np.testing.assert_array_equal(decode(tmp_path / "tall.png", 10), pixels(size=10).transpose(1, 0, 2))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 1000)])
def test_the_thinnest_images_are_decoded(tmp_path, shape):
    Image.fromarray(np.full((*shape, 3), 77, np.uint8)).save(tmp_path / "thin.png")
    assert (decode(tmp_path / "thin.png", 8) == 77).all()
    content = (tmp_path / "thin.png").read_bytes()
    crops = draw_crops(Augment(), 30, np.random.default_rng(0))
    for row in range(30):
        assert (decode_crop(content, crops.take(slice(row, row + 1)), 8, "thin") == 77).all()


# --- crops ------------------------------------------------------------------------------------------------------------


def one_crop(area=1.0, aspect=1.0, place=(0.0, 0.0), mirror=False, longest=1.0):
    return Crops(np.array([area]), np.array([aspect]), np.array(place)[:, None], np.array([mirror]), longest)


def test_a_crop_is_cut_out_of_the_whole_image(tmp_path):
    image = pixels(size=40)[:20]  # 40 wide, 20 high
    Image.fromarray(image).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    quarter = 10 * 10 / (40 * 20)
    for place, top, left in (((0, 0), 0, 0), ((1, 1), 10, 30), ((0.5, 0.2), 5, 6)):
        cut = decode_crop(content, one_crop(quarter, place=place), 10, "x")
        np.testing.assert_array_equal(cut, image[top : top + 10, left : left + 10])
        mirrored = decode_crop(content, one_crop(quarter, place=place, mirror=True), 10, "x")
        np.testing.assert_array_equal(mirrored, cut[:, ::-1])
    wide = decode_crop(content, one_crop(2 * quarter, aspect=2.0, place=(0, 1)), 10, "x")
    np.testing.assert_allclose(wide.mean(), image[:10, 20:].mean(), atol=1)


def test_what_lies_beyond_the_edges_is_black(tmp_path):
    Image.new("RGB", (20, 20), "white").save(tmp_path / "x.png")
    cut = decode_crop((tmp_path / "x.png").read_bytes(), one_crop(4.0, place=(0.5, 0.5), longest=np.inf), 40, "x")
    expected = np.zeros((40, 40, 3))
    expected[10:30, 10:30] = 255
    np.testing.assert_array_equal(cut, expected)


def test_crops_of_upright_images_and_of_drafts(tmp_path):
    """A large JPEG is decoded at a part of its size; that hardly shows."""
    y, x = np.mgrid[0:600, 0:800]
    image = np.stack([x / 4, y / 3, (x + y) / 7], axis=2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    for turned, arguments in ((image, {}), (np.rot90(image), {"exif": exif})):
        Image.fromarray(turned).save(tmp_path / "x.jpg", quality=95, **arguments)
        content = (tmp_path / "x.jpg").read_bytes()
        for crop, (top, left, bottom, right) in (
            (one_crop(place=(0, 0)), (0, 0, 600, 692)),
            (one_crop(0.25, 4 / 3, (1, 1)), (300, 400, 600, 800)),
        ):
            expected = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR, (left, top, right, bottom))
            actual = decode_crop(content, crop, 32, "x")
            np.testing.assert_allclose(actual.astype(int), np.asarray(expected).astype(int), atol=4)
        exact, draft = (decode_square(content, 32, "x", exact).astype(int) for exact in (True, False))
        np.testing.assert_allclose(draft, exact, atol=3)


# --- damaged and hostile ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "tif"])
def test_damaged_images_are_refused_or_decoded(tmp_path, suffix):
    path, rng = tmp_path / f"x.{suffix}", np.random.default_rng(0)
    Image.fromarray(pixels(size=12)).save(path)
    content = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(content)
        for position in rng.integers(len(content), size=rng.integers(1, 6)):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(1, len(damaged) + 1)] if rng.random() < 0.3 else damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(DataError):
                assert decode(path, 8).shape == (8, 8, 3)


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(DataError, match=r"bomb\.png cannot be read as an image"):
        decode(tmp_path / "bomb.png", 16)


def claims(width: int, height: int) -> bytes:
    """A JPEG of some bytes whose header says another size."""
    stream = io.BytesIO()
    Image.new("RGB", (70, 50)).save(stream, "JPEG")
    content = stream.getvalue()
    place = content.find(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


def test_the_number_of_pixels_is_limited_before_they_are_decoded(monkeypatch):
    contents = [claims(65500, 2700), claims(60000, 60000)]
    monkeypatch.setattr(Image.Image, "load", None)
    for content in contents:
        for read in (partial(decode_square, size=32), partial(decode_square, size=32, exact=False), check):
            with pytest.raises(DataError, match=r"x cannot be read as an image: .*pixels"):
                read(content, name="x")


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_at_half_its_size(monkeypatch, orientation):
    slope = np.linspace(0, 255, 400) + np.zeros((200, 1))
    image, exif = Image.fromarray(np.repeat(slope.astype(np.uint8)[..., None], 3, 2)), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, exif=exif)
    crop = one_crop(0.9, 1.0, (0.5, 0.5))
    ways = [
        partial(decode_square, stream.getvalue(), 150, "x"),
        partial(decode_crop, stream.getvalue(), crop, 150, "x"),
    ]
    expected = [way().astype(int) for way in ways]
    monkeypatch.setattr("ofa_tf.data.decode.MOST_DECODED", 200 * 400 - 1)
    sizes = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda file: sizes.append(file.size) or load(file))
    for way, values in zip(ways, expected, strict=True):
        np.testing.assert_allclose(way().astype(int), values, atol=12)
    assert sizes[0] == (200, 100)


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr("ofa_tf.data.decode.LARGE", 99)
    seen, most = [], []

    def load(file, load=ImageFile.ImageFile.load):
        seen.append(file)
        most.append(len(seen))
        time.sleep(0.02)
        seen.pop()
        return load(file)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    content = encode(np.zeros((10, 10, 3), np.uint8))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: decode_square(content, 8, "x"), range(8)))
    assert max(most) == 1


def test_a_program_in_the_place_of_an_image_is_not_run(tmp_path):
    (tmp_path / "x.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"x\.jpg cannot be read as an image: its format is none of JPEG, PNG"):
        decode(tmp_path / "x.jpg", 16)
