"""Data sets by name: keras.datasets, Debian's Fashion-MNIST, tensorflow-datasets, and shards of other programs."""

import gzip
import os
import struct
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import identities, pixels
from small_project import Hook

from ofa_tf.data import EncodedImageSet
from ofa_tf.data.arrays import DEBIAN_FASHION_MNIST, KERAS, read_idx
from ofa_tf.data.decode import encode
from ofa_tf.data.encoded import Records
from ofa_tf.data.rules import FIRST
from ofa_tf.data.shards import open_shards, open_tfds
from ofa_tf.data.source import load_data, load_images
from ofa_tf.errors import DataError, MissingDependencyError
from ofa_tf.progress import SILENT
from ofa_tf.project.data import pack
from ofa_tf.quiet import quiet

# --- keras.datasets ---------------------------------------------------------------------------------------------------


def arrays(n, shape, n_classes=10):
    rng = np.random.default_rng(n)
    labels = np.arange(n) % n_classes
    return rng.integers(256, size=(n, *shape)).astype(np.uint8), labels[:, None] if len(shape) == 3 else labels


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mnist", (28, 28)), ("fashion_mnist", (28, 28)), ("cifar10", (32, 32, 3)), ("cifar100", (32, 32, 3))],
)
def test_data_sets_of_keras_keep_their_split(monkeypatch, tmp_path, name, shape):
    n_classes = len(KERAS[name])
    train, test = arrays(400, shape, n_classes), arrays(150, shape, n_classes)
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: (train, test))
    monkeypatch.setattr("ofa_tf.data.arrays.DEBIAN_FASHION_MNIST", tmp_path / "absent")
    data = load_data(name, 64)
    assert [len(part) for part in (data.train, data.tune, data.val)] == [360, 40, 150]
    assert (len(data.classes), len(set(data.classes))) == (n_classes, n_classes)
    assert data.val.images.shape == (150, *shape[:2], 3), "small images are not enlarged"
    np.testing.assert_array_equal(data.val.images[..., 0], test[0] if len(shape) == 2 else test[0][..., 0])
    np.testing.assert_array_equal(data.val.labels, test[1].ravel())
    assert data.train.labels.dtype == np.int32
    assert load_data(name, 16).val.images.shape == (150, 16, 16, 3)
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: (train, (test[0], test[1][:-1])))
    with pytest.raises(DataError, match=f"The files of the data set `{name}` do not belong together"):
        load_data(name, 16)


def test_a_download_that_fails_is_one_sentence(ofa, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path / "keras"))
    run = ofa("train", "--workdir", tmp_path / "work", "--data", "cifar10")
    assert run.code == 2
    assert run.err.splitlines()[-1].startswith(
        "Error: The data set `cifar10` is not on this machine and cannot be down"
    )
    assert "Traceback" not in run.err
    assert not (tmp_path / "work").exists()


# --- IDX files --------------------------------------------------------------------------------------------------------


def idx(array, n_bytes=None):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes()[:n_bytes])


@pytest.fixture
def debian(tmp_path, monkeypatch):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for part, (images, labels) in (("train", arrays(100, (28, 28))), ("t10k", arrays(30, (28, 28)))):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels.astype(np.uint8)))
    monkeypatch.setattr("ofa_tf.data.arrays.DEBIAN_FASHION_MNIST", folder)
    return folder


def test_debians_files_are_taken_first(debian):
    data = load_data("fashion_mnist", 32)
    assert [len(part) for part in (data.train, data.tune, data.val)] == [90, 10, 30]
    np.testing.assert_array_equal(data.val.images[..., 1], arrays(30, (28, 28))[0])
    assert data.classes[0] == "T-shirt/top"
    (debian / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(29, np.uint8)))
    with pytest.raises(DataError, match="do not belong together"):
        load_data("fashion_mnist", 32)


