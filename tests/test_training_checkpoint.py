"""Checkpoints: damaged ones change nothing, the newest two stay."""

import keras
import numpy as np
import pytest

from ofa_tf.errors import FormatError
from ofa_tf.training import checkpoint


def test_checkpoints_that_are_damaged_or_of_another_network_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    variables = {name: keras.Variable(rng.normal(size=shape), dtype="float32") for name, shape in [("a", 3), ("b", 4)]}
    good = checkpoint.save(tmp_path, 7, variables).read_bytes()
    expected = {name: variable.numpy() for name, variable in variables.items()}
    bad = tmp_path / "bad.npz"

    def refused(message):
        before = [variable.assign(variable * 0 + 5).numpy() for variable in variables.values()]
        with pytest.raises(FormatError, match=message):
            checkpoint.load(bad, variables)
        for old, variable in zip(before, variables.values(), strict=True):
            np.testing.assert_array_equal(variable.numpy(), old)

    for content in (b"", b"PK", b"text", good[:-1], good[: len(good) // 2], good[5:]):
        bad.write_bytes(content)
        refused("is damaged")
    n_refused = 0
    for position in rng.permutation(len(good))[:200]:
        content = bytearray(good)
        content[position] ^= 1 << rng.integers(8)
        bad.write_bytes(content)
        try:
            checkpoint.load(bad, variables)
        except FormatError:
            n_refused += 1
        else:
            for name, variable in variables.items():
                np.testing.assert_array_equal(variable.numpy(), expected[name])
    assert n_refused > 50
    for arrays, message in (
        ({"a": expected["a"]}, "of another network: it lacks b"),
        ({"a": expected["a"], "b": np.zeros(5, np.float32)}, r"b is float32\[5\], not float32\[4\]"),
        ({"a": expected["a"], "b": np.zeros(4)}, "b is float64"),
        ({"a": expected["a"], "b": np.full(4, "x")}, "b is <U1"),
    ):
        np.savez(bad, **arrays)
        refused(message)
    with pytest.raises(FormatError, match="There is no file"):
        checkpoint.load(tmp_path / "absent.npz", variables)


def test_the_newest_two_checkpoints_stay(tmp_path):
    variables = {"a": keras.Variable([1.0])}
    for step in (3, 20, 100):
        variables["a"].assign([float(step)])
        checkpoint.save(tmp_path, step, variables)
    assert checkpoint.steps(tmp_path) == [20, 100]
    assert checkpoint.load_newest(tmp_path, variables) == 100
    assert checkpoint.load_newest(tmp_path / "none", variables) == 0
    assert variables["a"].numpy().tolist() == [100.0]
