"""What a training has logged: the scalars in TensorBoard's event files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.util import event_pb2

MOST_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """One scalar over the steps of a stage.

    Args:
        steps: ascending, shape (points,).
        values: finite, shape (points,).
    """

    steps: np.ndarray
    values: np.ndarray


def read_curves(folder: Path) -> Mapping[str, Curve]:
    """Reads the scalars of one stage, by name, thinned out to what a chart can show.

    Where a run was resumed, a step that was logged twice counts as it was the last time. A file that is cut short or
    altered, as one that is still written may be, counts up to there.

    Args:
        folder: the stage's folder in `logs/`; it need not exist.
    """
    points: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime):
        try:
            for record in tf.data.TFRecordDataset(str(path)):
                _note(event_pb2.Event.FromString(record.numpy()), points)
        except (tf.errors.OpError, DecodeError):
            continue
    return {name: _curve(values) for name, values in points.items() if values}


def _note(event: event_pb2.Event, points: dict[str, dict[int, float]]) -> None:
    for value in event.summary.value:
        content = value.tensor.tensor_content
        numbers = np.frombuffer(content, "<f4") if len(content) == 4 else value.tensor.float_val
        if len(numbers) == 1 and np.isfinite(numbers[0]):
            points.setdefault(value.tag, {})[event.step] = float(numbers[0])


def _curve(values: Mapping[int, float]) -> Curve:
    steps = np.array(sorted(values))
    kept = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_POINTS)).round().astype(int))]
    return Curve(kept, np.array([values[step] for step in kept.tolist()]))
