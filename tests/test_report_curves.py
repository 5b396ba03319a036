"""Curves of a report, read from the logs of a training."""

import os
from pathlib import Path

import numpy as np


def write_scalars(folder: Path, name: str, points: dict[int, float]) -> Path:
    import tensorflow as tf

    from ofa_tf.spaces import TINY
    from ofa_tf.training.tensorboard import Scalars

    before = set(folder.glob("*"))
    watch = Scalars(folder, TINY, 16)
    for step, value in points.items():
        watch.write(step, {name: value})
    watch.close()
    (path,) = set(folder.glob("*")) - before
    assert isinstance(watch.writer, tf.summary.SummaryWriter)
    return path


def test_a_resumed_stage_is_one_curve_of_what_was_logged_last(tmp_path):
    from ofa_tf.report.curves import read_curves

    first = write_scalars(tmp_path, "loss", {1: 4.0, 2: 3.0, 3: 9.0})
    os.utime(first, (1, 1))
    write_scalars(tmp_path, "loss", {3: 2.0, 4: 1.0, 5: float("nan")})
    (curve,) = read_curves(tmp_path).values()
    np.testing.assert_array_equal(curve.steps, [1, 2, 3, 4])
    np.testing.assert_array_equal(curve.values, [4, 3, 2, 1])
    assert read_curves(tmp_path / "none") == {}


def test_long_curves_are_thinned_out_and_keep_their_ends(tmp_path):
    from ofa_tf.report.curves import MOST_POINTS, read_curves

    write_scalars(tmp_path, "loss", {step: float(step) for step in range(MOST_POINTS * 2)})
    curve = read_curves(tmp_path)["loss"]
    assert len(curve.steps) == MOST_POINTS
    assert curve.steps[[0, -1]].tolist() == [0, MOST_POINTS * 2 - 1]
    np.testing.assert_array_equal(curve.steps, curve.values)


def test_a_log_that_is_cut_short_or_altered_counts_up_to_there(tmp_path):
    from ofa_tf.report.curves import read_curves

    path = write_scalars(tmp_path, "loss", {1: 4.0, 2: 3.0})
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    assert read_curves(tmp_path)["loss"].steps.tolist() == [1]
    path.write_bytes(content[:-5] + b"\xff" + content[-4:])
    assert read_curves(tmp_path)["loss"].steps.tolist() == [1]
    path.write_bytes(b"\0" * 100)
    assert read_curves(tmp_path) == {}
