"""The published accuracy predictors."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ofa_tf.accuracy.predictor import Layers, Predictor, n_features
from ofa_tf.errors import FormatError
from ofa_tf.npzio import read_arrays
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import MOBILENET_V3, RESNET50D
from ofa_tf.zoo.torch_file import state_dict

RESOLUTIONS = tuple(range(112, 225, 16))  # what the eight columns of the resolution stand for
STEM_INPUTS = 2  # of the predictor of ResNet50D: whether its stem is without and with the residual convolution
RESIDUAL_SLOT, FIRST_BOTTLENECK = 1, 3  # the block slots of that convolution and of the first bottleneck
HIDDEN, LAST = re.compile(r"^layers\.([0-9]{1,4})\.0\.(weight|bias)$"), re.compile(r"layers\.([0-9]{1,4})\.weight")


def read_published_predictor(path: str | os.PathLike, space: SearchSpace = MOBILENET_V3) -> Predictor:
    """Reads a published accuracy predictor: four dense layers on the one-hot arch.

    That of MobileNetV3 knows resolutions of 112 + 16 n pixels, that of ResNet50D those of its space.

    Args:
        path: the checkpoint, or an `.npz` file of the same arrays.
        space: the space that its archs are of: for the predictor of MobileNetV3 any with 20 blocks, three kernels and
            three expand ratios; for that of ResNet50D one with the choices of `resnet50d`.

    Raises:
        FormatError: absent, damaged, not a checkpoint of such a network, or a space of another shape.
    """
    path = Path(path)
    arrays = read_arrays(path) if path.suffix == ".npz" else state_dict(path)
    if "base_acc" in arrays:
        return _resnet50d_predictor(arrays, space, path)
    return Predictor(space, RESOLUTIONS, (_read_layers(arrays, n_features(space, RESOLUTIONS), path),))


def _read_layers(arrays: Mapping[str, np.ndarray], n_inputs: int, path: Path) -> Layers:
    """Dense layers from arrays named `0.weight` and `0.bias`, `2.weight` and so on."""
    numbered = [re.fullmatch(r"([0-9]{1,4})\.(weight|bias)", name) for name in arrays]
    order = sorted({int(found[1]) for found in numbered if found})
    expected = {f"{index}.{part}" for index in order for part in ("weight", "bias")}
    if set(arrays) != expected or len(order) < 2:
        raise FormatError(f"{path} is not the published predictor: it holds {sorted(arrays)[:4]} and so on.")
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
    return tuple(layers)


def _resnet50d_predictor(arrays: Mapping[str, np.ndarray], space: SearchSpace, path: Path) -> Predictor:
    """The predictor of ResNet50D: its inputs in our order, and what it adds to every accuracy as its last bias."""
    if [of.choices for of in space.dimensions[1:]] != [of.choices for of in RESNET50D.dimensions[1:]]:
        raise FormatError(f"{path} is the predictor of `{RESNET50D.name}`, and `{space.name}` has other choices.")
    last = next((match[1] for name in arrays if (match := LAST.fullmatch(name))), None)
    names = {"base_acc": f"{last}.bias", f"layers.{last}.weight": f"{last}.weight"}
    renamed = {names.get(name) or HIDDEN.sub(r"\1.\2", name): array for name, array in arrays.items()}
    n_expands = space.n_blocks - FIRST_BOTTLENECK
    sizes = [len(RESNET50D.resolutions), STEM_INPUTS, *(len(of.channels) for of in space.elastic_streams)]
    sizes += [len(space.expands)] * n_expands
    (weights, biases), *layers = _read_layers(renamed, sum(sizes), path)
    resolutions, (without, with_it), *others = np.split(weights, np.cumsum(sizes)[:-1])
    kernels = np.zeros((space.n_blocks, len(space.kernels), len(biases)), np.float32)
    expands = np.zeros((space.n_blocks, len(space.expands), len(biases)), np.float32)
    # Our inputs have a one where the residual convolution is used, and none where it is not.
    kernels[RESIDUAL_SLOT, 0] = with_it - without
    expands[FIRST_BOTTLENECK:] = others[-n_expands:]
    first = [kernels.reshape(-1, len(biases)), expands.reshape(-1, len(biases)), *others[:-n_expands], resolutions]
    members = ((np.concatenate(first), biases + without), *layers)
    return Predictor(space, RESNET50D.resolutions, (members,))
