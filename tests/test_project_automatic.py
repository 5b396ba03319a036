"""`--space auto` and `--recipe auto`: what is chosen for which images."""

import numpy as np
import pytest
import tensorflow as tf
from commands import assert_refused
from image_files import make_folder
from PIL import Image

from ofa_tf.data.images import Survey
from ofa_tf.errors import ArgumentError, DataError
from ofa_tf.progress import Progress
from ofa_tf.project.automatic import FEWEST, LEAST_PASSES, MOST, choose
from ofa_tf.project.opened import open_project
from ofa_tf.spaces import EDGE, PHOTOS, TINY
from ofa_tf.training.recipe import RECIPES


def passes(recipe):
    return sum(phase.epochs + phase.warmup_epochs for phase in recipe.phases)


class Notes(Progress):
    """Remembers what was noted."""

    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


@pytest.mark.parametrize(
    ("side", "n", "space"),
    [(20, 500, TINY), (32, 50_000, TINY), (64, 3000, PHOTOS), (400, 3000, PHOTOS), (4000, 200, PHOTOS)],
)
def test_the_space_suits_the_images(side, n, space):
    assert choose(Survey(n, side), None, None).space is space


def test_a_large_space_is_chosen_only_where_there_is_time_to_train_it():
    survey = Survey(20_000, 500)
    assert choose(survey, None, None, hours=2).space is PHOTOS
    assert choose(survey, None, None, hours=1000).space is EDGE
    assert choose(survey, None, RECIPES["imagenet"], hours=2).space is PHOTOS
    assert choose(Survey(500, 500), None, None, hours=1000).space is PHOTOS


def test_fewer_images_are_seen_more_often():
    found = [passes(choose(Survey(n, 32), None, None, hours=1e6).recipe) for n in (10, 300, 3000, 30_000, 10**6)]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[-1]) == (MOST, FEWEST)


def test_the_time_limits_the_passes_and_is_mentioned():
    long, short = (choose(Survey(3000, 200), None, None, hours) for hours in (100, 1))
    assert LEAST_PASSES <= passes(short.recipe) < passes(long.recipe)
    assert "would be better" in short.reasons[-1]
    assert "would be better" not in long.reasons[-1]
    none = choose(Survey(10**6, 200), PHOTOS, None, 0.01)
    assert passes(none.recipe) == LEAST_PASSES


@pytest.mark.parametrize("n", [10, 100, 3000, 100_000])
def test_a_step_is_a_small_part_of_a_pass(n):
    assert choose(Survey(n, 32), None, None).recipe.batch <= max(8, n / 8)


def test_only_what_is_asked_for_is_chosen():
    survey = Survey(3000, 200)
    assert choose(survey, TINY, None).space is TINY
    assert len(choose(survey, TINY, None).reasons) == 1
    assert choose(survey, None, RECIPES["demo"]).recipe is RECIPES["demo"]


@pytest.mark.parametrize(
    "kind", ["folder", "arrays", "dataset", "batched dataset of unknown length", "batched grey dataset"]
)
def test_the_users_own_images_are_surveyed(kind, tmp_path):
    images, labels = np.zeros((60, 24, 30, 3), np.uint8), np.arange(60) % 3
    pairs = tf.data.Dataset.from_tensor_slices((images, labels))
    if kind == "folder":
        make_folder(tmp_path / "images", {"cat": 30, "dog": 30})
    data = {
        "folder": tmp_path / "images",
        "arrays": (images, labels),
        "dataset": pairs,
        "batched grey dataset": pairs.map(lambda image, label: (image[..., 0], label)).batch(15),
        "batched dataset of unknown length": pairs.filter(lambda *_: True).batch(16),
    }[kind]
    notes = Notes()
    config = open_project(tmp_path / "work", data=data, progress=notes).config
    assert (config.space, config.recipe.name) == (TINY, "auto")
    shown = " ".join(notes.said)
    assert f"about {16 if kind == 'folder' else 24} px" in shown
    assert "60 training images" in shown
    again = Notes()
    assert open_project(tmp_path / "work", space="auto", recipe="auto", progress=again).config == config
    assert not again.said


def test_data_sets_by_name_keep_their_defaults(tmp_path):
    notes = Notes()
    config = open_project(tmp_path / "work", progress=notes).config
    assert (config.space, config.recipe, notes.said) == (TINY, RECIPES["demo"], [])


def test_a_workdir_keeps_its_space(ofa, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "images", {"cat": 30, "dog": 30})
    made, notes = open_project("work", space="photos", data="images").config, Notes()
    assert open_project("work", space="auto", recipe="auto", hours=3.0, progress=notes).config == made
    assert "--hours has no effect" in notes.said[-1]
    assert_refused(ofa("train", "--workdir", "work", "--space", "tiny", "--dry-run"), "made with --space photos")


def test_a_dry_run_says_what_would_be_chosen_and_makes_nothing(ofa, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "images", {"cat": 30, "dog": 30})
    found = ofa("train", "--data", "images", "--workdir", "work", "--dry-run")
    assert found.code == 0
    assert "the space `tiny` (24 to 32 px) was chosen; --space chooses another" in found.err
    assert "--hours sets another limit, --recipe another recipe" in found.err
    assert not (tmp_path / "work").exists()


def test_a_limit_on_a_recipe_of_fixed_length_is_refused(ofa, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match="--hours is only for --recipe auto"):
        open_project(tmp_path / "work", recipe="demo", hours=1.0)
    assert_refused(ofa("train", "--hours", "0", "--dry-run"), "'--hours'")
    assert_refused(ofa("train", "--hours", "1", "--dry-run"), "--hours is only for --recipe auto")


def test_ten_images_are_too_few_or_train(tmp_path):
    make_folder(tmp_path / "images", {"cat": 5, "dog": 5})
    notes = Notes()
    with pytest.raises(DataError, match="after the split; give it more images"):
        open_project(tmp_path / "work", data=tmp_path / "images", progress=notes)
    assert not (tmp_path / "work" / "config.json").exists()


def test_photographs_of_4000_pixels_and_of_one_class(tmp_path):
    folder = tmp_path / "images" / "train" / "cat"
    folder.mkdir(parents=True)
    for index in range(30):
        Image.new("RGB", (4000, 3000), (index, 0, 0)).save(folder / f"{index}.png")
    with pytest.raises(DataError, match="only the class 'cat'"):
        open_project(tmp_path / "work", data=tmp_path / "images")
    (tmp_path / "images" / "train" / "dog").mkdir()
    for index in range(15):
        (folder / f"{index}.png").rename(tmp_path / "images" / "train" / "dog" / f"{index}.png")
    notes = Notes()
    assert open_project(tmp_path / "work", data=tmp_path / "images", progress=notes).config.space is PHOTOS
    assert "about 3000 px" in notes.said[0]
