"""Folders as people have them: sidecars of operating systems, and what a workdir of before goes on reading."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from image_files import decode, identities, make_folder, pixels
from model_files import tint_file
from small_project import Hook

from ofa_tf.data.pack import open_pack
from ofa_tf.data.rules import FIRST, NEWEST
from ofa_tf.data.source import load_data, load_images, load_validation
from ofa_tf.errors import DataError, FormatError
from ofa_tf.project.data import pack
from ofa_tf.project.evaluate import evaluate_file, match_labels
from ofa_tf.project.opened import open_existing, open_project
from ofa_tf.project.workdir import Config

APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        "


def counts(data):
    """Images of each class in all parts together."""
    labels = np.concatenate([part.labels for part in (data.train, data.tune, data.val)])
    return np.bincount(labels, minlength=len(data.classes)).tolist()


def make_old(project, classes):
    """The workdir as the version before would have written it."""
    document = json.loads(project.workdir.config_path.read_text())
    del document["data_rules"]
    project.workdir.config_path.write_text(json.dumps({**document, "classes": classes}))
    return open_existing(project.workdir.path)


# --- what operating systems leave -------------------------------------------------------------------------------------


def add_sidecars(root, paths):
    """What macOS, a NAS and Windows put beside images, real thumbnails among them."""
    for path in paths:
        (path.parent / f"._{path.name}").write_bytes(APPLE_DOUBLE)
        for folder in (path.parent / "@eaDir" / path.name, path.parent / ".thumbnails", root / "__MACOSX" / "train"):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    for folder in {path.parent for path in paths} | {path.parent.parent for path in paths}:
        (folder / "Thumbs.db").write_bytes(b"x")
        (folder / ".DS_Store").write_bytes(b"x")
    for name in ("__MACOSX", "@eaDir"):
        (root / "train" / name).mkdir()
        (root / "train" / name / "._0001.jpg").write_bytes(APPLE_DOUBLE)
        shutil.copy(paths[0], root / "train" / name / "0001.jpg")


def test_sidecars_are_no_images(tmp_path):
    paths = make_folder(tmp_path, {"cat": 30, "dog": 30}) + make_folder(tmp_path, {"cat": 3, "dog": 2}, part="val")
    add_sidecars(tmp_path, paths)
    hook = Hook()
    data = load_data(str(tmp_path), 16, progress=hook)
    assert (data.classes, counts(data), hook.notes) == (("cat", "dog"), [33, 32], [])
    assert load_validation(str(tmp_path), 16)[1].labels.tolist() == [0, 0, 0, 1, 1]
    assert load_validation(str(tmp_path / "val"), 16)[1].labels.tolist() == [0, 0, 0, 1, 1]
    assert dict(pack(str(tmp_path), tmp_path / "packed").images) == {"train": 60, "val": 5}
    assert open_pack(tmp_path / "packed")["train"][0] == ("cat", "dog")


def test_sidecars_are_no_images_for_an_imported_network(tmp_path, monkeypatch):
    monkeypatch.setattr("ofa_tf.data.source.LEAST_IMAGES", 50)
    add_sidecars(tmp_path, make_folder(tmp_path, {"cat": 35, "dog": 35}))
    data = load_images(str(tmp_path), ("dog", "elk", "cat"), 16)
    assert counts(data) == [35, 0, 35]


def test_a_class_that_loses_all_its_images_is_refused(tmp_path):
    paths = make_folder(tmp_path, {"cat": 120, "dog": 120, "elk": 1})
    paths[-1].write_bytes(b"no image")
    make_folder(tmp_path / "val", {"cat": 120, "dog": 120, "elk": 1}, part="")
    message = "No image of the class 'elk' in `train` of .* can be read"
    with pytest.raises(DataError, match=message):
        load_data(str(tmp_path), 16)
    with pytest.raises(DataError, match="No image of the class 'elk' in `train` can be read"):
        pack(str(tmp_path), tmp_path / "packed")
    assert not (tmp_path / "packed").exists()
    shutil.copy(paths[-1], tmp_path / "val" / "elk" / "000.jpg")
    for folder in (tmp_path / "val", tmp_path):
        if folder == tmp_path:
            shutil.rmtree(folder / "train")
        with pytest.raises(DataError, match=r"No image of the class 'elk' in `val` of .* can be read"):
            load_validation(str(folder), 16)


# --- suffixes ---------------------------------------------------------------------------------------------------------


def rename(paths, suffix):
    for path in paths:
        path.rename(path.with_suffix(suffix))


def test_every_name_of_a_jpeg_is_read(tmp_path):
    paths = make_folder(tmp_path, {"cat": 30, "dog": 30})
    for index, suffix in enumerate((".jfif", ".JFIF", ".jpe", ".jif", ".pjpeg", ".pjp")):
        rename(paths[30 + index * 5 : 35 + index * 5], suffix)
    hook = Hook()
    assert (counts(load_data(str(tmp_path), 16, progress=hook)), hook.notes) == ([30, 30], [])


def test_files_that_are_not_read_are_counted(tmp_path):
    paths = make_folder(tmp_path, {"cat": 30, "dog": 30}) + make_folder(tmp_path, {"cat": 3, "dog": 3}, part="val")
    train, val = tmp_path / "train", tmp_path / "val"
    rename(paths[:10], ".HEIC")
    (train / "dog" / "deep").mkdir()
    for name in ("cat/notes.txt", "dog/deep/README", "dog/x.averylongsuffix", "notes.txt"):
        (train / name).write_text("x")
    (val / "cat" / "labels.csv").write_text("x")
    (val / "elk").mkdir()
    shutil.copy(paths[-1], val / "loose.jpg")
    train_notes = [f"13 files in {train} are not read: .heic (10), without a suffix (2), .txt (1)."]
    val_notes = [
        f"1 image in {val} itself, in no folder of a class: not used.",
        f"1 file in {val} is not read: .csv.",
        f"Folders in {val} without a file are no classes: 'elk'.",
    ]
    for call, notes in (
        (lambda hook: load_data(str(tmp_path), 16, progress=hook), train_notes + val_notes),
        (lambda hook: pack(str(tmp_path), tmp_path / "packed", progress=hook), train_notes + val_notes),
        (lambda hook: load_validation(str(tmp_path), 16, progress=hook), train_notes + val_notes),
        (lambda hook: load_validation(str(val), 16, progress=hook), val_notes),
    ):
        hook = Hook()
        call(hook)
        assert hook.notes == notes


def test_what_is_left_out_is_said_once_where_a_tenth_is_split_off(tmp_path):
    rename(make_folder(tmp_path, {"cat": 30, "dog": 30})[:9], ".avif")
    hook = Hook()
    load_validation(str(tmp_path), 16, progress=hook)
    assert [note for note in hook.notes if ".avif" in note] == [f"9 files in {tmp_path / 'train'} are not read: .avif."]


def test_what_is_left_out_is_said_once_where_the_images_choose_the_space(tmp_path):
    rename(make_folder(tmp_path / "images", {"cat": 30, "dog": 30})[:9], ".avif")
    hook = Hook()
    project = open_project(tmp_path / "work", data=tmp_path / "images", progress=hook)
    assert len([note for note in hook.notes if ".avif" in note]) == 1
    assert project.progress is hook


def test_a_class_without_an_image_that_can_be_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ofa_tf.data.source.LEAST_IMAGES", 10)
    rename(make_folder(tmp_path, {"cat": 30, "dog": 30, "elk": 30})[:30], ".heic")
    message = "The class 'cat' in .*train has no image that can be read; its files are .heic: convert them to JPEG"
    for call in (
        lambda: load_data(str(tmp_path), 16),
        lambda: load_images(str(tmp_path), ("cat", "dog", "elk"), 16),
        lambda: load_validation(str(tmp_path / "train"), 16),
        lambda: pack(str(tmp_path), tmp_path / "packed"),
    ):
        with pytest.raises(DataError, match=message):
            call()


# --- parts ------------------------------------------------------------------------------------------------------------


def test_the_first_name_of_val_that_is_there_is_taken_and_the_others_are_noted(tmp_path, monkeypatch):
    monkeypatch.setattr("ofa_tf.data.source.LEAST_IMAGES", 20)
    names, sizes = ("val", "validation", "valid", "test"), (4, 5, 6, 7)
    make_folder(tmp_path, {"cat": 20, "dog": 20})
    for name, size in zip(names, sizes, strict=True):
        make_folder(tmp_path, {"cat": size, "dog": 2}, part=name)
    make_folder(tmp_path, {"cat": 2}, part="Valid")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.txt").write_text("x")
    for n_left in (4, 3, 2, 1):
        used, n_val = names[4 - n_left], sizes[4 - n_left] + 2
        others = sorted(["Valid", *names[5 - n_left :]])
        notes = [
            f"The images of `{name}` in {tmp_path} are not used, only those of `train` and `{used}`." for name in others
        ]
        for call in (load_data, load_validation, lambda spec, *a, **o: load_images(spec, ("cat", "dog"), *a, **o)):
            hook = Hook()
            found = call(str(tmp_path), 16, progress=hook)
            assert len(found[1] if isinstance(found, tuple) else found.val) == n_val
            assert [note for note in hook.notes if "not used" in note] == notes
        packed = pack(str(tmp_path), tmp_path / ".packed", force=True)
        assert dict(packed.images) == {"train": 40, "val": n_val}
        shutil.rmtree(tmp_path / used)


def test_a_folder_with_only_validation_images_is_evaluated(tmp_path):
    make_folder(tmp_path, {"cat": 4, "dog": 4}, part="valid")
    make_folder(tmp_path, {"cat": 9, "dog": 9}, part="test")
    hook = Hook()
    assert len(load_validation(str(tmp_path), 16, progress=hook)[1]) == 8
    assert hook.notes == [f"The images of `test` in {tmp_path} are not used, only those of `valid`."]


def test_classes_may_be_called_like_parts(tmp_path):
    make_folder(tmp_path, {"valid": 4, "invalid": 3}, part="")
    hook = Hook()
    classes, images = load_validation(str(tmp_path), 16, progress=hook)
    assert (classes, images.labels.tolist(), hook.notes) == (("invalid", "valid"), [0] * 3 + [1] * 4, [])


# --- forms of Unicode -------------------------------------------------------------------------------------------------

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Äpfel") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("train", "val"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED), (DECOMPOSED, DECOMPOSED)])
def test_the_form_of_an_accent_makes_no_difference(tmp_path, monkeypatch, train, val):
    monkeypatch.setattr("ofa_tf.data.source.LEAST_IMAGES", 20)
    make_folder(tmp_path, {train: 20, "Birne": 20})
    make_folder(tmp_path, {val: 3, "Birne": 2}, part="val")
    for classes in ((DECOMPOSED, "Birne"), (COMPOSED, "birne")):
        data = load_images(str(tmp_path), classes, 16)
        assert (data.classes, counts(data)) == (classes, [23, 22]), "a network's own names stay"
    data = load_data(str(tmp_path), 16)
    assert (data.classes, counts(data)) == (("Birne", COMPOSED), [22, 23])
    assert load_validation(str(tmp_path / "val"), 16)[0] == ("Birne", COMPOSED)
    pack(str(tmp_path), tmp_path / "packed")
    assert load_data(str(tmp_path / "packed"), 16).classes == ("Birne", COMPOSED)


def test_folders_that_are_one_class_are_told(tmp_path):
    make_folder(tmp_path, {COMPOSED: 20, DECOMPOSED: 10, "Birne": 20})
    hook = Hook()
    data = load_data(str(tmp_path), 16, progress=hook)
    assert (data.classes, counts(data)) == (("Birne", COMPOSED), [20, 30])
    (note,) = hook.notes
    assert note.startswith("2 folders in")
    assert note.endswith("'Äpfel', in different forms of Unicode: they are one class.")


def test_labels_of_a_file_are_found_in_any_form():
    for labels, classes in (((COMPOSED, "x"), (DECOMPOSED,)), ((DECOMPOSED, "x"), (COMPOSED,))):
        assert match_labels(labels, classes, 2, "m.tflite", "images").tolist() == [0]
        assert match_labels(labels, (classes[0].lower(),), 2, "m.tflite", "images").tolist() == [0]
    both = (DECOMPOSED, COMPOSED)
    assert match_labels(both, both[::-1], 2, "m.tflite", "images").tolist() == [1, 0], "as written comes first"


def test_an_old_workdir_keeps_the_form_of_its_names(tmp_path):
    make_folder(tmp_path / "images", {DECOMPOSED: 30, "Birne": 30})
    old = make_old(open_project(tmp_path / "work", data=tmp_path / "images"), (DECOMPOSED, "Birne"))
    assert old.data.classes == old.config.classes == (DECOMPOSED, "Birne")


# --- workdirs of before -----------------------------------------------------------------------------------------------


def test_a_new_workdir_tells_its_rules_and_an_old_one_keeps_the_first(tmp_path):
    paths = make_folder(tmp_path / "images", {"cat": 30, "dog": 30, "__MACOSX": 2})
    make_folder(tmp_path / "images", {"cat": 5, "dog": 5}, part="valid")
    rename(paths[:3], ".jfif")
    project = open_project(tmp_path / "work", data=tmp_path / "images")
    assert json.loads(project.workdir.config_path.read_text())["data_rules"] == NEWEST.number == 2
    assert project.config.classes == ("cat", "dog")
    old = make_old(project, ("__MACOSX", "cat", "dog"))
    assert old.config.rules == FIRST
    assert counts(old.data) == [2, 27, 30], "`valid` is not used"


@pytest.mark.parametrize("value", [0, 3, "2", True, None])
def test_rules_that_are_not_known_are_refused(tmp_path, value):
    project = open_project(tmp_path / "work", data="digits", create=False)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"schema": 1, **project.config.to_document(), "data_rules": value}))
    with pytest.raises(FormatError, match=r"`data_rules` .* must be one of \[1, 2\]"):
        Config.load(path)


def first_split(images, n_val, seed):
    """The validation, held-out and training images of a workdir of the version before."""
    rng = np.random.default_rng([seed, 0x5117])
    order = rng.permutation(len(images))
    rest, val = np.sort(order[n_val:]), np.sort(order[:n_val])
    order = rng.permutation(len(rest))
    n_tune = int(len(rest) * 0.1)
    return [[images[n] for n in part] for part in (val, rest[np.sort(order[:n_tune])], rest[np.sort(order[n_tune:])])]


@pytest.mark.parametrize("kind", ["folder", "pack", "npz", "arrays"])
def test_an_old_workdir_keeps_its_split(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    if kind in ("folder", "pack"):
        paths, data = make_folder(tmp_path / "images", {"cat": 40, "dog": 10}, suffix="png"), tmp_path / "images"
        images = [decode(path, 32).tobytes() for path in paths]
    else:
        arrays = np.stack([pixels(seed) for seed in range(50)]), np.arange(50) % 3
        np.savez("arrays.npz", train_images=arrays[0], train_labels=arrays[1])
        data = tmp_path / "arrays.npz" if kind == "npz" else arrays
        images = [image.tobytes() for image in arrays[0]]
    if kind == "pack":
        pack(str(data), tmp_path / "packed", shards=1)
        data = tmp_path / "packed"
        images = identities(open_pack(data)["train"][1].resized(32))
    new = open_project("work", data=data, seed=5)
    old = make_old(new, new.config.classes)
    assert [identities(part) for part in (old.data.val, old.data.tune, old.data.train)] == first_split(images, 5, 5)
    assert identities(new.data.val) != identities(old.data.val)
    if kind == "folder":  # a file is evaluated on the images that the workdir held out, not on those that it trained on
        seen = []
        monkeypatch.setattr("ofa_tf.project.evaluate.load_validation", lambda *a: seen.append(load_validation(*a)))
        with pytest.raises(TypeError):
            evaluate_file(write_tint(tmp_path), str(data), "work")
        assert identities(seen[0][1]) == identities(old.data.val)


def write_tint(folder):
    path = folder / "tint.tflite"
    path.write_bytes(tint_file(dtype="uint8"))
    return path


def test_an_imported_network_of_before_that_gets_images_has_the_newest_rules(tmp_path):
    make_folder(tmp_path / "images", {"cat": 30, "dog": 30})
    project = open_project(tmp_path / "work", data=tmp_path / "images")
    path = project.workdir.config_path
    document = json.loads(path.read_text())
    del document["data_rules"]
    path.write_text(json.dumps({**document, "data": None}))
    assert open_existing(tmp_path / "work").config.rules == FIRST
    open_existing(tmp_path / "work", data=tmp_path / "images")
    assert open_existing(tmp_path / "work").config.rules == NEWEST
