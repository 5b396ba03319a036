"""Learning the predictor from (arch, accuracy) pairs."""

from collections.abc import Sequence
from itertools import pairwise

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.accuracy.collect import Pairs
from ofa_tf.accuracy.predictor import Layers, Predictor, features
from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.space import SearchSpace
from ofa_tf.statistics import spearman

HIDDEN = (400, 400, 400)  # the published architecture (Cai et al., ICLR 2020, appendix B)
MEMBERS = 3
STOPS = (5, 10, 20, 40, 80)  # epochs; training goes back to the best of them, or to none
TREND, TREND_ARCHS, N_CLASSES = 1.5, 500, 10
RIDGES = np.append(np.geomspace(0.1, 1000, 17), np.inf)  # with the last a linear function is a constant


def fit_predictor(
    space: SearchSpace,
    pairs: Pairs,
    seed: int,
    n_images: int | None = None,
    quantised: Pairs | None = None,
    members: int = MEMBERS,
    hidden: Sequence[int] = HIDDEN,
) -> tuple[Predictor, dict[str, float]]:
    """Learns accuracies from pairs, with as much of a network as the pairs can support.

    Each member of the ensemble leaves out a different part of the pairs. It is the sum of a linear function of the
    one-hot arch (ridge regression), for which a few dozen pairs are enough, and the published network, trained on what
    the linear function does not explain. Training returns to the epoch at which all members together were best on what
    they left out. That may be before training, with only the linear function, or with the mean in its place where that
    is better. Nothing else is chosen on the left-out pairs, so the errors on them are those of unseen archs.

    With `quantised` the accuracies of int8 files are predicted: their loss is another linear function of the arch,
    learned from a few of them; it shrinks to the mean loss where they show nothing more.

    Args:
        space: the space of the archs.
        pairs: archs with their accuracies (0 to 1).
        seed: seed of the initial weights and of the parts.
        n_images: number of images behind each accuracy.
        quantised: some of these archs with the accuracies of their int8 files on the same images.
        members: number of networks in the ensemble.
        hidden: widths of their hidden layers.

    Returns:
        The predictor, and its error on pairs left out of a fit, in percentage points: `rmse_points`,
        `worst_points`, `spearman`, `pairs`; `mean_rmse_points`, the error of the mean of all; with
        `n_images`, `noise_points`, the standard error of one accuracy. With `quantised` the errors are those on int8
        files, and there are `int8_pairs` and `int8_drop_points`, how many and their mean loss.
    """
    members = min(members, len(pairs))
    targets = np.array([accuracy for _, accuracy in pairs])
    inputs = features(space, space.encode([arch for arch, _ in pairs]), space.resolutions)
    part = np.random.default_rng([seed, 4]).permutation(len(pairs)) % members
    seen = part != np.arange(members)[:, None]
    left_out = part, np.arange(len(pairs))
    trends = _trends(space)

    lines = [_ridge(inputs[rows], targets[rows], trends)[:2] for rows in seen]
    straight = np.stack([inputs @ slope + intercept for slope, intercept in lines])
    if _rmse(straight[left_out], targets) >= targets.std():
        lines = [(np.zeros(inputs.shape[1]), targets.mean())] * members
        straight = np.full(seen.shape, targets.mean())
    best, unseen = [_linear(*line) for line in lines], straight[left_out]
    scale = float(np.std(targets - unseen))
    if scale > 1e-6:
        networks = _Networks(inputs, (targets - straight) / scale, seen, hidden, seed)
        for stop in STOPS:
            bent = straight + networks.train(stop) * scale
            if _rmse(bent[left_out], targets) < _rmse(unseen, targets):
                best = [_sum(line, layers, scale) for line, layers in zip(lines, networks.layers(), strict=True)]
                unseen = bent[left_out]

    facts = {"pairs": float(len(pairs))}
    if quantised:
        row_of = {arch: row for row, (arch, _) in enumerate(pairs)}
        rows = [row_of[arch] for arch, _ in quantised]
        losses = targets[rows] - [accuracy for _, accuracy in quantised]
        slope, intercept, unexplained = _ridge(inputs[rows], losses, trends)
        best = [_sum((-slope, -intercept), layers, 1.0) for layers in best]
        targets, unseen = targets[rows] - losses, unseen[rows] - (losses - unexplained)
        facts |= {"int8_pairs": float(len(rows)), "int8_drop_points": 100 * float(losses.mean())}
    errors = {
        "rmse_points": 100 * _rmse(unseen, targets),
        "worst_points": 100 * float(np.abs(unseen - targets).max()),
        "spearman": spearman(unseen, targets),
        "mean_rmse_points": 100 * float(targets.std()),
        **facts,
    }
    if n_images is not None:
        mean = float(targets.mean())
        errors["noise_points"] = 100 * (mean * (1 - mean) / n_images) ** 0.5
    return Predictor(space, space.resolutions, tuple(best)), errors


def _rmse(predicted: np.ndarray, targets: np.ndarray) -> float:
    return float(np.sqrt(np.mean((predicted - targets) ** 2)))