@pytest.mark.skipif(
    not DEBIAN_FASHION_MNIST.is_dir() and "CI" not in os.environ, reason="needs Debian's package dataset-fashion-mnist"
)
def test_the_real_fashion_mnist_is_found():
    data = load_data("fashion_mnist", 32)
    assert [len(part) for part in (data.train, data.tune, data.val)] == [54_000, 6_000, 10_000]
    assert np.bincount(data.val.labels).tolist() == [1000] * 10
    assert 70 < data.train.images.mean() < 76


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b""),
        gzip.compress(b"\0\0\x08"),
        gzip.compress(struct.pack(">HBBI", 0, 8, 3, 5)),
        gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)),
        gzip.compress(struct.pack(">HBB3I", 0, 9, 3, 1, 1, 1) + b"x"),
        gzip.compress(struct.pack(">HBB", 0, 8, 255) + bytes(4 * 255)),
        idx(np.zeros((5, 4, 4), np.uint8), 79),
        idx(np.zeros((5, 4, 4), np.uint8))[:-9],
    ],
)
def test_damaged_idx_files_are_refused(debian, content):
    path = debian / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path} is damaged"):
        load_data("fashion_mnist", 32)
    path.unlink()
    with pytest.raises(DataError, match=rf"{path} is damaged: .*No such file"):
        load_data("fashion_mnist", 32)


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_hostile_idx_files_are_refused_or_read(tmp_path, data):
    content = bytearray(idx(np.arange(32, dtype=np.uint8).reshape(2, 4, 4)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "x.gz").write_bytes(content)
    try:
        array = read_idx(tmp_path / "x.gz")
    except DataError:
        return
    assert array.dtype == np.uint8


# --- shards of other programs -----------------------------------------------------------------------------------------


def example(content, label, image="image/encoded", number="image/class/label"):
    features = {image: tf.train.Feature(bytes_list=tf.train.BytesList(value=content))}
    features[number] = tf.train.Feature(int64_list=tf.train.Int64List(value=label))
    features["image/height"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[16]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_shard(path, records, compression=""):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)


@pytest.fixture
def shards(tmp_path):
    """60 training images in two shards and 6 for validation; the classes are 1, 5 and 7."""
    labels = (1, 5, 7)
    for part, numbers in (("train", range(60)), ("validation", range(60, 66))):
        for half in range(2):
            records = [example([encode(pixels(n))], [labels[n % 3]]) for n in list(numbers)[half::2]]
            write_shard(tmp_path / f"{part}-{half:05}-of-00002.tfrecord", records)
    return tmp_path


def test_shards_of_other_programs_are_scanned_once(shards, monkeypatch):
    cache = shards / "cache"
    data = load_data(str(shards), 16, cache=cache)
    assert data.classes == ("1", "5", "7")
    found = {
        image: label
        for part in (data.train, data.tune)
        for image, label in zip(identities(part), part.labels, strict=True)
    }
    assert found == {pixels(n).tobytes(): n % 3 for n in range(60)}
    assert [pixels(n).tobytes() for n in (60, 62, 64, 61, 63, 65)] == identities(data.val)
    monkeypatch.setattr("ofa_tf.data.shards._scan_one", None)
    again = load_data(str(shards), 16, cache=cache)
    assert identities(again.train) == identities(data.train)
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(TypeError):
        load_data(str(shards), 16, cache=cache)
    monkeypatch.undo()
    assert identities(load_data(str(shards), 16, cache=cache).train) == identities(data.train)


def test_shards_and_packs_serve_networks_whose_classes_are_given(shards, monkeypatch):
    monkeypatch.setattr("ofa_tf.data.source.LEAST_IMAGES", 50)
    pack(str(shards), shards / "packed")
    for folder in (shards, shards / "packed"):
        data = load_images(str(folder), ("7", "x", "5", "1"), 16)
        assert set(data.train.labels) == {0, 2, 3}
    with pytest.raises(DataError, match="the class '7', which is not a class of the network"):
        load_images(str(shards), ("1", "5", "x"), 16)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (example([b"x"], [-1]), r"Record 2 of .*has the label -1: labels must not be negative"),
        (example([b"x"], [1 << 40]), r"Record 2 of .*has the label 1099511627776"),
        (example([b"x"], [1, 2]), r"Record 2 of .* must have one image in `image/encoded` and one integer"),
        (example([], [1]), r"Record 2 of .* must have one image"),
        (example([b"x"], [1], image="picture"), r"Record 2 of .* must have one image in `image/encoded`"),
        (b"no example", r"Record 2 of .* is not a tf.train.Example"),
    ],
)
def test_records_that_cannot_be_used_are_named(tmp_path, record, message):
    write_shard(tmp_path / "train.tfrecord", [example([b"x"], [0])] * 2 + [record])
    with pytest.raises(DataError, match=message):
        open_shards(tmp_path, None, SILENT)


