"""Networks of one arch: built from the supernet's layers, trained on their own, without a teacher."""

import json
from dataclasses import replace

import numpy as np
import pytest
from layer_checker import randomize
from small_project import RECIPE, Hook

from ofa_tf.blocks import count_params, walk
from ofa_tf.data import Data, ImageSet, Preprocessing
from ofa_tf.errors import SpaceError, TrainingError
from ofa_tf.spaces import MOBILENET_V3, TINY
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.training.evaluation import SubnetEvaluator
from ofa_tf.training.standalone import train_standalone

CLASSES = ("dark", "light", "red")
N_TRAIN = 96
SMALL = TINY.smallest()


def make_data() -> Data:
    """Noisy images of three tints."""
    rng = np.random.default_rng(1)

    def part(n: int) -> ImageSet:
        labels = rng.integers(3, size=n).astype(np.int32)
        tints = np.array([[40, 40, 40], [190, 190, 190], [190, 40, 40]])[labels]
        noise = rng.integers(-40, 60, (n, 32, 32, 3))
        return ImageSet((tints[:, None, None] + noise).astype(np.uint8), labels)

    return Data("tints", CLASSES, part(N_TRAIN), part(20), part(40))


@pytest.fixture(scope="module")
def data():
    return make_data()


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3], ids=lambda space: space.name)
def test_a_network_of_one_arch_holds_what_the_plain_one_does_and_answers_as_it_does(space):
    arch = space.decode_one(space.sample(np.random.default_rng(4), 1)[0])
    network = Supernet(space, 7, arch=arch)
    randomize(network)
    n_params = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert n_params == count_params(walk(space, arch, 7))
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    expected = extract(network, arch, fixed_size=False)(x).numpy()
    assert expected.std() > 0
    for code in (None, space.encode(space.largest())):  # no code is looked at
        np.testing.assert_allclose(network(x, code), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_a_network_of_one_arch_is_serializable():
    network = Supernet(TINY, 7, arch=SMALL)
    config = json.loads(json.dumps(network.get_config()))
    again = Supernet.from_config(config)
    assert again.arch == SMALL
    assert again.get_config() == network.get_config()
    again.set_weights(network.get_weights())
    x = np.ones((1, 24, 24, 3), np.float32)
    np.testing.assert_array_equal(again(x), network(x))


def test_an_arch_of_another_space_is_refused():
    with pytest.raises(SpaceError, match="'mobilenet_v3'"):
        Supernet(TINY, 7, arch=MOBILENET_V3.smallest())


# --- its training -----------------------------------------------------------------------------------------------------


def test_it_learns_at_its_own_resolution_and_the_same_seed_gives_the_same_network(data):
    done = []
    network = train_standalone(TINY, SMALL, data, RECIPE, epochs=4, progress=Hook(done.append))
    assert len(done) == 4 * N_TRAIN / RECIPE.batch
    assert network.arch == SMALL
    assert SubnetEvaluator(network, Preprocessing(), data.train).accuracy(SMALL, data.val) > 0.9
    again = train_standalone(TINY, SMALL, data, RECIPE, epochs=4)
    for one, other in zip(network.trainable_weights, again.trainable_weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_has_the_epochs_of_all_stages_unless_told_otherwise(data, monkeypatch):
    rates = []

    def run(self, images, labels, n_images, micro_batch, codes, learning_rate, distil, seed):
        assert images.shape == (RECIPE.batch, SMALL.resolution, SMALL.resolution, 3)
        assert not distil
        rates.append(learning_rate)
        return np.zeros(1)

    monkeypatch.setattr("ofa_tf.training.standalone.TrainingStep.run", run)
    train_standalone(TINY, SMALL, data, RECIPE)
    epochs = sum(phase.epochs + phase.warmup_epochs for phase in RECIPE.phases)
    assert len(rates) == pytest.approx(epochs * N_TRAIN / RECIPE.batch, abs=1)
    peak = RECIPE.phases[0].base_lr * RECIPE.batch / 64
    assert max(rates) == pytest.approx(peak)
    assert rates[-1] < 0.05 * peak


def test_a_loss_that_is_not_a_number_ends_it(data, monkeypatch):
    monkeypatch.setattr("ofa_tf.training.standalone.TrainingStep.run", lambda *_: np.array([np.nan]))
    with pytest.raises(TrainingError, match=r"The loss of 24 px .* is not a number at step 0"):
        train_standalone(TINY, SMALL, data, RECIPE)


def test_pixels_and_weights_may_be_given(data):
    """With a learning rate of 0 the weights stay what they were."""
    still = replace(RECIPE, phases=tuple(replace(phase, base_lr=0.0) for phase in RECIPE.phases), weight_decay=0.0)
    begun = Supernet(TINY, 3, seed=7, arch=SMALL)
    network = train_standalone(
        TINY, SMALL, data, still, epochs=1, initial=lambda own: own.set_weights(begun.get_weights())
    )
    for own, given in zip(network.get_weights(), begun.get_weights(), strict=True):
        np.testing.assert_array_equal(own, given)
    seen = []

    class Watched(Preprocessing):
        def __call__(self, pixels):
            seen.append(self.mean)
            return super().__call__(pixels)

    train_standalone(TINY, SMALL, data, still, epochs=1, preprocessing=Watched((1.0, 2.0, 3.0)))
    assert set(seen) == {(1.0, 2.0, 3.0)}
