"""What the backend of a device is told of a file that is exported for it."""

import numpy as np

from ofa_tf.export.verified import VerifiedFile
from ofa_tf.latency.backend import Exported
from ofa_tf.project.workdir import Config
from ofa_tf.tflite.run import quantise


def exported_facts(config: Config, file: VerifiedFile) -> Exported:
    """Labels, input and answers of a verified file.

    Args:
        config: of the workdir.
        file: the file, and what LiteRT answered to the validation images.
    """
    (entry,), (result,) = file.facts.inputs, file.facts.outputs
    resolution = entry.shape[1]

    def answers(most: int) -> tuple[np.ndarray, np.ndarray]:
        stored: list[np.ndarray] = []
        for pixels, _ in file.images.batches(1, resolution):
            stored.append(quantise(config.preprocessing(pixels).numpy(), entry))
            if len(stored) == most:
                break
        return np.stack(stored), quantise(file.logits[: len(stored)], result).astype(np.int64)

    return Exported(
        classes=tuple(config.classes),
        resolution=resolution,
        dtype=entry.dtype.lower(),
        raw_pixels=file.raw_pixels,
        mean=config.preprocessing.mean,
        std=config.preprocessing.std,
        scale=entry.scale or 1.0,
        zero_point=entry.zero_point or 0,
        answers=answers,
    )
