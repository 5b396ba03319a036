"""Subnets' accuracies: calibration, collecting pairs, learning the predictor."""

import dataclasses
import json
from collections import Counter
from itertools import islice, pairwise

import keras
import numpy as np
import pytest
from image_files import encoded, make_folder
from layer_checker import randomize

from ofa_tf.accuracy.collect import JOURNAL, balanced_archs, collect_pairs, read_journal
from ofa_tf.accuracy.fit import MEMBERS, _linear, _sum, fit_predictor
from ofa_tf.accuracy.predictor import Predictor, features
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.costs import arch_costs
from ofa_tf.data import ImageSet, Preprocessing
from ofa_tf.errors import FormatError, SpaceError
from ofa_tf.spaces import EDGE, MOBILENET_V3, TINY
from ofa_tf.statistics import spearman
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.training import evaluation as evaluate
from ofa_tf.training.evaluation import SubnetEvaluator


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


def test_where_subnets_are_compared_fewer_images_calibrate(evaluator, monkeypatch):
    monkeypatch.setattr(evaluate, "RANKING_IMAGES", 10)
    calibration, images = make_images(50), make_images(7, seed=1)
    kept = SubnetEvaluator(evaluator.supernet, Preprocessing(), calibration, frozen=True)
    ranking = kept.ranking()
    assert (len(kept.calibration), len(ranking.calibration)) == (50, 10)
    for resolution in (24, 32, 24):  # in turns: neither may use what the other keeps
        arch = TINY.largest(resolution)
        for own, n in ((kept, 50), (ranking, 10)):
            plain = SubnetEvaluator(evaluator.supernet, Preprocessing(), calibration.spread(n))
            plain.calibrate(arch)
            expected = plain.logits(arch, images)
            own.calibrate(arch)
            np.testing.assert_array_equal(own.logits(arch, images), expected)
    assert kept.traces == ranking.traces == {"calibrate": 1, "predict": 1}


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


def test_what_frozen_weights_share_changes_nothing(evaluator, small_batches, monkeypatch):
    """Another order of archs and resolutions, caches too small for all of it: the same to the bit."""
    frozen = SubnetEvaluator(evaluator.supernet, Preprocessing(), make_images(50), frozen=True)
    archs, images = [TINY.smallest(24), TINY.largest(32), TINY.largest(24), TINY.smallest(32)], make_images(30, seed=1)

    layers = (evaluator.supernet.block_layers[name] for name in ("stem", "first"))
    start = [variable for layer in layers for variable in layer.non_trainable_variables]

    def results(evaluator, arch):
        evaluator.calibrate(arch)
        return [evaluator.logits(arch, images), *(variable.numpy() for variable in start)]

    expected = {arch: results(evaluator, arch) for arch in archs}
    begun = []
    monkeypatch.setattr(
        frozen, "_begin", lambda pixels, begin=frozen._begin: begun.append(len(pixels)) or begin(pixels)
    )
    for cache_bytes, times in ((1 << 29, 2), (700_000, 3), (0, 8)):
        monkeypatch.setattr(evaluate, "CACHE_BYTES", cache_bytes)
        frozen._begun = evaluate._Cache()
        begun.clear()
        for arch in [*archs, *reversed(archs)]:
            for found, wanted in zip(results(frozen, arch), expected[arch], strict=True):
                np.testing.assert_array_equal(found, wanted)
        assert sum(begun) >= times * len(images)
        assert (sum(begun) == times * len(images)) == (cache_bytes != 700_000)


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


# --- collecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3], ids=lambda space: space.name)
def test_archs_are_balanced_over_resolution_and_total_depth(space):
    archs = list(islice(balanced_archs(space, 0), 400))
    assert len(set(archs)) == 400
    n_ends = 2 * len(space.resolutions)
    ends = [end(resolution) for resolution in space.resolutions for end in (space.smallest, space.largest)]
    assert archs[:n_ends] == ends
    assert list(islice(balanced_archs(space, 0), 30)) == archs[:30]
    assert list(islice(balanced_archs(space, 1), n_ends + 3)) != archs[: n_ends + 3]
    for what in (lambda arch: arch.resolution, lambda arch: sum(arch.depths)):
        counts = Counter(map(what, archs[n_ends:]))
        # In a space as small as `tiny` some draws are met before.
        assert max(counts.values()) - min(counts.values()) <= 6
    depths = {sum(arch.depths) for arch in archs}
    assert depths == set(range(min(depths), sum(stage.depths[-1] for stage in space.stages) + 1))
    for genes in ("kernels", "expands"):
        counts = Counter(value for arch in archs[n_ends:] for value in getattr(arch, genes) if value)
        assert min(counts.values()) > 0.8 * max(counts.values())


