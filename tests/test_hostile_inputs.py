"""A short run of `benchmarks/hostile.py`: every reader ends in an answer or an error of ours."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from ofa_tf.errors import OfaError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
INPUTS = 150


@pytest.fixture(scope="module")
def bench():
    sys.path.append(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("hostile_benchmark", BENCHMARKS / "hostile.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def readers(bench):
    return bench.readers()


@pytest.mark.parametrize(
    "name",
    ["arch", "space", "recipe", "config", "ledger", "table", "manifest", "journal", "predictor", "checkpoint", "yaml",
     "benchmark_model", "compiler", "labels", "tflite", "metadata", "image"],
)  # fmt: skip
def test_a_reader_survives(bench, readers, name):
    reader = readers[name]
    answers, messages = 0, []
    for number in range(INPUTS):
        content = bench.mutated(np.random.default_rng([1, number]), reader)
        try:
            reader.read(content.decode(errors="replace") if reader.text else content)
            answers += 1
        except OfaError as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
    assert answers < INPUTS or name in ("labels", "checkpoint")


def test_no_reader_is_left_out(readers):
    (parameters,) = (mark for mark in test_a_reader_survives.pytestmark if mark.name == "parametrize")
    assert set(parameters.args[1]) == set(readers)
