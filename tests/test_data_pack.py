"""Packing a data set into shards: whole or not at all, and hostile packs."""

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import tensorflow as tf
from commands import OFA, assert_refused, contents
from hostile import mutations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import identities, make_folder, pixels
from PIL import Image
from small_project import Hook

from ofa_tf.data import EncodedImageSet
from ofa_tf.data.pack import open_pack
from ofa_tf.data.source import load_data
from ofa_tf.errors import DataError, OfaError
from ofa_tf.jsonio import read_json, write_json
from ofa_tf.project.data import pack


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 + 30 training images, 3 + 4 for validation."""
    root = tmp_path_factory.mktemp("images")
    make_folder(root, {"cat": 40, "dog": 30}, suffix="png")
    make_folder(root, {"cat": 3, "dog": 4}, part="val")
    return root


@pytest.fixture
def packed(folder, tmp_path):
    pack(str(folder), tmp_path / "packed", shards=3)
    return tmp_path / "packed"


# --- round trip -------------------------------------------------------------------------------------------------------


def test_a_pack_holds_the_same_images(folder, packed):
    names = sorted(path.name for path in packed.iterdir())
    shards = [f"{part}-{number:05}-of-00003.tfrecord" for part in ("train", "val") for number in range(3)]
    assert names == sorted(["data.json", "index.npz", *shards])
    document = read_json(packed / "data.json")
    assert document["classes"] == ["cat", "dog"]
    assert [shard["images"] for shard in document["parts"]["train"]] == [24, 23, 23]
    files = load_data(str(folder), 16)
    again = load_data(str(packed), 16)
    assert again.classes == files.classes
    assert sorted(identities(again.val)) == sorted(identities(files.val))
    pairs = [
        sorted(
            (image, label)
            for part in (data.train, data.tune)
            for image, label in zip(identities(part), part.labels, strict=True)
        )
        for data in (files, again)
    ]
    assert pairs[0] == pairs[1]
    labels = open_pack(packed)["train"][1].labels
    assert 0 < labels[:20].sum() < 20, "the classes are spread over the shards"


def test_any_program_can_read_the_shards(folder, packed):
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    found = set()
    for record in tf.data.TFRecordDataset([str(path) for path in packed.glob("train-*")]):
        example = tf.io.parse_single_example(record, features)
        found.add((example["image/encoded"].numpy(), int(example["image/class/label"])))
    expected = {
        (path.read_bytes(), label)
        for label, name in enumerate(("cat", "dog"))
        for path in (folder / "train" / name).iterdir()
    }
    assert found == expected


def test_the_order_is_the_same_each_time(folder, packed, tmp_path):
    pack(str(folder), tmp_path / "again", shards=3)
    first, again = contents(packed), contents(tmp_path / "again")
    first.pop("index.npz"), again.pop("index.npz")  # a zip file has a date
    assert first == again


def test_size_shortens_larger_images_alone(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for index, shape in enumerate([(40, 60), (90, 30), (20, 50), (24, 24)]):
            Image.fromarray(np.full((*shape, 3), 100, np.uint8)).save(tmp_path / "train" / name / f"{index}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 100), "red").save(tmp_path / "train" / "a" / "turned.jpg", exif=exif)
    pack(str(tmp_path), tmp_path / "packed", size=24)
    records = open_pack(tmp_path / "packed")["train"][1].records
    images = [Image.open(io.BytesIO(records.read(index))) for index in range(9)]
    assert sorted(image.size for image in images) == sorted([(36, 24), (24, 72), (50, 20), (24, 24)] * 2 + [(48, 24)])
    assert {(image.format, min(image.size)) for image in images} == {("JPEG", 24), ("PNG", 24), ("PNG", 20)}


def test_arrays_become_pngs(tmp_path):
    packed = pack("digits", tmp_path / "digits", shards=2)
    assert dict(packed.images) == {"train": 1797}
    classes, images = open_pack(tmp_path / "digits")["train"]
    assert classes == tuple("0123456789")
    from sklearn.datasets import load_digits

    digits = {
        (np.rint(i * 255 / 16).astype(np.uint8).tobytes(), int(t))
        for i, t in zip(load_digits().images, load_digits().target, strict=True)
    }
    found = images.resized(8)
    assert {(i[..., 0].tobytes(), int(t)) for i, t in zip(found.images, found.labels, strict=True)} == digits
    data = load_data(str(tmp_path / "digits"), 16)
    assert (data.train.images.shape[1:], len(data.val)) == ((16, 16, 3), 179)


def test_a_large_pack_stays_encoded_and_needs_no_check(packed, monkeypatch):
    monkeypatch.setattr("ofa_tf.data.cache.MEMORY_BYTES", 0)
    monkeypatch.setattr("ofa_tf.data.cache.check", None)
    data = load_data(str(packed), 16)
    assert isinstance(data.train, EncodedImageSet)
    assert len(data.train.resized(16)) == 63


# --- broken images, folders that are there ----------------------------------------------------------------------------


def test_broken_images_are_left_out(tmp_path):
    paths = make_folder(tmp_path, {"cat": 60, "dog": 60})
    paths[70].write_bytes(paths[70].read_bytes()[:200])
    progress = Hook()
    packed = pack(str(tmp_path), tmp_path / "packed", shards=4, progress=progress)
    assert (dict(packed.images), packed.skipped) == ({"train": 119}, 1)
    assert progress.notes[0].startswith(f"Skipped: {paths[70]} cannot be read as an image")
    assert len(open_pack(tmp_path / "packed")["train"][1].resized(16)) == 119
    paths[0].write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 120 images \(1.7%\) cannot be read; the first"):
        pack(str(tmp_path), tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed", "train"]


def test_a_folder_that_is_there_is_replaced_only_on_request(ofa, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["data", "pack", "--data", folder, "--out", "new", "--shards", "2"]
    run = ofa(*command, "--json")
    assert run.code == 0
    assert json.loads(run.out) == {
        "folder": "new", "images": {"train": 70, "val": 7}, "skipped": 0,
        "size_bytes": sum(path.stat().st_size for path in (tmp_path / "new").glob("*.tfrecord")),
    }  # fmt: skip
    before = contents("new")
    assert_refused(ofa(*command), "new exists", "--out", "--force")
    assert contents("new") == before
    assert "70" in ofa(*command, "--force", "--shards", "1").out
    assert (tmp_path / "new" / "train-00000-of-00001.tfrecord").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert_refused(ofa("data", "pack", "--data", folder, "--out", "mine", "--force"), "mine exists and is not a packed")
    assert_refused(ofa("data", "pack", "--data", "none", "--out", "x"), "'none'", "fashion_mnist", "tfds:NAME")
    assert_refused(ofa("data", "pack", "--data", folder, "--out", "x", "--shards", "0"), "'--shards'", "'0'")
    (tmp_path / ".mine.old").mkdir()
    (tmp_path / ".mine.old" / "letter.txt").write_text("x")
    assert_refused(ofa("data", "pack", "--data", folder, "--out", "mine", "--force"), "mine exists and is not a packed")
    shutil.copytree(tmp_path / ".mine.old", tmp_path / ".new.old")
    assert_refused(ofa(*command, "--force"), ".new.old is in the way, and is none of our folders")
    for place in (".mine.old", ".new.old"):
        assert (tmp_path / place / "letter.txt").exists(), "what is refused removes nothing"
        shutil.rmtree(tmp_path / place)
    for nameless in (".", "", "/", ".."):
        run = ofa("data", "pack", "--data", folder, "--out", nameless, "--force")
        assert_refused(run, "must name a folder")
    (tmp_path / "link").symlink_to("new")
    for _ in range(2):
        assert ofa(*command[:-3], "link", "--shards", "3", "--force").code == 0
    assert len(list((tmp_path / "new").glob("train-*-of-00003.tfrecord"))) == 3
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "mine", "new"]


# --- interruptions ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Images enough that packing takes a while."""
    root = tmp_path_factory.mktemp("many")
    for name in ("cat", "dog"):
        (root / "train" / name).mkdir(parents=True)
        Image.fromarray(pixels(size=800)).save(root / "first.png")
        for index in range(150):
            os.link(root / "first.png", root / "train" / name / f"{index}.png")
    return root


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_pack_leaves_no_folder(many, tmp_path, number, code):
    command = [*OFA, "data", "pack", "--data", str(many), "--out", str(tmp_path / "out"), "--shards", "150"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while len(list(tmp_path.glob(".out.*.tmp/*.tfrecord"))) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(number)
    error = process.communicate()[1]
    assert process.returncode == code
    assert "Traceback" not in error
    left = [path.name for path in tmp_path.iterdir()]
    assert left == ([] if number == signal.SIGINT else [f".out.{process.pid}.tmp"])
    make_folder(tmp_path / "small", {"a": 3, "b": 3})
    pack(str(tmp_path / "small"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "small"]


@pytest.mark.parametrize("limit", [5_000, 30_000])
def test_a_full_disk_leaves_what_was_there(folder, tmp_path, limit):
    pack(str(folder), tmp_path / "out", shards=1)
    before = contents(tmp_path)

    def fill():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [*OFA, "data", "pack", "--data", str(folder), "--out", str(tmp_path / "out"), "--shards", "1", "--force"]
    run = subprocess.run(command, preexec_fn=fill, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.splitlines()[-1].startswith(f"Error: {tmp_path / 'out'} cannot be written: ")
    assert "Traceback" not in run.stderr
    assert contents(tmp_path) == before


# --- packs that are damaged or hostile --------------------------------------------------------------------------------


def test_a_damaged_shard_is_named(packed):
    shard = packed / "train-00001-of-00003.tfrecord"
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    with pytest.raises(DataError, match=rf"{shard} is damaged: it has {len(content) - 10} bytes, not {len(content)}\."):
        open_pack(packed)
    shard.unlink()
    with pytest.raises(DataError, match=rf"{shard} is missing"):
        open_pack(packed)
    shard.write_bytes(bytes(len(content)))
    with pytest.raises(
        DataError, match=rf"23 of 70 images .* the first: {shard}, the image at byte \d+, cannot be read"
    ):
        load_data(str(packed), 16)


def change_index(packed, **changes):
    with np.load(packed / "index.npz") as file:
        arrays = dict(file)
    for name, change in changes.items():
        arrays[name] = change(arrays[name])
    np.savez(packed / "index.npz", **arrays)


def at(position, value):
    def change(array):
        array[position] = value
        return array

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_label": at(30, 2)}, r"Record 6 of train-00001-of-00003.tfrecord has the label 2: there are 2 classes"),
        ({"val_label": at(0, -1)}, r"Record 0 of val-00000-of-00003.tfrecord has the label -1"),
        ({"train_offset": at(0, -1)}, "points outside of the shards"),
        ({"train_length": at(69, 1 << 40)}, "points outside of the shards"),
        ({"train_length": at(69, -1)}, "points outside of the shards"),
        ({"train_length": lambda array: array[:-1]}, "is damaged: `train_length` is int64 of shape"),
        ({"train_offset": lambda array: array.astype(float)}, "is damaged: `train_offset` is float64"),
        ({"train_offset": lambda array: array.astype(object)}, "is damaged"),
    ],
)
def test_an_index_that_is_damaged_is_refused(packed, changes, message):
    change_index(packed, **changes)
    with pytest.raises(OfaError, match=message):
        open_pack(packed)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", r"index\.npz is damaged"), (b"x", r"index\.npz is damaged"), (None, r"There is no file .*index\.npz")],
)
def test_an_index_that_is_none_is_refused(packed, content, said):
    (packed / "index.npz").write_bytes(content) if content is not None else (packed / "index.npz").unlink()
    with pytest.raises(OfaError, match=said):
        open_pack(packed)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_documents_that_nobody_should_have_written_are_refused_or_right(packed, data):
    document = read_json(packed / "data.json")
    try:
        changed = data.draw(mutations(document))
        (packed / "data.json").write_text(
            json.dumps({"schema": 1, **changed} if isinstance(changed, dict) else changed)
        )
        try:
            parts = open_pack(packed)
        except OfaError:
            return
        assert "train" in parts
    finally:
        write_json(packed / "data.json", document)


@pytest.mark.parametrize("file", ["../train-00000-of-00003.tfrecord", "/etc/x.tfrecord", "a\0.tfrecord", "data.json"])
def test_a_shard_elsewhere_is_refused(packed, file):
    document = read_json(packed / "data.json")
    document["parts"]["train"][0]["file"] = file
    write_json(packed / "data.json", document)
    with pytest.raises(OfaError, match="must be the name of a shard"):
        open_pack(packed)
