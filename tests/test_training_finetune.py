"""Fine-tuning: weights of its own for a subnet, resumed to the bit, taught by the largest network."""

from dataclasses import replace

import numpy as np
import pytest
from layer_checker import randomize
from rich_spaces import COUPLED, MIXED, RESNET, RICH
from small_project import CONFIG, RECIPE, Hook, make_data

from ofa_tf.errors import TrainingError
from ofa_tf.spaces import MOBILENET_V3, TINY
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.training import finetune
from ofa_tf.training.evaluation import SubnetEvaluator
from ofa_tf.training.finetune import FineTuned, FineTuner, specialised
from ofa_tf.training.step import TrainingStep

EPOCHS, STEPS = 1.5, 6


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def evaluator(data):
    supernet = Supernet(TINY, len(CONFIG.classes), seed=1)
    randomize(supernet)
    return SubnetEvaluator(supernet, CONFIG.preprocessing, data.train, traced=False)


@pytest.fixture
def tuner(tmp_path, data, evaluator):
    def make(after_step=None, config=CONFIG, epochs=EPOCHS):
        return FineTuner(tmp_path / "finetuned", config, data, evaluator, epochs, Interrupting(after_step))

    return make


class Interrupting(Hook):
    """Counts the steps of a fine-tuning, too."""

    def task(self, title, total, unit="steps", done=0):
        return super().task(title.replace("fine-tuning", "training"), total, unit, done)


def weights(tuned: FineTuned) -> list[np.ndarray]:
    return [variable.numpy() for variable in tuned.evaluator.supernet.trainable_variables]


def same(first: FineTuned, second: FineTuned) -> bool:
    return all(map(np.array_equal, weights(first), weights(second)))


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3, RICH, COUPLED, RESNET, MIXED], ids=lambda space: space.name)
def test_a_network_of_its_own_begins_as_the_subnet(space):
    supernet = Supernet(space, 5)
    randomize(supernet)
    arch = space.decode_one(space.sample(np.random.default_rng(3), 1)[0])
    network = specialised(supernet, arch)
    x = np.random.default_rng(0).normal(size=(2, arch.resolution, arch.resolution, 3)).astype(np.float32)
    expected = extract(supernet, arch)(x).numpy()
    assert expected.std() > 0
    np.testing.assert_allclose(network(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(extract(network, arch)(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_training_changes_the_network_and_not_the_supernet(tuner, evaluator, data):
    before = [variable.numpy() for variable in evaluator.supernet.trainable_variables]
    arch = TINY.smallest()
    tuned = tuner().tune(arch)
    assert all(map(np.array_equal, before, [v.numpy() for v in evaluator.supernet.trainable_variables]))
    fresh = [variable.numpy() for variable in specialised(evaluator.supernet, arch).trainable_variables]
    same_ones = sum(map(np.array_equal, weights(tuned), fresh))
    assert same_ones < len(fresh) / 4  # units that the random weights have saturated learn nothing
    assert tuned.before == evaluator.accuracy(arch, data.tune)
    assert tuned.after == tuned.evaluator.accuracy(arch, data.tune)
    assert tuned.better == (tuned.after > tuned.before)


@pytest.mark.parametrize("stopped", [1, 4])
def test_what_is_stopped_goes_on_to_the_same_weights(tuner, evaluator, tmp_path, stopped):
    arch = TINY.smallest()
    whole = FineTuner(tmp_path / "whole", CONFIG, make_data(), evaluator, EPOCHS).tune(arch)

    def press(step):
        if step == stopped:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuner(press).tune(arch)
    seen = []
    assert same(tuner(seen.append).tune(arch), whole)
    assert seen == list(range(stopped + 1, STEPS + 1))


def test_what_is_done_is_not_done_again(tuner, monkeypatch):
    first = tuner().tune(TINY.smallest())
    monkeypatch.setattr(TrainingStep, "run", None)
    assert same(tuner().tune(TINY.smallest()), first)


def test_other_epochs_and_archs_are_kept_apart(tuner, tmp_path):
    for epochs, arch in ((0.25, TINY.smallest()), (0.5, TINY.smallest()), (0.25, TINY.smallest(32))):
        tuner(epochs=epochs).tune(arch)
    assert len(list((tmp_path / "finetuned").iterdir())) == 3


def test_subnets_share_the_answers_of_the_teacher(tuner, monkeypatch):
    asked = []
    answers = TrainingStep.answers
    monkeypatch.setattr(TrainingStep, "answers", lambda *given: asked.append(given) or answers(*given))
    shared = tuner()
    archs = TINY.smallest(), TINY.smallest(32)
    tuned = [shared.tune(arch) for arch in archs]
    assert len(asked) == STEPS
    assert all(images.shape[1] == TINY.resolutions[-1] for _, images, *_ in asked)
    monkeypatch.setattr(finetune, "SHARED_BYTES", 0)
    alone = tuner(config=replace(CONFIG, seed=CONFIG.seed))
    alone.folder = alone.folder / "again"
    assert all(same(alone.tune(arch), found) for arch, found in zip(archs, tuned, strict=True))
    assert len(asked) == 3 * STEPS


def test_the_teacher_matters_unless_the_recipe_has_none(tuner, monkeypatch):
    def with_answers(value, config):
        monkeypatch.setattr(TrainingStep, "answers", lambda *_: np.tile(np.float32(value), (RECIPE.batch, 1)))
        made = tuner(config=config)
        made.folder = made.folder / str(value)
        return made.tune(TINY.smallest())

    alone = replace(CONFIG, recipe=replace(RECIPE, kd_ratio=0.0))
    assert not same(with_answers([1, 0, 0], CONFIG), with_answers([0, 1, 0], CONFIG))
    assert same(with_answers([1, 0, 0], alone), with_answers([0, 1, 0], alone))


def test_a_loss_that_is_not_a_number_is_refused_and_the_weights_stay(tuner):
    phases = tuple(replace(phase, base_lr=1000.0) for phase in RECIPE.phases)
    wild = replace(CONFIG, recipe=replace(RECIPE, phases=phases, weight_decay=1.0))
    with pytest.raises(TrainingError, match=r"not a number at step .* without --finetune"):
        tuner(config=wild, epochs=20).tune(TINY.smallest())
