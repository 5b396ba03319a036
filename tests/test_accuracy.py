"""Subnets' accuracies: calibration, collecting pairs, learning the predictor."""

import json

import keras
import numpy as np
import pytest
from image_files import encoded, make_folder
from layer_checker import randomize

from ofa_tf.accuracy import evaluate
from ofa_tf.accuracy.evaluate import SubnetEvaluator
from ofa_tf.accuracy.fit import JOURNAL, collect_pairs, fit_predictor, read_journal
from ofa_tf.blocks import arch_costs
from ofa_tf.data import ImageSet, Preprocessing
from ofa_tf.errors import FormatError, SpaceError
from ofa_tf.spaces import EDGE, TINY
from ofa_tf.statistics import spearman
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet


def make_images(n, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n).astype(np.int32)
    return ImageSet(rng.integers(256, size=(n, 32, 32, 3)).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def evaluator():
    supernet = Supernet(TINY, 3)
    randomize(supernet)
    return SubnetEvaluator(supernet, Preprocessing(), make_images(50))


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(evaluate, "BATCH", 20)


# --- calibration ------------------------------------------------------------------------------------------------------


def batch_norm_inputs(model, x):
    """What reaches each batch norm of a plain model when all of them use the statistics of the batch."""
    model.trainable = True
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the moving statistics become those of the batch
    model(x, training=True)
    return {
        layer.name: (layer.moving_mean.numpy(), layer.moving_variance.numpy(), layer.input.shape)
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }


@pytest.mark.parametrize(
    "arch", [TINY.smallest(), TINY.decode_one(TINY.sample(np.random.default_rng(8), 1)[0])], ids=str
)
def test_calibration_recomputes_the_statistics_of_the_plain_subnet(evaluator, small_batches, arch):
    evaluator.calibrate(TINY.largest())
    evaluator.calibrate(arch)
    model, twin = extract(evaluator.supernet, arch), extract(evaluator.supernet, arch)
    images = make_images(50).resized(arch.resolution).images
    totals = {}
    # Batches of 20, 20 and 10 images count for as many.
    for start, stop in ((0, 20), (20, 40), (40, 50)):
        x = (images[start:stop].astype(np.float32) - 128) / 128
        for name, (mean, variance, shape) in batch_norm_inputs(twin, x).items():
            n = (stop - start) * shape[1] * shape[2]
            total = totals.setdefault(name, [0.0, 0.0])
            total[0] += mean.astype(np.float64) * (stop - start) / 50
            total[1] += variance.astype(np.float64) * n / (n - 1) * (stop - start) / 50
    assert len(totals) > 8
    for name, (mean, variance) in totals.items():
        layer = model.get_layer(name)
        np.testing.assert_allclose(layer.moving_variance.numpy(), variance, rtol=1e-3, atol=1e-5, err_msg=name)
        atol = 1e-3 * np.sqrt(variance).max()
        np.testing.assert_allclose(layer.moving_mean.numpy(), mean, rtol=0, atol=atol, err_msg=name)
    logits = evaluator.logits(arch, make_images(30, seed=1))
    pixels = make_images(30, seed=1).resized(arch.resolution).images
    expected = model((pixels.astype(np.float32) - 128) / 128).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_calibration_forgets_the_arch_before(evaluator, small_batches):
    arch = TINY.smallest()
    evaluator.calibrate(arch)
    first = extract(evaluator.supernet, arch).get_weights()
    evaluator.calibrate(TINY.largest())
    assert any(
        not np.array_equal(a, b) for a, b in zip(first, extract(evaluator.supernet, arch).get_weights(), strict=True)
    )
    evaluator.calibrate(arch)
    for again, expected in zip(extract(evaluator.supernet, arch).get_weights(), first, strict=True):
        np.testing.assert_array_equal(again, expected)


def test_accuracy_is_the_share_of_right_answers(evaluator, small_batches):
    arch, images = TINY.smallest(28), make_images(41, seed=2)
    accuracy = evaluator.accuracy(arch, images)
    logits = evaluator.logits(arch, images)
    assert logits.shape == (41, 3)
    assert accuracy == np.mean([int(np.argmax(row)) == label for row, label in zip(logits, images.labels, strict=True)])
    right = ImageSet(images.images, logits.argmax(1).astype(np.int32))
    assert evaluator.accuracy(arch, right) == 1.0


def test_one_trace_serves_every_arch_and_resolution(evaluator):
    for arch in (TINY.smallest(), TINY.largest(), TINY.largest(28)):
        evaluator.accuracy(arch, make_images(5))
    assert evaluator.traces == {"calibrate": 1, "predict": 1}


def test_images_are_never_mixed_up(evaluator):
    arch, last = TINY.smallest(), make_images(3, seed=99)
    evaluator.calibrate(arch)
    expected = evaluator.logits(arch, last)
    gone = set()
    for seed in range(20):
        images = make_images(3, seed)
        assert not np.array_equal(evaluator.logits(arch, images), expected)
        gone.add(id(images))
        del images
    # A set that is gone may leave its place in memory, and so its id, to another one.
    others = [ImageSet(last.images, last.labels) for _ in range(1000)]
    for images in [others[0], *(images for images in others if id(images) in gone)]:
        np.testing.assert_array_equal(evaluator.logits(arch, images), expected)


def test_images_that_stay_encoded_get_the_same_logits(evaluator, tmp_path, monkeypatch):
    images, arch = encoded(make_folder(tmp_path, {"a": 45}, suffix="png")), TINY.smallest()
    memory = images.resized(32).resized(arch.resolution)
    monkeypatch.setattr(evaluator, "calibration", memory)
    evaluator.calibrate(arch)
    expected = evaluator.logits(arch, memory)
    monkeypatch.setattr("ofa_tf.data.encoded.decode_square", lambda _, size, name, exact: shown[name, size])
    shown = {(path, arch.resolution): x for path, x in zip(map(str, images.records.files), memory.images, strict=True)}
    monkeypatch.setattr(evaluator, "calibration", images)
    for cache_bytes in (1 << 29, 0):
        monkeypatch.setattr(evaluate, "CACHE_BYTES", cache_bytes)
        evaluator.calibrate(arch)
        for _ in range(2):
            np.testing.assert_array_equal(evaluator.logits(arch, images), expected)


def test_calibration_images_are_spread_over_the_set():
    images = make_images(90)
    for most, expected in ((1000, np.arange(90)), (3, [0, 44, 89])):
        assert np.array_equal(evaluate._spread(len(images), most), expected)


# --- collecting -------------------------------------------------------------------------------------------------------


class Counting:
    """An evaluator whose accuracies are made up."""

    def __init__(self, stop_after=None):
        self.supernet = type("Net", (), {"space": TINY})
        self.seen = []
        self.stop_after = stop_after

    def accuracy(self, arch, images):
        if len(self.seen) == self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(arch)
        return (hash(arch) % 1000) / 1000


def test_pairs_are_collected_once_and_kept(tmp_path):
    first = Counting()
    pairs = collect_pairs(first, None, 20, 0, tmp_path / "accuracy")
    assert [arch for arch, _ in pairs] == first.seen
    assert len(set(first.seen)) == 20
    ends = {end(resolution) for resolution in TINY.resolutions for end in (TINY.smallest, TINY.largest)}
    assert ends <= set(first.seen)
    assert read_journal(tmp_path / "accuracy" / JOURNAL, TINY) == pairs
    second = Counting()
    assert collect_pairs(second, None, 20, 0, tmp_path / "accuracy") == pairs
    assert second.seen == []
    more = collect_pairs(second, None, 26, 0, tmp_path / "accuracy")
    assert more[:20] == pairs
    assert len({arch for arch, _ in more}) == 26


def test_collecting_that_was_cut_off_goes_on(tmp_path):
    whole = collect_pairs(Counting(), None, 15, 0, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        collect_pairs(Counting(stop_after=9), None, 15, 0, tmp_path / "cut")
    journal = tmp_path / "cut" / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 9
    journal.write_text("".join(lines[:8]) + lines[8][:-30])
    assert read_journal(journal, TINY) == whole[:8]
    rest = Counting()
    assert collect_pairs(rest, None, 15, 0, tmp_path / "cut") == whole
    assert rest.seen == [arch for arch, _ in whole[8:]]
    assert journal.read_bytes() == (tmp_path / "whole" / JOURNAL).read_bytes()


def line(arch, accuracy):
    return json.dumps({**arch.to_document(), "accuracy": accuracy})


@pytest.mark.parametrize("cut", ["", "{", '{"accuracy": 0.5', "[1, 2", "\x00\x00", "1"])
def test_a_last_line_cut_short_is_left_out(tmp_path, cut):
    (tmp_path / JOURNAL).write_text(line(TINY.smallest(), 0.5) + "\n" + cut)
    assert read_journal(tmp_path / JOURNAL, TINY) == [(TINY.smallest(), 0.5)]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (line(EDGE.smallest(), 0.5), SpaceError, "line 2, is of the space 'edge', not of 'tiny'"),
        ("{", FormatError, "line 2, is not a pair"),
        ("null", FormatError, "line 2, is not a pair"),
        (line(TINY.smallest(), 1.5), FormatError, r"line 2: `accuracy` \(=1.5\) must be"),
        (line(TINY.smallest(), float("nan")), FormatError, "line 2: `accuracy`"),
        (line(TINY.smallest(), "0.5"), FormatError, "line 2: `accuracy`"),
        ('{"accuracy": 0.5}', FormatError, "line 2, lacks the key"),
    ],
)
def test_a_line_that_is_no_pair_of_the_space_is_refused(tmp_path, text, error, message):
    (tmp_path / JOURNAL).write_text("\n".join([line(TINY.smallest(), 0.5), text, line(TINY.largest(), 0.5), ""]))
    with pytest.raises(error, match=message):
        read_journal(tmp_path / JOURNAL, TINY)


