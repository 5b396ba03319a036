"""Training that begins with pretrained weights: where they lie, and a classifier for the new classes."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.data import Images, Preprocessing
from ofa_tf.data.augment import Augment
from ofa_tf.errors import FormatError, WorkdirError
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.training import checkpoint
from ofa_tf.training.recipe import Phase, Recipe
from ofa_tf.training.stage_files import StageFiles
from ofa_tf.training.weights import weights_of

INIT = "init"  # folder of the initial weights among those of the stages
IMPORTED, WITH_HEAD = 0, 1  # its two checkpoints: as they were imported, and with a classifier for the images
HEAD_IMAGES = 20_000  # the most that a classifier is fitted to
PENALTY = 1e-2  # of the squared weights on standardised features, beside the mean cross-entropy
BATCH = 64


def transfer_recipe(full: float, width: float, elastic: bool = False) -> Recipe:
    """The recipe `transfer`, for a training that begins with pretrained weights.

    Args:
        full: passes over the training images that the largest network alone is trained for.
        width: passes in which all choices are open.
        elastic: whether the weights are of a supernet whose smaller networks are trained, too: there is no stage `full`
            then, and its channels keep their order.
    """
    first = () if elastic else (Phase("full", full, 0.5, 0.03),)
    return Recipe(
        "transfer",
        batch=32,
        phases=(*first, Phase("width", width, 0.5, 0.04, subnets=3)),
        augment=Augment(area=(0.5, 1.0), brightness=0.2, saturation=0.3),
        weight_decay=1e-4,
        sampling="sandwich",
        sort_channels=not elastic,
        mixed_precision=True,
        importance="contribution",
    )


def save_imported(files: StageFiles, supernet: Supernet) -> None:
    """Keeps the weights that a training is to begin with."""
    checkpoint.save(files.checkpoints(INIT), IMPORTED, weights_of(supernet))


def load_initial(files: StageFiles, supernet: Supernet) -> None:
    """Loads the weights that the first stage begins with.

    Raises:
        WorkdirError: they are lost or damaged.
    """
    _load(files, WITH_HEAD, weights_of(supernet))


def has_head(files: StageFiles) -> bool:
    """Whether a classifier has been fitted."""
    return WITH_HEAD in checkpoint.steps(files.checkpoints(INIT))


def fit_head(files: StageFiles, supernet: Supernet, images: Images, preprocessing: Preprocessing) -> None:
    """Fits the classifier to what the pretrained largest network sees in images, and keeps it with the other weights.

    The features are those of centre squares at the highest resolution, with the batch norm statistics of the
    pretraining.

    Args:
        files: of the training.
        supernet: what the weights are loaded into; in float32.
        images: the training images.
        preprocessing: applied to the pixels.
    """
    _load(files, IMPORTED, weights_of(supernet))
    images = images.spread(HEAD_IMAGES)
    found = features(supernet, images, preprocessing)
    kernel, bias = logistic_regression(found, images.labels, supernet.n_classes)
    classifier = supernet.block_layers["classifier"].op_weights()[""]
    classifier.kernel.assign(kernel)
    classifier.bias.assign(bias)
    checkpoint.save(files.checkpoints(INIT), WITH_HEAD, weights_of(supernet))


def features(supernet: Supernet, images: Images, preprocessing: Preprocessing) -> np.ndarray:
    """What the classifier of the largest network gets: float32 of shape (images, features)."""
    arch = supernet.space.largest()
    network = extract(supernet, arch)
    body = keras.Model(network.inputs, network.get_layer("classifier").input)

    @tf.function(input_signature=[tf.TensorSpec((None, arch.resolution, arch.resolution, 3), tf.uint8)])
    def run(pixels):
        return body(preprocessing(pixels))

    return np.concatenate([run(pixels).numpy() for pixels, _ in images.batches(BATCH, arch.resolution)])


def logistic_regression(
    features: np.ndarray, labels: np.ndarray, n_classes: int, penalty: float = PENALTY
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression on standardised features, by L-BFGS.

    Args:
        features: shape (images, features).
        labels: class indices, shape (images,).
        n_classes: number of classes; some may have no image.
        penalty: of the squared weights, beside the mean cross-entropy.

    Returns:
        Kernel (features, classes) and bias (classes,), float32, for features as they are.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    mean, std = features.mean(0), features.std(0) + 1e-6
    x = np.asarray((features - mean) / std, np.float64)
    targets = np.eye(n_classes)[labels]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        matrix = weights.reshape(-1, n_classes)
        kernel, bias = matrix[:-1], matrix[-1]
        log_shares = log_softmax(x @ kernel + bias, axis=1)
        error = (np.exp(log_shares) - targets) / len(x)
        gradient = np.concatenate([x.T @ error + 2 * penalty * kernel, error.sum(0)[None]])
        return float(-(targets * log_shares).sum() / len(x) + penalty * (kernel**2).sum()), gradient.ravel()

    start = np.zeros((x.shape[1] + 1) * n_classes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100}).x.reshape(-1, n_classes)
    kernel = found[:-1] / std[:, None]
    return kernel.astype(np.float32), (found[-1] - mean @ kernel).astype(np.float32)


def _load(files: StageFiles, step: int, variables: Mapping[str, Any]) -> None:
    try:
        checkpoint.load(checkpoint.checkpoint_path(files.checkpoints(INIT), step), variables)
    except FormatError as error:
        raise WorkdirError(f"{error} They are the pretrained weights: make another workdir with --init.") from None
