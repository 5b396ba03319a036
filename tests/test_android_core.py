"""What of the Android app needs no phone: its JUnit tests, and the inputs that it makes of pictures."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from android_tools import JAVA_TOOLS, copied_sources, run
from PIL import Image

from ofa_tf.data import Images, Preprocessing
from ofa_tf.data.centre_crops import centre_crops
from ofa_tf.data.decode import decode_square
from ofa_tf.tflite.inspect import TensorFacts
from ofa_tf.tflite.run import quantise

PLAIN = Preprocessing()
IMAGENET = Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@dataclass(frozen=True)
class OnePicture(Images):
    """A file as a data set, decoded as ofa-tf decodes pictures."""

    content: bytes
    labels: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int32))

    def take(self, indices: np.ndarray) -> "OnePicture":
        return self

    def batches(self, size: int, resolution: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield decode_square(self.content, resolution, "picture")[None], self.labels

    def shorter_sides(self):
        raise NotImplementedError

    def crops(self, indices, crops, resolution):
        raise NotImplementedError


def pixels(width: int, height: int, channels: int, seed: int) -> np.ndarray:
    """A picture with edges, slopes and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    slope = (3 * x[..., None] + 5 * y[..., None] + 40 * np.arange(channels)) % 256
    noise = rng.integers(0, 256, (height, width, channels))
    return np.where((x // 7 + y // 5)[..., None] % 2, slope, noise).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", orientation: int = 0, **options) -> bytes:
    stream = io.BytesIO()
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(stream, kind, **options)
    return stream.getvalue()


def pictures() -> dict[str, bytes]:
    """Files by name: odd sizes, rotations, grey, alpha, palettes."""
    found = {}
    sizes = [(32, 32), (33, 57), (301, 199), (64, 64), (7, 5), (1, 1), (1, 90), (250, 251)]
    for number, (width, height) in enumerate(sizes):
        found[f"rgb-{width}x{height}.png"] = encoded(Image.fromarray(pixels(width, height, 3, number)))
    for orientation in range(1, 9):
        image = Image.fromarray(pixels(61, 83, 3, orientation))
        found[f"turned-{orientation}.png"] = encoded(image, orientation=orientation)
        found[f"turned-{orientation}.jpg"] = encoded(image, "JPEG", orientation, quality=95, subsampling=0)
    found["grey.png"] = encoded(Image.fromarray(pixels(90, 71, 1, 20)[..., 0]))
    found["grey.jpg"] = encoded(Image.fromarray(pixels(90, 71, 1, 21)[..., 0]), "JPEG")
    found["grey-alpha.png"] = encoded(Image.fromarray(pixels(45, 71, 2, 22), "LA"))
    found["alpha.png"] = encoded(Image.fromarray(pixels(99, 71, 4, 23)))
    found["palette.png"] = encoded(Image.fromarray(pixels(99, 71, 3, 24)).quantize(50))
    found["see-through-palette.png"] = encoded(Image.fromarray(pixels(77, 71, 4, 25)).quantize(50))
    return found


def expected_input(content: bytes, resolution: int, crop: float, how: Preprocessing, tensor: TensorFacts) -> bytes:
    ((square, _),) = centre_crops(OnePicture(content), crop).batches(1, resolution)
    return quantise(how(square).numpy(), tensor).tobytes()


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    """A folder of pictures and of the inputs that ofa-tf makes of them."""
    folder, written = tmp_path_factory.mktemp("pixels"), []
    tensors = [
        ("uint8", PLAIN, 1 / 128, 128),
        ("int8", PLAIN, 1 / 128, 0),
        ("float32", IMAGENET, 0.0, 0),
        ("int8", IMAGENET, 0.018658, -14),
        ("uint8", IMAGENET, 0.02, 114),
    ]
    for number, (name, content) in enumerate(pictures().items()):
        kind, how, scale, zero_point = tensors[number % len(tensors)]
        resolution, crop = ((32, 1.0), (48, 0.875), (65, 0.9))[number % 3]
        tensor = TensorFacts("image", (1, resolution, resolution, 3), kind.upper(), scale or None, zero_point)
        (folder / name).write_bytes(content)
        (folder / f"{name}.input").write_bytes(expected_input(content, resolution, crop, how, tensor))
        one = {"file": name, "expected": f"{name}.input", "type": kind, "resolution": resolution, "crop": crop}
        how_document = {"mean": how.mean, "std": how.std}
        written.append({**one, "scale": scale, "zero_point": zero_point, "preprocessing": how_document})
    (folder / "cases.json").write_text(json.dumps({"cases": written}))
    return folder


def test_what_needs_no_phone(cases, tmp_path):
    """All JUnit tests pass, and inputs are those of ofa-tf bit for bit."""
    folder = copied_sources(tmp_path / "app", JAVA_TOOLS)
    said = run("make", "test", f"PIXELS={cases}", folder=folder)
    counts = {what: int(n) for n, what in re.findall(r"\[ +(\d+) tests (\w+) +\]", said)}
    assert counts["failed"] == counts["aborted"] == counts["skipped"] == 0
    n_pictures = len(pictures())
    assert n_pictures >= 20
    assert len(re.findall(r"(?:png|jpg), (?:u?int8|float32) ✔", said)) == n_pictures
    assert counts["successful"] >= n_pictures + 90


def test_other_pixels_are_noticed(cases, tmp_path):
    """The comparison can fail: one bit of one input is turned over."""
    (changed,) = cases.glob("alpha.png.input")
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    folder = copied_sources(tmp_path / "app", JAVA_TOOLS)
    try:
        said = run("make", "test", f"PIXELS={cases}", folder=folder, status=2)
    finally:
        changed.write_bytes(content)
    assert re.search(r"alpha\.png, \w+ ✘", said)
    assert "1 tests failed" in said