# --- the predictor ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs():
    """Accuracies that grow with the MACs, with a little noise."""
    costs = arch_costs(TINY, lambda block: block.n_macs, 3)
    rng = np.random.default_rng(0)
    codes = np.unique(TINY.sample(rng, 260), axis=0)
    macs = np.log(costs(codes))
    accuracies = 0.6 + 0.3 * (macs - macs.min()) / np.ptp(macs) + rng.normal(0, 0.005, len(codes))
    return list(zip(TINY.decode(codes), np.clip(accuracies, 0, 1), strict=True))


def test_the_predictor_learns_and_knows_its_error(pairs):
    order = np.random.default_rng(1).permutation(len(pairs))
    train, test = ([pairs[i] for i in part] for part in (order[:160], order[160:]))
    predictor, errors = fit_predictor(TINY, train, seed=0)
    predicted = predictor(TINY.encode([arch for arch, _ in test]))
    truth = np.array([accuracy for _, accuracy in test])
    assert spearman(predicted, truth) > 0.9
    rmse_points = 100 * np.sqrt(np.mean((predicted - truth) ** 2))
    assert rmse_points < 3
    assert errors["pairs"] == 160
    assert errors["spearman"] > 0.85
    # One member alone is a little worse than all three together.
    assert 0.5 * rmse_points < errors["rmse_points"] < 3 * rmse_points
    assert len(predictor.members) == 3


def test_the_predictor_is_a_function_of_pairs_and_seed(pairs):
    codes = TINY.encode([arch for arch, _ in pairs])
    answers = [fit_predictor(TINY, pairs[:40], seed, members=1, epochs=5)[0](codes) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert not np.allclose(answers[0], answers[2])


def test_pairs_that_are_all_equal_are_learned_too():
    archs = TINY.decode(np.unique(TINY.sample(np.random.default_rng(3), 12), axis=0))
    predictor, errors = fit_predictor(TINY, [(arch, 0.25) for arch in archs], seed=0, epochs=20)
    np.testing.assert_allclose(predictor(TINY.encode(archs)), 0.25, atol=1e-4)
    assert errors["spearman"] == 0
