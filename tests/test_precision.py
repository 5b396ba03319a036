"""What each precision is made of, and that a further one is a row of the registry."""

from functools import cache

import numpy as np
import pytest
from ofa_tf.cli.common import precision_option
from ofa_tf.cli.export import command as export_command

from ofa_tf.edgetpu.latency_model import require_legal
from ofa_tf.errors import DeviceError, ExportError, FormatError
from ofa_tf.export.convert import BlockConverter, to_tflite
from ofa_tf.export.verified import FileOptions
from ofa_tf.latency.table import LatencyTable
from ofa_tf.precision import (
    INTEGER_ENDS,
    PRECISIONS,
    Precision,
    SizeRule,
    get_precision,
    integer_precisions,
    table_precisions,
)
from ofa_tf.search.file_size import size_costs
from ofa_tf.spaces import EDGE, TINY
from ofa_tf.subnet import build_subnet
from ofa_tf.tflite.run import inspect_file

# name: bytes of a weight, the table, images, integer, the type of weights in the file
ROWS = {
    "int8": (1, "int8", True, True, "INT8"),
    "fp16": (2, "fp16", False, False, "FLOAT16"),
    "fp32": (4, "fp32", False, False, "FLOAT32"),
    "dynamic": (1, "fp32", False, False, "INT8"),
}
N_CLASSES = 10
each = pytest.mark.parametrize("precision", PRECISIONS.values(), ids=list(PRECISIONS))


def test_every_registered_precision_has_a_row():
    assert list(ROWS) == list(PRECISIONS)


@each
def test_what_it_is_made_of(precision):
    weight_bytes, table, needs_images, integer, _ = ROWS[precision.name]
    assert get_precision(precision.name) is precision
    assert (precision.weight_bytes, precision.table) == (weight_bytes, table)
    assert (precision.needs_images, precision.integer) == (needs_images, integer)
    assert [precision.ends(io) for io in INTEGER_ENDS] == (["int8", "uint8"] if integer else ["float32"] * 2)
    assert precision.table in table_precisions()


def test_what_follows_for_all():
    assert table_precisions() == ("int8", "fp16", "fp32")
    assert integer_precisions() == "int8"
    with pytest.raises(
        ExportError, match=r"`precision` \(='int4'\) must be one of \['int8', 'fp16', 'fp32', 'dynamic'\]"
    ):
        get_precision("int4")


def test_the_command_line_offers_what_is_registered():
    def choices(command, name):
        return next(list(option.type.choices) for option in command.params if option.name == name)

    assert choices(export_command, "precision") == list(PRECISIONS)
    assert choices(export_command, "io") == list(INTEGER_ENDS)
    holder = precision_option(lambda: None)
    assert tuple(holder.__click_params__[0].type.choices) == table_precisions()


def test_a_size_without_a_rule_is_refused():
    with pytest.raises(ExportError, match="There is no rule for the size of dynamic files"):
        size_costs(TINY, N_CLASSES, "dynamic")


# --- files ------------------------------------------------------------------------------------------------------------


@cache
def model():
    """A small subnet with weights that all differ: equal ones are stored once."""
    subnet, rng = build_subnet(TINY, TINY.smallest(), N_CLASSES), np.random.default_rng(0)
    subnet.set_weights([rng.uniform(0.5, 1.5, weights.shape) for weights in subnet.get_weights()])
    return subnet


@cache
def file_of(name, io="int8"):
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 1, 24, 24, 3)).astype(np.float32)
    return to_tflite(model(), name, noise, io)


@each
def test_its_file_is_what_it_says(precision):
    *_, weights = ROWS[precision.name]
    facts = inspect_file(file_of(precision.name))
    assert weights in facts.tensor_types
    assert (facts.n_float_tensors == 0) == precision.integer


@pytest.mark.parametrize("io", INTEGER_ENDS)
@each
def test_its_ends_are_what_it_says(precision, io):
    facts = inspect_file(file_of(precision.name, io))
    assert [tensor.dtype.lower() for tensor in (*facts.inputs, *facts.outputs)] == [precision.ends(io)] * 2


@each
def test_it_is_converted_without_images_unless_it_needs_them(precision):
    if precision.needs_images:
        with pytest.raises(ExportError, match="needs representative images"):
            to_tflite(model(), precision.name)
    else:
        assert len(to_tflite(model(), precision.name)) == len(file_of(precision.name))


@pytest.mark.parametrize("name", [name for name, precision in PRECISIONS.items() if precision.size is not None])
def test_its_rule_tells_the_size_of_its_file(name):
    predicted = size_costs(TINY, N_CLASSES, name)(TINY.encode([TINY.smallest()]))[0]
    assert predicted == pytest.approx(len(file_of(name)), rel=0.05)


# --- one more ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def made_up(monkeypatch):
    """A further precision, registered: integer files of another size."""
    precision = Precision("w8", "int8", "w8", SizeRule(8, 1000), needs_images=True, integer=True)
    monkeypatch.setitem(PRECISIONS, "w8", precision)
    return precision


def test_one_more_precision_is_a_row(made_up):
    assert table_precisions() == ("int8", "fp16", "fp32", "w8")
    assert FileOptions("w8", io="uint8", qat_epochs=1).kind is made_up
    with pytest.raises(ExportError, match="--io uint8 is for int8 or w8 files; those of --precision fp16 take floats"):
        FileOptions("fp16", io="uint8")
    runtime = {"name": "made up", "version": "1", "threads": 1, "delegate": "none"}
    assert LatencyTable({"name": "one"}, runtime, "w8", "measured", {}).label == "one (w8, measured)"
    sizes = [size_costs(TINY, N_CLASSES, name)(TINY.encode([TINY.smallest()]))[0] for name in ("int8", "w8")]
    assert sizes[0] != sizes[1]
    assert inspect_file(BlockConverter(TINY, N_CLASSES, "w8").network(TINY.smallest())).n_float_tensors == 0
    require_legal(EDGE, "w8")
    with pytest.raises(DeviceError, match="--precision must be int8 or w8, not fp32"):
        require_legal(EDGE, "fp32")


def test_a_precision_without_tables_of_its_own_has_none(monkeypatch):
    runtime = {"name": "made up", "version": "1", "threads": 1, "delegate": "none"}
    with pytest.raises(FormatError, match=r"`precision` \(='dynamic'\) must be one of \['int8', 'fp16', 'fp32'\]"):
        LatencyTable({"name": "one"}, runtime, "dynamic", "measured", {})
