"""The published accuracy predictor."""

import os
import re
from pathlib import Path

import numpy as np

from ofa_tf.accuracy.predictor import Predictor, n_features
from ofa_tf.errors import FormatError
from ofa_tf.npzio import read_arrays
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import MOBILENET_V3
from ofa_tf.zoo.torch_file import state_dict

RESOLUTIONS = tuple(range(112, 225, 16))  # what the eight columns of the resolution stand for


def read_published_predictor(path: str | os.PathLike, space: SearchSpace = MOBILENET_V3) -> Predictor:
    """Reads the published accuracy predictor: four dense layers on the one-hot arch, for resolutions 112 + 16 n.

    Args:
        path: the checkpoint, or an `.npz` file of the same arrays.
        space: the space that its archs are of; it has 20 blocks, three kernels and three expand ratios.

    Raises:
        FormatError: absent, damaged, not a checkpoint of such a network, or a space of another shape.
    """
    path = Path(path)
    arrays = read_arrays(path) if path.suffix == ".npz" else state_dict(path)
    numbered = [re.fullmatch(r"([0-9]{1,4})\.(weight|bias)", name) for name in arrays]
    order = sorted({int(found[1]) for found in numbered if found})
    expected = {f"{index}.{part}" for index in order for part in ("weight", "bias")}
    if set(arrays) != expected or len(order) < 2:
        raise FormatError(f"{path} is not the published predictor: it holds {sorted(arrays)[:4]} and so on.")
    n_inputs = n_features(space, RESOLUTIONS)
    layers = []
    for index in order:
        weights, biases = arrays[f"{index}.weight"], arrays[f"{index}.bias"]
        if weights.ndim != 2 or weights.shape[1] != n_inputs or biases.shape != weights.shape[:1]:
            raise FormatError(f"{path}: layer {index} has the shape {weights.shape}; its input has {n_inputs} numbers.")
        if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in (weights, biases)):
            raise FormatError(f"{path}: layer {index} must hold finite floating-point numbers.")
        layers.append((np.ascontiguousarray(weights.T, np.float32), biases.astype(np.float32)))
        n_inputs = len(biases)
    if n_inputs != 1:
        raise FormatError(f"{path} ends in {n_inputs} numbers, not in an accuracy.")
    return Predictor(space, RESOLUTIONS, (tuple(layers),))
