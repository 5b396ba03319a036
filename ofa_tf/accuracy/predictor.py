"""From an arch to its validation accuracy, without running it: a small network on the one-hot encoding.

The inputs are those of the published predictor (Cai et al., ICLR 2020, appendix B): kernel size and expand ratio of
every block, zeros for blocks left out, then the resolution. Inference is NumPy, so that a search needs nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tf.errors import FormatError
from ofa_tf.npzio import write_arrays
from ofa_tf.space import SearchSpace

Layers = Sequence[tuple[np.ndarray, np.ndarray]]
CHUNK = 1024  # archs at a time, so that the hidden layers stay in the cache


def features(space: SearchSpace, codes: np.ndarray, resolutions: Sequence[int]) -> np.ndarray:
    """One-hot inputs of the predictor.

    Args:
        space: the space of the codes.
        codes: canonical, shape (archs, genes).
        resolutions: the resolutions that have a column; an arch at another one gets zeros.

    Returns:
        float32 of shape (archs, blocks * kernels + blocks * expands + resolutions).
    """
    active = space.active(codes)
    parts = []
    for choices, genes in ((space.kernels, space.kernel_genes), (space.expands, space.expand_genes)):
        rows = np.eye(len(choices) + 1, len(choices), dtype=np.float32)
        parts.append(rows.take(np.where(active, codes[:, genes], len(choices)), axis=0).reshape(len(codes), -1))
    columns = np.array(space.resolutions)[:, None] == np.array(resolutions)
    return np.concatenate([*parts, columns.astype(np.float32)[codes[:, 0]]], axis=1)


@dataclass(frozen=True)
class Predictor:
    """An ensemble of small ReLU networks; the prediction is their mean.

    Args:
        space: the space whose archs it knows.
        resolutions: the resolutions that it was fitted at.
        members: per network its layers, each (weights of shape (in, out), biases of shape (out,)).
    """

    space: SearchSpace
    resolutions: tuple[int, ...]
    members: tuple[Layers, ...]

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Predicted accuracies (0 to 1) of codes of shape (archs, genes): float64 of shape (archs,)."""
        return self.predict_members(codes).mean(0)

    def predict_members(self, codes: np.ndarray) -> np.ndarray:
        """Predictions of each member, shape (members, archs); their spread tells how sure the mean is."""
        outputs = np.empty((len(self.members), len(codes)))
        for start in range(0, len(codes), CHUNK):
            rows = slice(start, start + CHUNK)
            inputs = features(self.space, codes[rows], self.resolutions)
            for member, layers in enumerate(self.members):
                hidden = inputs
                for weights, biases in layers[:-1]:
                    hidden = hidden @ weights
                    hidden += biases
                    np.maximum(hidden, 0.0, out=hidden)
                weights, biases = layers[-1]
                outputs[member, rows] = (hidden @ weights + biases)[:, 0]
        return outputs

    def mixed(
        self, resolutions: np.ndarray, kernels: np.ndarray, expands: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predictions between archs, and their derivatives: the networks take any shares for their one-hot inputs.

        Args:
            resolutions: indices into those of the space, shape (archs,).
            kernels: share of each kernel size in each block, shape (archs, blocks, kernels).
            expands: share of each expand ratio in each block, shape (archs, blocks, expands).

        Returns:
            Predictions of shape (archs,), and derivatives of the shapes of `kernels` and `expands`.
        """
        n, n_kernels = len(resolutions), kernels[0].size
        columns = np.array(self.space.resolutions)[:, None] == np.array(self.resolutions)
        inputs = np.concatenate([kernels.reshape(n, -1), expands.reshape(n, -1), columns[resolutions]], axis=1)
        inputs = inputs.astype(np.float32)
        predictions, slopes = np.zeros(n), np.zeros_like(inputs)
        for layers in self.members:
            hidden = [inputs]
            for weights, biases in layers[:-1]:
                hidden.append(np.maximum(hidden[-1] @ weights + biases, 0.0))
            weights, biases = layers[-1]
            predictions += (hidden[-1] @ weights + biases)[:, 0]
            slope = np.broadcast_to(weights.T, hidden[-1].shape)
            for (weights, _), output in zip(reversed(layers[:-1]), reversed(hidden[1:]), strict=True):
                slope = (slope * (output > 0)) @ weights.T
            slopes += slope
        slopes /= len(self.members)
        by_kernel, by_expand = slopes[:, :n_kernels], slopes[:, n_kernels : n_kernels + expands[0].size]
        return predictions / len(self.members), by_kernel.reshape(kernels.shape), by_expand.reshape(expands.shape)

    def save(self, path: str | Path) -> None:
        """Writes the weights as an `.npz` file, atomically."""
        arrays: dict[str, Any] = {
            "space": np.array(self.space.name),
            "resolutions": np.array(self.resolutions, np.int32),
        }
        for m, layers in enumerate(self.members):
            for n, (weights, biases) in enumerate(layers):
                arrays[f"{m}/{n}/weights"], arrays[f"{m}/{n}/biases"] = weights, biases
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: str | Path, space: SearchSpace) -> "Predictor":
        """Reads a predictor of `space`; files of before they named their space are told by the shape alone.

        Raises:
            FormatError: not a predictor, or one of another space.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            name = str(arrays.pop("space", space.name))
            resolutions = tuple(int(value) for value in arrays.pop("resolutions"))
            members = _take_members(arrays)
        except Exception as error:  # NumPy and zipfile raise some ten kinds for broken files
            raise FormatError(f"{path} is not a predictor: {error}.") from error
        if name != space.name:
            raise FormatError(f"{path} is a predictor of another space: of `{name}`, not of `{space.name}`.")
        n_inputs = space.n_blocks * (len(space.kernels) + len(space.expands)) + len(resolutions)
        if members[0][0][0].shape[:1] != (n_inputs,):
            raise FormatError(f"{path} is a predictor of another space: `{space.name}` needs {n_inputs} inputs.")
        for layers in members:
            _check_layers(layers, n_inputs, f"{path} is not a predictor")
        return cls(space, resolutions, members)


def _take_members(arrays: dict[str, np.ndarray]) -> tuple[Layers, ...]:
    """Members from arrays named `member/layer/weights` and `…/biases`, both counted from 0; empties the dictionary."""
    members: list[Layers] = []
    while f"{len(members)}/0/weights" in arrays:
        layers: list[tuple[np.ndarray, np.ndarray]] = []
        while (name := f"{len(members)}/{len(layers)}/weights") in arrays:
            layers.append((arrays.pop(name), arrays.pop(f"{len(members)}/{len(layers)}/biases")))
        members.append(tuple(layers))
    if arrays or not members:
        raise ValueError(f"an array is named {min(arrays)!r}" if arrays else "it has no layers")
    return tuple(members)


def _check_layers(layers: Layers, width: int, where: str) -> None:
    """Refuses layers that do not lead from `width` inputs to one number."""
    for weights, biases in layers:
        shaped = weights.ndim == 2 and len(weights) == width and biases.shape == weights.shape[1:]
        if not shaped or weights.dtype.kind != "f" or biases.dtype.kind != "f":
            found = f"{weights.dtype}{list(weights.shape)} and {biases.dtype}{list(biases.shape)}"
            raise FormatError(f"{where}: weights and biases of {found} cannot follow {width} values.")
        if not (np.isfinite(weights).all() and np.isfinite(biases).all()):
            raise FormatError(f"{where}: it holds weights that are not finite.")
        width = weights.shape[1]
    if width != 1:
        raise FormatError(f"{where}: it answers with {width} numbers instead of 1.")
