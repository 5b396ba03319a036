"""From an arch to its validation accuracy, without running it: a small network on the one-hot encoding.

The inputs are those of the published predictor (Cai et al., ICLR 2020, appendix B): kernel size and expand ratio of
every block, zeros for blocks left out, then the resolution. Inference is NumPy, so that a search needs nothing else.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_tf.errors import FormatError
from ofa_tf.jsonio import write_bytes
from ofa_tf.space import SearchSpace

Layers = Sequence[tuple[np.ndarray, np.ndarray]]


def features(space: SearchSpace, codes: np.ndarray, resolutions: Sequence[int]) -> np.ndarray:
    """One-hot inputs of the predictor.

    Args:
        space: the space of the codes.
        codes: canonical, shape (archs, genes).
        resolutions: the resolutions that have a column; an arch at another one gets zeros.

    Returns:
        float32 of shape (archs, blocks * kernels + blocks * expands + resolutions).
    """
    active = space.active(codes)[:, :, None]
    kernels = (codes[:, space.kernel_genes, None] == np.arange(len(space.kernels))) & active
    expands = (codes[:, space.expand_genes, None] == np.arange(len(space.expands))) & active
    chosen = np.array(space.resolutions)[codes[:, 0], None] == np.array(resolutions)
    parts = [kernels.reshape(len(codes), -1), expands.reshape(len(codes), -1), chosen]
    return np.concatenate(parts, axis=1).astype(np.float32)


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
        inputs = features(self.space, codes, self.resolutions)
        outputs = []
        for layers in self.members:
            hidden = inputs
            for weights, biases in layers[:-1]:
                hidden = np.maximum(hidden @ weights + biases, 0.0)
            weights, biases = layers[-1]
            outputs.append((hidden @ weights + biases)[:, 0].astype(np.float64))
        return np.stack(outputs)

    def save(self, path: str | Path) -> None:
        """Writes the weights as an `.npz` file, atomically."""
        arrays = {"resolutions": np.array(self.resolutions, np.int32)}
        for m, layers in enumerate(self.members):
            for n, (weights, biases) in enumerate(layers):
                arrays[f"{m}/{n}/weights"], arrays[f"{m}/{n}/biases"] = weights, biases
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path, space: SearchSpace) -> "Predictor":
        """Reads a predictor of `space`.

        Raises:
            FormatError: not a predictor, or one of a space of another shape.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            resolutions = tuple(int(value) for value in arrays.pop("resolutions"))
            shape = sorted({tuple(int(part) for part in name.split("/")[:2]) for name in arrays})
            members = [[] for _ in range(1 + shape[-1][0])]
            for m, n in shape:
                members[m].append((arrays[f"{m}/{n}/weights"], arrays[f"{m}/{n}/biases"]))
        except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
            raise FormatError(f"{path} is not a predictor: {error}.") from None
        n_inputs = space.n_blocks * (len(space.kernels) + len(space.expands)) + len(resolutions)
        if members[0][0][0].shape[0] != n_inputs:
            raise FormatError(f"{path} is a predictor of another space: `{space.name}` needs {n_inputs} inputs.")
        return cls(space, resolutions, tuple(tuple(layers) for layers in members))