@pytest.mark.parametrize("damage", ["flipped", "short", "compressed"])
def test_damaged_shards_are_named(shards, damage):
    path = shards / "train-00001-of-00002.tfrecord"
    content = bytearray(path.read_bytes())
    if damage == "compressed":
        write_shard(path, [example([b"x"], [0])], "GZIP")
    elif damage == "short":
        path.write_bytes(content[:-3])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    message = rf"{path} is damaged or compressed: it cannot be read after record"
    with pytest.raises(DataError, match=message):
        load_data(str(shards), 16, cache=shards / "cache")
    assert not (shards / "cache").exists()


def test_shards_called_valid_are_for_validation_and_others_are_noted(shards):
    for path in shards.glob("validation-*"):
        path.rename(path.with_name(path.name.replace("validation", "valid")))
    write_shard(shards / "test.tfrecord", [example([b"x"], [1])])
    hook = Hook()
    assert len(load_data(str(shards), 16, progress=hook).val) == 6
    used = "train-00000-of-00002.tfrecord and valid-00000-of-00002.tfrecord"
    assert hook.notes == [f"{shards} has shards that are not used, such as test.tfrecord, beside {used}."]
    (shards / "test.tfrecord").unlink()
    assert len(load_data(str(shards), 16, rules=FIRST).tune) == 5, "`valid` is not used, and a tenth of `train` is"


def test_shards_need_a_training_part_with_images(tmp_path):
    write_shard(tmp_path / "test.tfrecord", [example([b"x"], [0])])
    with pytest.raises(DataError, match=r"has no train\*\.tfrecord beside test\.tfrecord"):
        load_data(str(tmp_path), 16)
    write_shard(tmp_path / "train.tfrecord", [])
    with pytest.raises(DataError, match="has 0 images in `train`"):
        load_data(str(tmp_path), 16)
    with pytest.raises(DataError, match="has 0 images in `train`"):
        load_images(str(tmp_path), ("0", "1"), 16)


def test_a_shard_that_shrinks_while_it_is_used_is_named(shards):
    images = open_shards(shards, None, SILENT)["train"][1]
    assert isinstance(images, EncodedImageSet)
    path = shards / "train-00001-of-00002.tfrecord"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(
        DataError, match=rf"{path}, the image at byte \d+, cannot be read: the file ends before the image does"
    ):
        images.resized(16)
    assert isinstance(images.records, Records)


# --- tensorflow-datasets ----------------------------------------------------------------------------------------------


def test_a_data_set_of_tensorflow_datasets(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")

    def part(numbers):
        signature = {"picture": tf.TensorSpec((None, None, 3), tf.uint8), "kind": tf.TensorSpec((), tf.int64)}
        examples = [{"picture": pixels(n), "kind": n % 2} for n in numbers]
        return tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=signature)

    picture, kind = tfds.features.Image(shape=(None, None, 3)), tfds.features.ClassLabel(names=["cat", "dog"])
    with quiet():
        tfds.dataset_builders.store_as_tfds_dataset(
            name="small_pets",
            version="1.0.0",
            data_dir=tmp_path,
            features=tfds.features.FeaturesDict({"picture": picture, "kind": kind}),
            split_datasets={"train": part(range(40)), "test": part(range(40, 48))},
            disable_shuffling=True,
        )
    tfds.core.add_data_dir(tmp_path)
    data = load_data("tfds:small_pets", 16, cache=tmp_path / "cache")
    assert data.classes == ("cat", "dog")
    assert identities(data.val) == [pixels(n).tobytes() for n in range(40, 48)]
    assert data.val.labels.tolist() == [0, 1] * 4
    assert {*identities(data.train), *identities(data.tune)} == {pixels(n).tobytes() for n in range(40)}
    packed = pack("tfds:small_pets", tmp_path / "packed", shards=2)
    assert dict(packed.images) == {"train": 40, "val": 8}
    with pytest.raises(DataError, match="`tfds:no_such_pets` cannot be loaded: Dataset no_such_pets not found"):
        load_data("tfds:no_such_pets", 16)


def test_without_tensorflow_datasets_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingDependencyError, match=r"`tfds:mnist` needs .*: pip install 'ofa-tf\[tfds\]'"):
        open_tfds("mnist", None, SILENT)
