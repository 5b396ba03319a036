"""The Ethos-U linter: against Vela's verdict on real files, on files made illegal on purpose, and by its table."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ethosu_files import relu_file, require_vela
from model_files import edited

from ofa_tf.errors import DeviceError, ExportError, FormatError
from ofa_tf.ethosu.lint import lint
from ofa_tf.ethosu.rules import BOTH, RULES, U85_ONLY, U85_RULES, fallback_reason
from ofa_tf.ethosu.targets import parse_target
from ofa_tf.ethosu.vela import Vela
from ofa_tf.tflite import operators
from ofa_tf.tflite.operators import Operator, Tensor


@pytest.fixture(scope="module")
def vela() -> Vela:
    return require_vela()


@pytest.fixture(scope="module")
def illegal():
    """The module of the benchmark that makes files illegal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
        import _illegal_files

        yield _illegal_files


# --- against Vela -----------------------------------------------------------------------------------------------------


def agree(vela: Vela, files: dict[str, bytes], device: str) -> dict[str, dict[str, int]]:
    """What is on the CPU by the name of a file, of which linter and Vela say the same."""
    compiled = vela.compile_all(list(files.values()), parse_target(device))
    theirs = {name: dict(item.report.on_cpu) for name, item in zip(files, compiled, strict=True)}
    assert {name: dict(lint(content, device).on_cpu) for name, content in files.items()} == theirs
    return theirs


def test_legal_files_are_legal_for_both(vela, clean, swish):
    """Also those with hard-swish and squeeze-and-excite, which an Edge TPU does not run."""
    files = {"clean": clean, "swish": swish}
    for device in ("ethos-u55-128", "ethos-u85-256"):
        assert agree(vela, files, device) == {"clean": {}, "swish": {}}
    assert lint(clean).explain().startswith("All ")


def test_files_made_illegal_are_illegal_for_both(vela, illegal):
    parameters = [((8, 3, 3, 8), np.ones((8, 3, 3, 8), np.int8)), ((8,), np.zeros(8, np.int32))]
    conv = relu_file(shape=(1, 16, 16, 8), name="CONV_2D", constants=parameters, options=_same_conv())
    files = {way: illegal.make_illegal(conv, way) for way in illegal.WAYS}
    assert len(files) >= 10
    found = agree(vela, files, "ethos-u55-128")
    assert all(found.values()), "not one is legal"
    agree(vela, {"legal": conv}, "ethos-u55-128")


def _same_conv():
    from ai_edge_litert import schema_py_generated as schema

    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = 1
    return options


