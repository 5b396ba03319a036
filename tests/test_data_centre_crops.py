"""The middle of images, for published networks."""

import json

import numpy as np
import pytest
from image_files import encoded, make_folder

from ofa_tf.data import ImageSet
from ofa_tf.data.centre_crops import CentreCrops, centre_crops, larger_size
from ofa_tf.errors import FormatError
from ofa_tf.project.workdir import Config, Workdir


def frames(n: int = 3, size: int = 64, border: int = 4) -> ImageSet:
    """Grey images with a white border."""
    pixels = np.full((n, size, size, 3), 255, np.uint8)
    pixels[:, border:-border, border:-border] = 128
    return ImageSet(pixels, np.arange(n, dtype=np.int32))


def test_the_border_is_cut_off_and_the_rest_keeps_its_place():
    crops = centre_crops(frames(), 0.875)
    ((pixels, labels),) = crops.batches(3, 56)
    assert pixels.shape == (3, 56, 56, 3)
    assert (pixels == 128).all()
    assert labels.tolist() == [0, 1, 2]
    ((smaller, _),) = crops.batches(3, 28)
    assert smaller.shape == (3, 28, 28, 3)
    assert (smaller[:, 1:-1, 1:-1] == 128).all()
    ((whole, _),) = frames().batches(3, 56)
    assert whole.max() == 255


def test_it_is_what_resizing_and_cutting_gives(tmp_path):
    images = encoded(make_folder(tmp_path, {"a": 2}))
    assert larger_size(12, 0.75) == 16
    ((larger, _),) = images.batches(2, 16)
    crops = CentreCrops(images, 0.75).take(np.array([1, 0]))
    ((pixels, labels),) = crops.batches(2, 12)
    np.testing.assert_array_equal(pixels, larger[::-1, 2:-2, 2:-2])
    assert labels.tolist() == [1, 0] == crops.labels.tolist()
    np.testing.assert_array_equal(crops.resized(12).images, pixels)
    assert (len(crops), crops.labelled, crops.shorter_sides().tolist()) == (2, True, [16, 16])


def test_a_share_of_one_changes_nothing():
    images = frames()
    assert centre_crops(images, 1.0) is images


def test_the_config_remembers_the_share(workdir):
    path = Workdir(workdir).config_path
    document = json.loads(path.read_text())
    assert "crop" not in document
    path.write_text(json.dumps({**document, "crop": 0.875}))
    config = Config.load(path)
    assert (config.crop, config.to_document()["crop"]) == (0.875, 0.875)
    path.write_text(json.dumps({**document, "crop": 2}))
    with pytest.raises(FormatError, match=r"`crop` \(=2\) must be a number from 0.1 to 1"):
        Config.load(path)