def test_archs_end_where_there_are_no_more():
    space = dataclasses.replace(TINY, stages=TINY.stages[:1], kernels=(3,), resolutions=(24,))
    assert len(list(balanced_archs(space, 0))) == space.size() == 12


class Counting:
    """Accuracies that are made up; stops as Ctrl-C does."""

    def __init__(self, stop_after=None):
        self.seen = []
        self.stop_after = stop_after

    def __call__(self, arch):
        if len(self.seen) == self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(arch)
        return (hash(arch) % 1000) / 1000


def collect(accuracy, n, journal):
    return collect_pairs(TINY, balanced_archs(TINY, 0), accuracy, n, journal)


def test_pairs_are_collected_once_and_kept(tmp_path):
    first, journal = Counting(), tmp_path / "accuracy" / JOURNAL
    pairs = collect(first, 20, journal)
    assert [arch for arch, _ in pairs] == first.seen == list(islice(balanced_archs(TINY, 0), 20))
    assert read_journal(journal, TINY) == pairs
    second = Counting()
    assert collect(second, 20, journal) == pairs
    assert second.seen == []
    more = collect(second, 26, journal)
    assert more[:20] == pairs
    assert len({arch for arch, _ in more}) == 26


def test_a_result_is_on_disk_before_the_next_is_begun(tmp_path):
    kept = []

    def accuracy(arch):
        kept.append(len(read_journal(tmp_path / JOURNAL, TINY)))
        return 0.5

    collect(accuracy, 5, tmp_path / JOURNAL)
    assert kept == [0, 1, 2, 3, 4]


def test_collecting_that_was_cut_off_goes_on(tmp_path):
    whole = collect(Counting(), 15, tmp_path / "whole")
    journal = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        collect(Counting(stop_after=9), 15, journal)
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 9
    journal.write_text("".join(lines[:8]) + lines[8][:-30])
    assert read_journal(journal, TINY) == whole[:8]
    rest = Counting()
    assert collect(rest, 15, journal) == whole
    assert rest.seen == [arch for arch, _ in whole[8:]]
    assert journal.read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("accuracy", [float("nan"), float("inf"), -0.1])
def test_an_accuracy_that_is_no_share_is_refused_and_not_kept(tmp_path, accuracy):
    with pytest.raises(FormatError, match=f"has the accuracy {accuracy}"):
        collect(lambda _: accuracy, 5, tmp_path / JOURNAL)
    assert read_journal(tmp_path / JOURNAL, TINY) == []


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
    order = rng.permutation(len(codes))
    return list(zip(TINY.decode(codes[order]), np.clip(accuracies[order], 0, 1), strict=True))


def errors_on(predictor, pairs):
    """RMSE in points and rank correlation."""
    truth = np.array([accuracy for _, accuracy in pairs])
    predicted = predictor(TINY.encode([arch for arch, _ in pairs]))
    return 100 * np.sqrt(np.mean((predicted - truth) ** 2)), spearman(predicted, truth)


def test_the_predictor_learns_and_knows_its_error(pairs):
    train, test = pairs[:160], pairs[160:]
    predictor, errors = fit_predictor(TINY, train, seed=0, n_images=1000)
    rmse_points, rank = errors_on(predictor, test)
    assert rank > 0.98
    assert rmse_points < 1.0  # noise of 0.5 points included
    assert errors["pairs"] == 160
    assert errors["spearman"] > 0.98
    # One member alone is a little worse than all together.
    assert 0.7 * rmse_points < errors["rmse_points"] < 1.5 * rmse_points < errors["worst_points"]
    accuracies = np.array([accuracy for _, accuracy in train])
    assert errors["mean_rmse_points"] == pytest.approx(100 * accuracies.std())
    mean = accuracies.mean()
    assert errors["noise_points"] == pytest.approx(100 * np.sqrt(mean * (1 - mean) / 1000))
    assert len(predictor.members) == MEMBERS