def _trends(space: SearchSpace) -> np.ndarray:
    """How the logarithms of MACs and parameters grow with the inputs, linearly: shape (inputs, 2).

    They are scaled so that their standard deviation over the space is `TREND`.
    """
    archs = space.decode(space.sample(np.random.default_rng(0), TREND_ARCHS))
    inputs = features(space, space.encode(archs), space.resolutions)
    walks = [walk(space, arch, N_CLASSES) for arch in archs]
    logs = np.log([(count_macs(blocks), count_params(blocks)) for blocks in walks])
    slopes = np.linalg.lstsq(inputs - inputs.mean(0), logs - logs.mean(0), rcond=1e-6)[0]
    return slopes * (TREND / np.maximum((inputs @ slopes).std(0), 1e-9))


def _ridge(inputs: np.ndarray, targets: np.ndarray, trends: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Slope and intercept of the ridge regression whose leave-one-out errors are least, and these errors.

    The trends are inputs too, and so shrink less than the others: what is known beforehand is that accuracy grows with
    the size of a network, and a few dozen pairs show it better than what each single choice does.
    """
    n_inputs = inputs.shape[1]
    inputs = np.concatenate([inputs, inputs @ trends], axis=1)
    centre, mean = inputs.mean(0, dtype=np.float64), targets.mean()
    left, values, right = np.linalg.svd(inputs - centre, full_matrices=False)
    rotated = left.T @ (targets - mean)
    shrink = values**2 / (values**2 + RIDGES[:, None])
    leverage = shrink @ (left**2).T + 1 / len(targets)
    residuals = (targets - mean - (shrink * rotated) @ left.T) / np.maximum(1 - leverage, 1e-9)
    best = int((residuals**2).mean(1).argmin())
    slope = right.T @ (values / (values**2 + RIDGES[best]) * rotated)
    return slope[:n_inputs] + trends @ slope[n_inputs:], float(mean - centre @ slope), residuals[best]


class _Networks:
    """The networks of all members, trained side by side on all their pairs at once: a few hundred, so one batch.

    Args:
        inputs: shape (pairs, inputs).
        targets: per member, shape (members, pairs).
        seen: which pairs each member learns from, shape (members, pairs).
        hidden: widths of the hidden layers.
        seed: seed of the initial weights. The outputs are 0 at first.
    """

    def __init__(self, inputs, targets, seen, hidden: Sequence[int], seed: int):
        rng = np.random.default_rng([seed, 5])
        widths = [inputs.shape[1], *hidden, 1]
        self._weights, self._biases = [], []
        for n_in, n_out in pairwise(widths):
            weights = rng.normal(0, np.sqrt(2 / n_in), (len(seen), n_in, n_out)) * (n_out != 1)
            self._weights.append(keras.Variable(weights.astype(np.float32)))
            self._biases.append(keras.Variable(np.zeros((len(seen), 1, n_out), np.float32)))
        variables = [*self._weights, *self._biases]
        optimizer = keras.optimizers.AdamW(1e-3, weight_decay=1e-2)
        optimizer.build(variables)
        inputs, targets = tf.constant(inputs, tf.float32), tf.constant(targets, tf.float32)
        share = tf.constant(seen / seen.sum(1, keepdims=True), tf.float32)

        def outputs():
            x = tf.tile(inputs[None], (len(seen), 1, 1))
            for weights, biases in zip(self._weights[:-1], self._biases[:-1], strict=True):
                x = tf.nn.relu(x @ weights + biases)
            return (x @ self._weights[-1] + self._biases[-1])[..., 0]

        @tf.function
        def train(epochs):
            for _ in tf.range(epochs):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_sum(share * tf.square(outputs() - targets))
                optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
            return outputs()

        self._train, self._epochs = train, 0

    def train(self, stop: int) -> np.ndarray:
        """Goes on until that epoch; returns the outputs, shape (members, pairs)."""
        outputs = self._train(tf.constant(stop - self._epochs)).numpy()
        self._epochs = stop
        return outputs

    def layers(self) -> list[Layers]:
        """The layers of each member."""
        arrays = [(np.array(w), np.array(b)) for w, b in zip(self._weights, self._biases, strict=True)]
        return [[(w[member], b[member, 0]) for w, b in arrays] for member in range(len(arrays[0][0]))]


def _linear(slope: np.ndarray, intercept: float) -> Layers:
    """A linear function as a network of one layer."""
    return ((slope[:, None].astype(np.float32), np.array([intercept], np.float32)),)


def _sum(line: tuple[np.ndarray, float], layers: Layers, scale: float) -> Layers:
    """A linear function plus `scale` times a network, as one network.

    Each hidden layer has one unit more, which hands the linear function on. The inputs are zeros and ones, so it has a
    least value; what lies above that passes the ReLUs unchanged.
    """
    slope, intercept = line
    least = np.minimum(slope, 0).sum()
    combined = []
    for index, (weights, biases) in enumerate(layers):
        (n_in, n_out), first, last = weights.shape, index == 0, index == len(layers) - 1
        unit = slope[:, None] if first else np.eye(n_in + 1, 1, -n_in)
        rows = weights if first else np.concatenate([weights, np.zeros((1, n_out))])
        if last:
            combined.append((rows * scale + unit, biases * scale + intercept + (0.0 if first else least)))
        else:
            combined.append((np.concatenate([rows, unit], 1), np.append(biases, -least if first else 0.0)))
    return tuple((weights.astype(np.float32), biases.astype(np.float32)) for weights, biases in combined)
