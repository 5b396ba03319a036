"""Collecting (arch, accuracy) pairs and learning the predictor from them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.accuracy.evaluate import SubnetEvaluator
from ofa_tf.accuracy.predictor import Predictor, features
from ofa_tf.data import Images
from ofa_tf.errors import FormatError
from ofa_tf.jsonio import write_bytes
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.statistics import spearman

Pairs = list[tuple[Arch, float]]
JOURNAL = "pairs.jsonl"


def read_journal(path: Path, space: SearchSpace) -> Pairs:
    """Reads the pairs collected so far; a last line cut short by a crash is left out.

    Raises:
        FormatError: a line that is not a pair of this space.
    """
    if not path.exists():
        return []
    pairs: Pairs = []
    lines = path.read_text(errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            record = json.loads(line)
            accuracy = record.pop("accuracy")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            if number == len(lines):
                break
            raise FormatError(f"{path}, line {number}, is not a pair of arch and accuracy: remove it.") from None
        if not isinstance(accuracy, float) or not 0 <= accuracy <= 1:
            raise FormatError(f"{path}, line {number}: `accuracy` (={accuracy!r}) must be a number from 0 to 1.")
        pairs.append((space.arch_from_document(record, f"{path}, line {number},"), accuracy))
    return pairs


def collect_pairs(
    evaluator: SubnetEvaluator, images: Images, n: int, seed: int, folder: Path, progress: Progress = SILENT
) -> Pairs:
    """Evaluates `n` archs, the smallest and the largest of each resolution among them; each result is kept at once.

    Args:
        evaluator: of the trained supernet.
        images: held-out training images.
        n: how many pairs are wanted in all; those in the journal count.
        seed: of the archs drawn.
        folder: keeps the journal; a later call goes on there.
        progress: told about the work.
    """
    space = evaluator.supernet.space
    journal = folder / JOURNAL
    pairs = read_journal(journal, space)
    known = {arch for arch, _ in pairs}
    ends = [end(resolution) for resolution in space.resolutions for end in (space.smallest, space.largest)]
    drawn = space.decode(space.sample(np.random.default_rng([seed, 3]), n))
    wanted = [arch for arch in dict.fromkeys(ends + drawn) if arch not in known][: max(0, n - len(pairs))]
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(_line(arch, accuracy) for arch, accuracy in pairs).encode()
    if journal.exists() and journal.read_bytes() != text:
        write_bytes(journal, text)
    with open(journal, "a") as file, progress.task("evaluating subnets", n, "subnets", done=len(pairs)) as advance:
        for arch in wanted:
            accuracy = evaluator.accuracy(arch, images)
            file.write(_line(arch, accuracy))
            file.flush()
            os.fsync(file.fileno())
            pairs.append((arch, accuracy))
            advance(1)
    return pairs


def _line(arch: Arch, accuracy: float) -> str:
    return json.dumps({**arch.to_document(), "accuracy": accuracy}) + "\n"


def fit_predictor(
    space: SearchSpace, pairs: Pairs, seed: int, members: int = 3, hidden: Sequence[int] = (64, 64), epochs: int = 300
) -> tuple[Predictor, dict[str, float]]:
    """Learns accuracies from pairs with an ensemble; every member leaves out another part, which tells its error.

    Args:
        space: the space of the archs.
        pairs: archs with their accuracies (0 to 1).
        seed: of initial weights and order.
        members: networks in the ensemble.
        hidden: widths of their hidden layers.
        epochs: passes over the pairs.

    Returns:
        The predictor, and its error on pairs that a member had not seen: `rmse_points` (percentage points),
        `spearman`, `pairs`.
    """
    codes = space.encode([arch for arch, _ in pairs])
    targets = np.array([accuracy for _, accuracy in pairs])
    inputs = features(space, codes, space.resolutions)
    centre, scale = targets.mean(), max(targets.std(), 1e-6)
    part = np.random.default_rng([seed, 4]).permutation(len(pairs)) % members
    networks, unseen = [], np.zeros(len(pairs))
    for member in range(members):
        seen = part != member if members > 1 else np.ones(len(pairs), bool)
        layers = _train_member(inputs[seen], (targets[seen] - centre) / scale, seed + member, hidden, epochs)
        weights, biases = layers[-1]
        layers[-1] = (weights * np.float32(scale), biases * np.float32(scale) + np.float32(centre))
        networks.append(tuple(layers))
        unseen[~seen] = Predictor(space, space.resolutions, (networks[-1],))(codes[~seen])
    errors = {
        "rmse_points": float(np.sqrt(np.mean((unseen - targets) ** 2)) * 100),
        "spearman": spearman(unseen, targets),
        "pairs": float(len(pairs)),
    }
    return Predictor(space, space.resolutions, tuple(networks)), errors


def _train_member(
    inputs, targets, seed: int, hidden: Sequence[int], epochs: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    generator = keras.random.SeedGenerator(seed)
    layers = [
        keras.layers.Dense(width, activation, kernel_initializer=keras.initializers.GlorotUniform(seed=generator))
        for width, activation in [*((width, "relu") for width in hidden), (1, None)]
    ]
    model = keras.Sequential([keras.Input((inputs.shape[1],)), *layers])
    optimizer = keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(3e-3, epochs), weight_decay=1e-2)
    variables = model.trainable_variables
    optimizer.build(variables)
    wanted = tf.constant(targets[:, None], tf.float32)

    # All pairs are one batch: a few hundred of them, and no order to make reproducible. One call for all epochs, as
    # an epoch takes less time than a call.
    @tf.function
    def train():
        for _ in tf.range(epochs):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(inputs) - wanted))
            optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)

    train()
    return [(np.array(weights), np.array(biases)) for weights, biases in (layer.get_weights() for layer in layers)]
