"""Training that begins with pretrained weights: the classifier, and going on bit for bit."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from small_project import CONFIG, RECIPE, Hook, make_data

from ofa_tf.data import Preprocessing
from ofa_tf.errors import FormatError, WorkdirError
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.spaces import TINY
from ofa_tf.supernet import Supernet
from ofa_tf.training import checkpoint, transfer
from ofa_tf.training import trainer as trainer_module
from ofa_tf.training.recipe import Phase, Recipe
from ofa_tf.training.trainer import Trainer
from ofa_tf.training.transfer import features, logistic_regression, transfer_recipe
from ofa_tf.training.weights import weights_of

INIT = {"name": "mine", "address": "here", "sha256": "0" * 64}
# The network is taught from the first step on: there is no stage `full`.
WIDTH = replace(RECIPE, phases=(Phase("width", 1, 0.25, 0.05, subnets=3),), sampling="sandwich")


def config_of(recipe: Recipe) -> Config:
    return replace(CONFIG, recipe=recipe, init=INIT, preprocessing=Preprocessing((127.0,) * 3, (64.0,) * 3))


def begin(path, recipe: Recipe) -> Trainer:
    """A trainer in a new workdir with pretrained weights."""
    workdir, config = Workdir(path), config_of(recipe)
    workdir.create(config)
    transfer.save_imported(workdir, Supernet(TINY, 3, seed=9))
    return Trainer(workdir, config, make_data(), Hook())


# --- the classifier ---------------------------------------------------------------------------------------------------


def test_logistic_regression_finds_the_minimum():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (200, 5))
    labels = (x @ rng.normal(size=(5, 3)) + rng.normal(size=(200, 3))).argmax(1)
    kernel, bias = logistic_regression(x, labels, 4, penalty=0.01)
    from sklearn.linear_model import LogisticRegression

    scaled = (x - x.mean(0)) / x.std(0)
    # scikit-learn minimises C * sum of losses + |w|^2 / 2.
    theirs = LogisticRegression(C=1 / (2 * 0.01 * 200), tol=1e-8, max_iter=1000).fit(scaled, labels)
    shares = np.exp(x @ kernel + bias)
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose(shares[:, :3], theirs.predict_proba(scaled), atol=0.01)
    assert shares[:, 3].max() < 0.05


def test_the_classifier_is_fitted_to_the_features_of_the_largest_network(tmp_path):
    trainer = begin(tmp_path / "work", WIDTH)
    net, data, preprocessing = trainer.evaluator.supernet, trainer.data, trainer.config.preprocessing
    transfer.fit_head(trainer.workdir, net, data.train, preprocessing)
    found = features(net, data.train, preprocessing)
    expected = net(preprocessing(data.train.images)).numpy()
    classifier = net.block_layers["classifier"].op_weights()[""]
    logits = found @ classifier.kernel.numpy() + classifier.bias.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-3 * np.abs(expected).max())
    assert (logits.argmax(1) == data.train.labels).mean() > 0.6  # of random images
    before, after = Supernet(TINY, 3, seed=9), Supernet(TINY, 3)
    transfer.load_initial(trainer.workdir, after)
    for own, given in zip(before.variables, after.variables, strict=True):
        assert np.array_equal(own.numpy(), given.numpy()) != own.path.startswith("classifier/")


# --- the stages -------------------------------------------------------------------------------------------------------


def states(folder, step) -> dict[str, np.ndarray]:
    return dict(np.load(checkpoint.checkpoint_path(folder, step)))


@pytest.mark.parametrize("first", ["full", "width"])
def test_a_run_that_is_cut_off_goes_on_bit_for_bit(tmp_path, monkeypatch, first):
    recipe = replace(WIDTH, phases=(Phase("full", 0.75, 0, 0.05), *WIDTH.phases)) if first == "full" else WIDTH
    trainer = begin(tmp_path / "whole", recipe)
    for stage in recipe.stages:
        record = trainer.train(stage)
    expected = states(trainer.workdir.checkpoints("width"), record.steps)

    class Stop(Exception):
        pass

    def stop(step):
        if step == 2:
            raise Stop

    monkeypatch.setattr(trainer_module, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    cut = Workdir(tmp_path / "cut")
    cut.create(trainer.config)
    shutil.copytree(trainer.workdir.checkpoints("init"), cut.checkpoints("init"))
    (cut.checkpoints("init") / "step-00000001.npz").unlink()
    trainer.workdir, trainer.ledger = cut, cut.ledger()
    for stage in recipe.stages:
        trainer.progress = Hook(stop)
        with pytest.raises(Stop):
            trainer.train(stage)
        for variable in (*trainer.supernet.variables, *trainer.step.momentums):
            variable.assign(np.full(variable.shape, np.nan, np.float32))
        trainer.progress = Hook()
        trainer.train(stage)
    found = states(cut.checkpoints("width"), record.steps)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_training_begins_with_the_weights_and_says_when_they_are_lost(tmp_path):
    still = replace(WIDTH, phases=(Phase("full", 0.25, 0, 0.0), *WIDTH.phases), weight_decay=0.0)
    trainer = begin(tmp_path / "work", still)
    trainer.train("full")
    initial = Supernet(TINY, 3)
    transfer.load_initial(trainer.workdir, initial)
    for name, variable in weights_of(initial).items():
        np.testing.assert_array_equal(variable.numpy(), trainer.weights[name].numpy())
    shutil.rmtree(trainer.workdir.checkpoints("full"))
    trainer.ledger.forget(("full",))
    shutil.rmtree(trainer.workdir.checkpoints("init"))
    with pytest.raises(WorkdirError, match=r"pretrained weights: make another workdir with --init"):
        trainer.train("full")


def test_the_classifier_has_a_rate_of_its_own(tmp_path):
    def changes(rate: float) -> dict[str, float]:
        recipe = replace(WIDTH, phases=(Phase("width", 0.25, 0, 0.01, subnets=3),), head_rate=rate, sort_channels=False)
        trainer = begin(tmp_path / f"work{rate}", recipe)
        trainer.train("width")
        initial = Supernet(TINY, 3)
        transfer.load_initial(trainer.workdir, initial)
        return {
            name: variable.numpy() - trainer.weights[name].numpy() for name, variable in weights_of(initial).items()
        }

    usual, faster = changes(1), changes(5)
    for name in usual:
        factor = 5 if name.startswith("classifier/") else 1
        np.testing.assert_allclose(faster[name], factor * usual[name], rtol=1e-3, atol=3e-5)
    assert np.abs(usual["classifier/kernel"]).max() > 0


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_the_recipe_leaves_out_what_is_trained_already():
    assert transfer_recipe(6, 9).stages == ("full", "width")
    assert (transfer_recipe(6, 9).sort_channels, transfer_recipe(6, 9).importance) == (True, "contribution")
    elastic = transfer_recipe(6, 9, elastic=True)
    assert (elastic.stages, elastic.sort_channels) == (("width",), False)


def test_a_recipe_must_end_with_width():
    with pytest.raises(FormatError, match=r"must be `width` and others of .*, in this order"):
        replace(RECIPE, phases=(Phase("full", 1, 0, 0.1),))