def test_the_linear_function_alone_is_exact_in_the_sum():
    rng = np.random.default_rng(0)
    codes = TINY.sample(rng, 50)
    inputs = features(TINY, codes, TINY.resolutions)
    line = rng.normal(size=inputs.shape[1]), 0.3
    widths = [inputs.shape[1], 7, 5, 1]
    layers = [(rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in pairwise(widths)]
    for network in (layers, _linear(np.ones(inputs.shape[1]), 2.0)):
        alone = Predictor(TINY, TINY.resolutions, (network,))(codes)
        both = Predictor(TINY, TINY.resolutions, (_sum(line, network, 0.25),))(codes)
        np.testing.assert_allclose(both, 0.25 * alone + inputs @ line[0] + line[1], atol=1e-4)


def test_a_few_pairs_are_enough_for_a_linear_function(pairs):
    train, test = pairs[:40], pairs[40:]
    predictor, errors = fit_predictor(TINY, train, seed=0)
    assert errors_on(predictor, test)[1] > 0.85
    assert errors["rmse_points"] < 0.6 * errors["mean_rmse_points"]
    assert "noise_points" not in errors


def test_a_network_learns_what_a_linear_function_cannot(monkeypatch):
    """Accuracies in which depth counts at the largest resolution alone."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.unique(TINY.sample(rng, 420), axis=0))
    accuracies = 0.6 + 0.04 * (codes[:, 0] == 2) * codes[:, TINY.depth_genes].sum(1)
    pairs = list(zip(TINY.decode(codes), accuracies, strict=True))
    both, errors = fit_predictor(TINY, pairs[:320], seed=0)
    monkeypatch.setattr("ofa_tf.accuracy.fit.STOPS", ())
    linear, linear_errors = fit_predictor(TINY, pairs[:320], seed=0)
    # The published network, with one unit more in each layer for the linear function.
    assert [weights.shape[1] for weights, _ in both.members[0]] == [401, 401, 401, 1]
    assert len(linear.members[0]) == 1
    assert errors["rmse_points"] < 0.9 * linear_errors["rmse_points"]
    assert errors_on(both, pairs[320:])[0] < 0.9 * errors_on(linear, pairs[320:])[0]


def test_the_predictor_is_a_function_of_pairs_and_seed(pairs):
    codes = TINY.encode([arch for arch, _ in pairs])
    answers = [fit_predictor(TINY, pairs[:60], seed, hidden=(8,))[0](codes) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert not np.allclose(answers[0], answers[2])


def test_noise_is_answered_with_the_mean(tmp_path):
    rng = np.random.default_rng(3)
    archs = TINY.decode(np.unique(TINY.sample(rng, 40), axis=0))
    accuracies = rng.uniform(0.4, 0.6, len(archs))
    predictor, errors = fit_predictor(TINY, list(zip(archs, accuracies, strict=True)), seed=0, n_images=1000)
    np.testing.assert_allclose(predictor(TINY.encode(archs)), accuracies.mean(), rtol=1e-6)
    assert errors["rmse_points"] == pytest.approx(100 * accuracies.std())
    assert errors["spearman"] == 0
    FittedPredictor(predictor, errors).save(tmp_path)
    assert FittedPredictor.load(tmp_path, TINY).says_nothing
    # Images so few that the accuracies may all be the same: then the mean is right.
    assert not FittedPredictor(predictor, {**errors, "noise_points": 10.0}).says_nothing


def test_pairs_that_are_all_equal_are_learned_too():
    archs = TINY.decode(np.unique(TINY.sample(np.random.default_rng(3), 12), axis=0))
    predictor, errors = fit_predictor(TINY, [(arch, 0.25) for arch in archs], seed=0)
    np.testing.assert_allclose(predictor(TINY.encode(archs)), 0.25, atol=1e-4)
    assert errors["spearman"] == 0
    assert not FittedPredictor(predictor, errors).says_nothing


def test_the_loss_of_int8_is_learned_on_top(pairs):
    """Large kernels lose more: a mean loss would be off by it."""
    n_large = np.array([sum(kernel == 7 for kernel in arch.kernels) for arch, _ in pairs])
    int8 = [(arch, accuracy - 0.01 - 0.01 * n) for (arch, accuracy), n in zip(pairs, n_large, strict=True)]
    train, few = pairs[:100], int8[:30]
    predictor, errors = fit_predictor(TINY, train, seed=0, quantised=few)
    float_predictor, float_errors = fit_predictor(TINY, train, seed=0)
    assert errors["int8_pairs"] == 30
    assert errors["int8_drop_points"] == pytest.approx(1 + n_large[:30].mean(), abs=1e-6)
    rmse_points, rank = errors_on(predictor, int8[100:])
    assert rank > 0.95
    assert rmse_points < 1.5 * errors_on(float_predictor, pairs[100:])[0]
    assert errors_on(float_predictor, int8[100:])[0] > 2 * rmse_points
    assert 0.5 * rmse_points < errors["rmse_points"] < 2 * rmse_points
    assert float_errors["pairs"] == errors["pairs"] == 100


def test_a_loss_that_tells_nothing_shrinks_to_its_mean(pairs):
    codes = TINY.encode([arch for arch, _ in pairs])
    noise = np.random.default_rng(5).normal(0, 0.002, 25)
    few = [(arch, accuracy - 0.02 - n) for (arch, accuracy), n in zip(pairs[:25], noise, strict=True)]
    float_predictor, _ = fit_predictor(TINY, pairs[:60], seed=0)
    predictor, _ = fit_predictor(TINY, pairs[:60], seed=0, quantised=few)
    np.testing.assert_allclose(float_predictor(codes) - predictor(codes), 0.02 + noise.mean(), atol=2e-3)
