"""A short run of `benchmarks/hostile.py`: every reader ends in an answer or an error of ours."""

import importlib.util
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from ofa_tf.edgetpu import rules as edgetpu
from ofa_tf.errors import OfaError
from ofa_tf.ethosu import rules as ethosu
from ofa_tf.tflite.operators import Operator, Tensor

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
     "benchmark_model", "app", "compiler", "vela_log", "vela_summary", "labels", "tflite", "edgetpu", "ethosu", "arena",
     "metadata", "image"],
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


TYPES = ("INT8", "UINT8", "INT16", "INT32", "INT64", "FLOAT32", "BOOL", "TYPE_99")
SIZES = (-1, 0, 1, 2, 3, 8, 255, 65_536, 2**31 - 1)
SCALES = ((), (0.1,), (0.0,), (float("nan"),), (float("inf"),), (0.1, 0.2))
OPTIONS = (
    "padding", "stride_width", "stride_height", "dilation_width", "dilation_height", "filter_width", "filter_height",
    "fused_activation", "weights_format", "axis", "align_corners", "half_pixel_centers",
)  # fmt: skip


def any_tensor(rng: np.random.Generator, friendly: bool) -> Tensor | None:
    """A tensor that may contradict itself, or none; a friendly one is of small size and quantised."""
    if friendly:
        shape = tuple(int(size) for size in rng.choice((1, 2, 3, 8), rng.integers(1, 6)))
        data = rng.integers(256, size=np.prod(shape)).astype(np.uint8) if rng.random() < 0.3 else None
        return Tensor("t", "INT8", shape, data, scales=(0.1,))
    if rng.random() < 0.1:
        return None
    data = rng.integers(256, size=rng.integers(1, 20)).astype(np.uint8) if rng.random() < 0.5 else None
    shape = tuple(int(size) for size in rng.choice(SIZES, rng.integers(6)))
    return Tensor("t", str(rng.choice(TYPES)), shape, data, scales=SCALES[rng.integers(len(SCALES))])


@pytest.mark.parametrize("name", sorted(ethosu.BOTH | ethosu.U85_ONLY | edgetpu.ALWAYS | edgetpu.MAPPED))
def test_no_operator_breaks_the_rules_of_an_accelerator(name):
    """Of a file that contradicts itself in every way: a rule says yes, or why not."""
    reached = 0
    for number in range(300):
        rng = np.random.default_rng([2, number, zlib.crc32(name.encode())])
        friendly = number % 3 > 0  # with hostile tensors hardly any gets as far as the rule of its operator
        inputs, outputs = (tuple(any_tensor(rng, friendly) for _ in range(rng.integers(5))) for _ in range(2))
        options = {key: int(rng.choice(SIZES)) for key in OPTIONS if rng.random() < 0.7}
        op = Operator(name, 1, inputs, outputs, options)
        for reason in (ethosu.fallback_reason(op, "ethos-u55"), ethosu.fallback_reason(op, "ethos-u85"),
                       edgetpu.fallback_reason(op)):  # fmt: skip
            assert reason is None or 0 < len(reason) < 400
        reached += ethosu._tensor_reason(op, u85=True) is None
    assert reached > 60