@pytest.mark.parametrize(("side", "legal"), [(4, True), (8, True), (16, False)])
def test_a_stride_counts_where_there_are_places_and_padding(vela, side, legal):
    """A pooling of 5x5 or 4x4 with a stride of 4, to one place, without padding, and with it."""
    from ai_edge_litert import schema_py_generated as schema

    options = schema.Pool2DOptionsT()
    options.filterWidth = options.filterHeight = 4 if side == 8 else 5
    options.strideW = options.strideH = 4
    shapes = {"shape": (1, side, side, 8), "out_shape": (1, side // 4, side // 4, 8)}
    found = agree(vela, {"pool": relu_file(name="MAX_POOL_2D", options=options, **shapes)}, "ethos-u55-128")
    assert (found["pool"] == {}) == legal


@pytest.mark.parametrize(("device", "of_16_bits"), [("ethos-u55-128", {"FULLY_CONNECTED": 1}), ("ethos-u85-256", {})])
def test_weights_that_overflow_are_illegal_for_both(vela, device, of_16_bits):
    """The limit is on the sum over a filter, not over all of them, and counts from the zero point."""
    from ai_edge_litert import schema_py_generated as schema

    def file(name: str, weights: np.ndarray, shape: Sequence[int], options, n_out: int, dtype: str = "INT8") -> bytes:
        options.strideW = options.strideH = 1
        out_shape = (*shape[:-1], n_out)
        return relu_file(dtype, shape, name, [(weights.shape, weights)], out_shape=out_shape, options=options)

    def dense(values: Sequence[int], n: int, dtype: str = "INT8", kind=np.int8) -> bytes:
        weights = np.repeat(np.array(values, kind)[:, None], n, axis=1)
        return file("FULLY_CONNECTED", weights, (1, n), schema.FullyConnectedOptionsT(), len(values), dtype)

    def conv(value: int) -> bytes:
        weights = np.full((2, 3, 3, 7282), value, np.int8)
        return file("CONV_2D", weights, (1, 3, 3, 7282), schema.Conv2DOptionsT(), 2)

    def depthwise(value: int, side: int, n: int) -> bytes:
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = 1
        weights = np.full((1, side, side, n), value, np.int8)
        return file("DEPTHWISE_CONV_2D", weights, (1, side, side, n), options, n)

    def shift(model) -> None:
        model.subgraphs[0].tensors[1].quantization.zeroPoint = [128]

    files = {
        "limit": dense([127, -127], 65_536),
        "above": dense([0, -128], 65_536),
        "wide": dense([0, -128], 65_536, "INT16"),
        "unsigned": dense([255], 65_536, kind=np.uint8),
        "shifted": edited(dense([255], 65_536, kind=np.uint8), shift),
        "conv": conv(126),
        "conv above": conv(127),
        "depthwise": depthwise(127, 256, 2),
        "depthwise above": depthwise(-128, 256, 2),
        "all channels": depthwise(127, 128, 8),
    }
    found = agree(vela, files, device)
    refused = {name for name, on_cpu in found.items() if on_cpu}
    assert refused - {"wide"} == {"above", "unsigned", "conv above", "depthwise above"}
    assert found["wide"] == of_16_bits


@pytest.mark.parametrize("device", ["ethos-u55-128", "ethos-u85-256"])
def test_what_has_no_dimensions_is_illegal_for_both(vela, device):
    """But not constants."""
    zero, axis = np.zeros(1, np.int8), np.zeros(1, np.int32)
    files = {name: relu_file(name=name, shape=()) for name in ("RELU", "LOGISTIC", "QUANTIZE", "NEG")}
    files |= {name: relu_file(name=name, shape=(), constants=[((), zero)]) for name in ("ADD", "MUL", "MAXIMUM")}
    files |= {
        "to one": relu_file(name="RESHAPE", shape=(1, 1), out_shape=()),
        "from one": relu_file(name="RESHAPE", shape=(), out_shape=(1, 1)),
        "expanded": relu_file(name="EXPAND_DIMS", shape=(), constants=[((), axis)], out_shape=(1,)),
        "constant": relu_file(name="ADD", constants=[((), zero)]),
        "axis": relu_file(name="EXPAND_DIMS", shape=(8, 4), constants=[((), axis)], out_shape=(1, 8, 4)),
    }
    found = agree(vela, files, device)
    assert {name for name, on_cpu in found.items() if not on_cpu} == {"constant", "axis"}


def test_the_operators_are_those_that_vela_lists(vela, tmp_path, monkeypatch):
    import subprocess

    subprocess.run([vela.program, "--supported-ops-report"], cwd=tmp_path, check=True, capture_output=True)
    parts = re.split(r"^## ", (tmp_path / "SUPPORTED_OPS.md").read_text(), flags=re.MULTILINE)
    for heading, ours in (
        ("Ethos-U55 and Ethos-U65 TFLite Summary", BOTH),
        ("Ethos-U85 TFLite Summary", BOTH | U85_ONLY),
    ):
        (table,) = [part for part in parts if part.startswith(heading)]
        assert set(re.findall(r"^\| ([A-Z0-9_]+) \|", table, re.MULTILINE)) == ours


# --- the table --------------------------------------------------------------------------------------------------------


def tensor(*shape: int, type: str = "INT8", values: Sequence[int] | None = None, scales=(0.1,)) -> Tensor:
    data = None if values is None else np.array(values, "<i4").view(np.uint8)
    return Tensor("t", "INT32" if values is not None else type, shape, data, scales=scales)


def weights(*shape: int, type: str = "INT8") -> Tensor:
    return Tensor("w", type, shape, np.zeros(8, np.uint8))


IMAGE, BIAS = tensor(1, 8, 8, 16), weights(4, type="INT32")


def operator(name: str, *inputs: Tensor | None, output: Tensor = IMAGE, **options: int) -> Operator:
    return Operator(name, 1, inputs or (IMAGE,), (output,), options)


AVERAGE = {"stride_width": 1, "stride_height": 1}


@pytest.mark.parametrize(
    "op",
    [
        operator("ADD", IMAGE, IMAGE),
        operator("MUL", IMAGE, weights(1)),
        operator("ADD", tensor(1, 8, type="INT32"), tensor(1, 8, type="INT32"), output=tensor(1, 8, type="INT32")),
        operator("CONV_2D", IMAGE, weights(4, 3, 3, 16), BIAS),
        operator("CONV_2D", IMAGE, weights(4, 3, 3, 16), None),
        operator("CONV_2D", tensor(1, 8, 8, 3, type="INT16"), weights(4, 3, 3, 3), weights(4, type="INT64")),
        operator("CONV_2D", IMAGE, weights(4, 3, 3, 16), stride_width=4, stride_height=4, padding=1),
        operator("AVERAGE_POOL_2D", filter_width=8, filter_height=8, **AVERAGE),
        operator("AVERAGE_POOL_2D", filter_width=9, filter_height=9, padding=1, **AVERAGE),
        operator("FULLY_CONNECTED", tensor(1, 16), weights(10, 16), output=tensor(1, 10)),
        operator("MEAN", IMAGE, tensor(2, values=[1, 2]), output=tensor(1, 1, 1, 16)),
        operator("PAD", IMAGE, tensor(4, 2, values=[0, 0, 1, 1, 1, 1, 0, 0])),
        operator("QUANTIZE", tensor(1, 8, scales=())),
        operator("RESIZE_BILINEAR", IMAGE, tensor(2, values=[16, 16]), output=tensor(1, 16, 16, 16)),
        operator("SOFTMAX", tensor(1, 1000), output=tensor(1, 1000)),
        operator("HARD_SWISH"),
    ],
    ids=lambda op: op.name,
)  # fmt: skip
def test_what_is_documented_is_allowed(op):
    assert fallback_reason(op, "ethos-u55") is None
    assert fallback_reason(op, "ethos-u85") is None


@pytest.mark.parametrize(
    ("op", "reason", "u85"),
    [
        (operator("SIN"), "an Ethos-U55 has no such operator", False),
        (operator("GATHER", IMAGE, tensor(1, values=[1])), "an Ethos-U55 has no such operator", True),
        (operator("RELU", tensor(1, 8, type="FLOAT32")), "`t` is FLOAT32, and only integers", False),
        (operator("RELU", tensor(1, 8, type="INT32"), output=tensor(1, 8)), "at most 16 bits", True),
        (operator("RELU", tensor(1, -1, 8, 3)), "shape of `t` is not known", False),
        (operator("RELU", tensor(1, 8, scales=())), "`t` is not quantised", False),
        (operator("RELU", tensor(1, 8, scales=(0.1, 0.2))), "a scale for each channel", False),
        (operator("CONV_2D", IMAGE, weights(4, 3, 3, 16, type="INT16")), "weights are INT16, not 8 bits", False),
        (operator("CONV_2D", IMAGE), "weights are missing", False),
        (operator("CONV_2D", IMAGE, weights(4, 3, 3, 16), tensor(4, type="INT32")), "bias is not a constant", False),
        (operator("CONV_2D", IMAGE, weights(4, 3, 3, 16), weights(4, type="INT16")), "bias is INT16", False),
        (operator("CONV_2D", IMAGE, weights(4, 3, 3, 16), stride_width=5, dilation_width=2), "and it is dilated", True),
        (operator("DEPTHWISE_CONV_2D", IMAGE, weights(1, 3, 3, 16), stride_width=4), "stride of 4 is above 3", True),
        (operator("FULLY_CONNECTED", IMAGE, weights(4, 2, 16)), "more than two dimensions", False),
        (operator("AVERAGE_POOL_2D", filter_width=9, filter_height=1, **AVERAGE), "kernel 9x1 is larger than 8", False),
        (operator("MAX_POOL_2D", filter_width=1, filter_height=300, padding=1), "larger than 256x256", False),
        (operator("MEAN", tensor(1, 8, 8, 16, type="INT32"), tensor(1, values=[1])), "at most 16 bits|input is", False),
        (operator("MEAN", IMAGE, tensor(1, type="INT8")), "axes are not constants", False),
        (operator("MEAN", tensor(2, 8, 8, 16), tensor(1, values=[1])), "batch of 2", False),
        (operator("MEAN", IMAGE, tensor(1, values=[3])), "over the channels", False),
        (operator("MEAN", tensor(1, 5000, 1, 8), tensor(1, values=[1])), "over 5,000 elements", False),
        (operator("SOFTMAX", tensor(1, 256, 256, 4)), "over 65,536 places", False),
        (operator("PAD", IMAGE, tensor(4, 2, type="INT16", scales=())), "paddings are INT16", False),
        (operator("TRANSPOSE", IMAGE, tensor(4, type="INT32")), "depends on a tensor that is not constant|16", False),
        (operator("MAXIMUM", IMAGE, tensor(1, 8, 8, 16, scales=(0.3,))), "not quantised alike", False),
        (operator("ARG_MAX", IMAGE, tensor(1, values=[1])), "not along the channels", True),
        (operator("ELU", tensor(1, 8, type="INT16"), output=tensor(1, 8, type="INT16")), "one shape and INT8", False),
        (operator("RSQRT", tensor(1, 8, type="UINT8")), "not INT8 or INT16", False),
        (operator("RESIZE_BILINEAR", output=tensor(1, 24, 24, 16)), "resizes 3 times", False),
        (operator("RESIZE_NEAREST_NEIGHBOR", output=tensor(1, 24, 24, 16)), "resizes 3 times", True),
        (operator("BATCH_MATMUL", IMAGE, tensor(1, 8, 16, 8, type="INT16")), "inputs are not INT8", True),
    ],
    ids=lambda value: value.name if isinstance(value, Operator) else str(value),
)  # fmt: skip
def test_what_it_does_not_allow_is_refused_with_the_reason(op, reason, u85):
    """And whether an Ethos-U85 does allow it."""
    assert re.search(reason, fallback_reason(op, "ethos-u55") or "")
    assert fallback_reason(op, "ethos-u65") is not None
    assert (fallback_reason(op, "ethos-u85") is None) == u85


def test_rules_are_of_operators_that_there_are():
    assert set(RULES) <= BOTH
    assert set(U85_RULES) <= BOTH | U85_ONLY


# --- reports and files ------------------------------------------------------------------------------------------------


def test_the_first_fallback_is_named_and_the_report_is_json():
    report = lint(relu_file(name="FLOOR"), "ethos-u65-256")
    assert not report.clean
    assert report.explain() == (
        "Operator 1 of 1, FLOOR, does not run on an ethos-u65-256: an Ethos-U65 has no such operator; "
        "on the CPU would run 1 FLOOR."
    )
    document = json.loads(json.dumps(report.to_document()))
    assert document["fallbacks"][0]["operator"] == "FLOOR"
    assert document["accelerator"] == "ethos-u65-256"


def test_what_is_no_model_or_no_device_is_refused(illegal):
    with pytest.raises(FormatError, match="not a TFLite model"):
        lint(b"hello")
    with pytest.raises(DeviceError, match="There is no Ethos-U 'ethos-u55-1'"):
        lint(relu_file(), "ethos-u55-1")
    editor = illegal.Editor(relu_file())
    editor.model.operatorCodes[0].builtinCode = editor.model.operatorCodes[0].deprecatedBuiltinCode = 32
    editor.model.operatorCodes[0].customCode = b"ethos-u"
    with pytest.raises(ExportError, match="compiled by vela already"):
        lint(editor.packed())
    editor.graph.operators = []
    with pytest.raises(ExportError, match="no operators"):
        lint(editor.packed())


# --- hostile files ----------------------------------------------------------------------------------------------------


def test_an_operator_that_lacks_its_image_is_a_fallback():
    weights = np.ones((4, 3, 3, 4), np.int8)
    found = lint(relu_file(name="TRANSPOSE_CONV", constants=[((4, 3, 3, 4), weights)]))
    assert found.on_cpu == {"TRANSPOSE_CONV": 1}


def test_a_tensor_of_too_many_dimensions_is_refused():
    with pytest.raises(FormatError, match="600 dimensions"):
        lint(relu_file(name="SOFTMAX", shape=(1,) * 600))


def test_weights_that_many_operators_share_are_added_up_once(monkeypatch):
    weights = relu_file(
        name="FULLY_CONNECTED", shape=(1, 40_000), constants=[((2, 40_000), np.ones((2, 40_000), np.int8))]
    )
    sums, largest_sum = [], operators._largest_sum
    monkeypatch.setattr(operators, "_largest_sum", lambda *of: sums.append(of) or largest_sum(*of))

    def repeat(model) -> None:
        model.subgraphs[0].operators *= 100

    assert lint(edited(weights, repeat)).n_operators == 100
    assert len(sums) == 1

    def share(model) -> None:
        model.subgraphs[0].tensors += [model.subgraphs[0].tensors[1]] * 100

    with pytest.raises(FormatError, match="more elements than it has bytes"):
        lint(edited(weights, share))


@pytest.mark.parametrize("name", ["NEG", "RESHAPE"])
def test_64_bits_are_not_for_the_npu(name):
    assert lint(relu_file("INT64", name=name)).on_cpu == {name: 1}
