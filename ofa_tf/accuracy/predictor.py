"""From an arch to its validation accuracy, without running it: a small network on the one-hot encoding.

The inputs are those of the published predictor (Cai et al., ICLR 2020, appendix B): kernel size and expand ratio of
every block, zeros for blocks left out, then the channels of every elastic stream and the resolution. Inference is
NumPy, so that a search needs nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tf.errors import FormatError
from ofa_tf.npzio import read_arrays, write_arrays
from ofa_tf.space import SearchSpace

Layers = Sequence[tuple[np.ndarray, np.ndarray]]
CHUNK = 1024  # archs at a time, so that the hidden layers stay in the cache
KINK = 0.35  # how near to its kink a unit counts in part in a slope, as a share of its layer's root mean square


def n_features(space: SearchSpace, resolutions: Sequence[int]) -> int:
    """How many inputs a predictor of a space has."""
    return sum(rows * choices for rows, choices in _input_shapes(space)) + len(resolutions)


def _input_shapes(space: SearchSpace) -> list[tuple[int, int]]:
    """Of the block dimensions, and of the channels if they are elastic: how often they are chosen, from how many."""
    per_block = [(space.n_blocks, dimension.size) for dimension in space.block_dimensions]
    sizes = [len(stream.channels) for stream in space.elastic_streams]
    return [*per_block, (len(sizes), max(sizes))] if sizes else per_block


def features(space: SearchSpace, codes: np.ndarray, resolutions: Sequence[int]) -> np.ndarray:
    """One-hot inputs of the predictor.

    Args:
        space: the space of the codes.
        codes: canonical, shape (archs, genes).
        resolutions: the resolutions that have a column; an arch at another one gets zeros.

    Returns:
        float32 of shape (archs, inputs): of each block dimension (blocks * choices), of the channels (elastic streams *
        most choices), then of the resolutions.
    """
    active = space.active(codes)
    parts = []
    for dimension in space.block_dimensions:
        rows = np.eye(dimension.size + 1, dimension.size, dtype=np.float32)
        choices = np.where(active, codes[:, dimension.genes], dimension.size)
        parts.append(rows.take(choices, axis=0).reshape(len(codes), -1))
    for n_streams, n_choices in _input_shapes(space)[len(space.block_dimensions) :]:
        rows = np.eye(n_choices, dtype=np.float32)
        parts.append(rows.take(codes[:, space.channel_genes], axis=0).reshape(len(codes), n_streams * n_choices))
    columns = np.array(space.resolutions)[:, None] == np.array(resolutions)
    return np.concatenate([*parts, columns.astype(np.float32)[codes[:, 0]]], axis=1)


def _forward(layers: Layers, inputs: np.ndarray) -> list[np.ndarray]:
    """The values of every layer, before its ReLU: float32 of shapes (archs, units)."""
    values = [inputs]
    for index, (weights, biases) in enumerate(layers):
        before = values[-1] if index == 0 else np.maximum(values[-1], 0)
        values.append(before @ weights)
        values[-1] += biases
    return values[1:]


def _open(hidden: np.ndarray) -> np.ndarray:
    """How far each unit is open, 0 to 1, by its value before the ReLU: float32 of shape (archs, units)."""
    mean_square = np.einsum("ij,ij->i", hidden, hidden) / hidden.shape[1]
    share = hidden / (2 * KINK * np.sqrt(mean_square)[:, None] + 1e-12)
    share += 0.5
    return np.clip(share, 0, 1, out=share)


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
        """Predictions of each member, shape (members, archs); their spread shows how certain the mean is."""
        outputs = np.empty((len(self.members), len(codes)))
        for start in range(0, len(codes), CHUNK):
            rows = slice(start, start + CHUNK)
            inputs = features(self.space, codes[rows], self.resolutions)
            for member, layers in enumerate(self.members):
                outputs[member, rows] = _forward(layers, inputs)[-1][:, 0]
        return outputs

    def linearize(self, codes: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], tuple[np.ndarray, ...]]]:
        """Predictions, and a function that gives their slopes at some of the archs.

        Slopes are derivatives with respect to the one-hot inputs. They are smoothed, to estimate what whole steps from
        choice to choice gain: a unit near its kink is counted in part.

        Args:
            codes: shape (archs, genes).

        Returns:
            float64 of shape (archs,), and a function of rows of `codes` that gives a float32 array for each block
            dimension of the space, of shape (rows, blocks, choices), and where it has elastic streams another of shape
            (rows, streams, choices).
        """
        inputs = features(self.space, codes, self.resolutions)
        passes = [_forward(layers, inputs) for layers in self.members]
        shapes = _input_shapes(self.space)
        ends = np.cumsum(np.prod(shapes, axis=1))

        def slopes(rows: np.ndarray) -> tuple[np.ndarray, ...]:
            of_inputs = np.zeros((len(rows), inputs.shape[1]), np.float32)
            for layers, transposed in zip(passes, self._transposed, strict=True):
                slope = transposed[-1]
                for hidden, weights in zip(reversed(layers[:-1]), reversed(transposed[:-1]), strict=True):
                    slope = (slope * _open(hidden[rows])) @ weights
                of_inputs += slope
            of_inputs /= len(passes)
            *parts, _ = np.split(of_inputs, ends, axis=1)
            return tuple(part.reshape(len(rows), *shape) for part, shape in zip(parts, shapes, strict=True))

        return np.stack([layers[-1][:, 0] for layers in passes]).mean(0, dtype=np.float64), slopes

    @cached_property
    def _transposed(self) -> tuple[tuple[np.ndarray, ...], ...]:
        """The transposed weights of each member, in rows: products with few rows are half as fast otherwise."""
        return tuple(tuple(np.ascontiguousarray(weights.T) for weights, _ in layers) for layers in self.members)

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
        """Reads a predictor of `space`; older files, which do not name their space, are checked only by shape.

        Raises:
            FormatError: the file is absent, not a predictor, or one of another space.
        """
        arrays = read_arrays(path, "not a predictor")
        try:
            name = str(arrays.pop("space", space.name))
            resolutions = tuple(int(value) for value in arrays.pop("resolutions"))
            members = _take_members(arrays)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(f"{path} is not a predictor: {error}.") from error
        if name != space.name:
            raise FormatError(f"{path} is a predictor of another space: of `{name}`, not of `{space.name}`.")
        n_inputs = n_features(space, resolutions)
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
