"""The Edge TPU linter on real, hand-made and broken files."""

import json
import re

import numpy as np
import pytest
from edgetpu_files import convert
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_tf.blocks import walk
from ofa_tf.edgetpu import rules as edgetpu_rules
from ofa_tf.edgetpu.latency_model import PARAMETER_MEMORY_BYTES, param_bytes
from ofa_tf.edgetpu.lint import lint
from ofa_tf.edgetpu.rules import fallback_reason
from ofa_tf.errors import FormatError, OfaError
from ofa_tf.export.convert import to_tflite
from ofa_tf.spaces import TINY
from ofa_tf.tflite.operators import Operator, Tensor, read_operators

# --- real files -------------------------------------------------------------------------------------------------------


def test_a_subnet_of_relu6_is_one_partition(clean):
    report = lint(clean)
    assert report.clean
    assert report.n_partitions == 1
    assert report.n_on_edge_tpu == report.n_operators == len(read_operators(clean)) > 10
    assert report.warnings == ()
    assert report.fits_on_chip
    assert report.explain() == f"All {report.n_operators} operators run on an Edge TPU."
    expected = sum(param_bytes(block) for block in walk(TINY, TINY.smallest(), 12))
    assert expected - 4 * 12 <= report.parameter_bytes <= expected  # the converter drops a bias of zeros


def test_the_first_fallback_is_named_with_all_of_its_kind(swish):
    report = lint(swish)
    operators = read_operators(swish)
    first = [op.name for op in operators].index("HARD_SWISH")
    assert {item.operator for item in report.fallbacks} == {"HARD_SWISH"}
    assert (report.fallbacks[0].index, report.fallbacks[0].reason) == (first, "an Edge TPU has no such operator")
    assert report.n_on_edge_tpu == first
    assert report.n_partitions == 2 * len(report.fallbacks) + 1
    assert f"Operator {first + 1} of {len(operators)}, HARD_SWISH, does not run on an Edge TPU" in report.explain()
    assert f"{len(operators) - first} of {len(operators)} operators would run on the CPU" in report.explain()


def test_float_files_fall_back_from_the_first_operator():
    report = lint(convert(TINY, "fp32"))
    assert report.n_on_edge_tpu == 0
    assert len(report.fallbacks) == report.n_operators
    assert report.fallbacks[0].reason == "`image` is FLOAT32, and only INT8 and UINT8 are supported"


@pytest.mark.parametrize(
    ("shape", "layer", "options"),
    [
        ((16_384,), "Softmax", {}),
        ((40, 20, 8), "Conv2D", {"filters": 8, "kernel_size": (3, 1), "dilation_rate": (2, 1), "padding": "same"}),
        ((40, 20, 8), "Conv2D", {"filters": 8, "kernel_size": (1, 3), "dilation_rate": (1, 4), "padding": "same"}),
    ],
)
def test_what_the_compiler_maps_beyond_its_documentation_is_clean(shape, layer, options):
    """A published compiled file has the like of each inside its custom operator."""
    import keras

    model = keras.Sequential([keras.Input(shape, batch_size=1), getattr(keras.layers, layer)(**options)])
    noise = np.random.default_rng(0).random((2, 1, *shape), np.float32)
    assert lint(to_tflite(model, "int8", noise)).explain().startswith("All ")


def test_the_report_is_json(swish):
    document = json.loads(json.dumps(lint(swish).to_document()))
    assert document["fallbacks"][0] == {
        "index": 1,
        "operator": "HARD_SWISH",
        "reason": "an Edge TPU has no such operator",
    }
    assert document["fits_on_chip"] is True
    assert document["parameter_memory_bytes"] == PARAMETER_MEMORY_BYTES


# --- the table --------------------------------------------------------------------------------------------------------

ARRAY = np.zeros(64, np.uint8)


def tensor(*shape: int, type: str = "INT8", name: str = "t", values: list[int] | None = None) -> Tensor:
    data = None if values is None else np.array(values, "<i4").view(np.uint8)
    return Tensor(name, "INT32" if values is not None else type, shape, data)


def weights(*shape: int, type: str = "INT8") -> Tensor:
    return Tensor("w", type, shape, ARRAY)


IMAGE = tensor(1, 8, 8, 16)


# Input, input weights, recurrent weights, biases, and the states: the output and, as int16, the cell.
LSTM_INPUTS = (
    *(tensor(1, 5, 3), *[weights(4, 3)] * 4, *[weights(4, 4)] * 4, *[None] * 3),
    *(*[weights(4, type="INT32")] * 4, None, None, tensor(1, 4), tensor(1, 4, type="INT16")),
)


def operator(name: str, *inputs: Tensor | None, output: Tensor = IMAGE, **options: int) -> Operator:
    return Operator(name, 1, inputs or (IMAGE,), (output,), options)


@pytest.mark.parametrize(
    "op",
    [
        operator("ADD", IMAGE, IMAGE),
        operator("MUL", IMAGE, weights(1)),
        operator("AVERAGE_POOL_2D", fused_activation=0),
        operator("CONV_2D", IMAGE, weights(4, 3, 3, 16), weights(4, type="INT32")),
        operator("CONV_2D", IMAGE, weights(4, 3, 3, 16), dilation_width=2, dilation_height=2),
        operator("CONV_2D", IMAGE, weights(4, 3, 1, 16), dilation_width=1, dilation_height=2),
        operator("CONV_2D", IMAGE, weights(4, 1, 3, 16), dilation_width=1, dilation_height=4),
        operator("DEPTHWISE_CONV_2D", IMAGE, weights(1, 3, 1, 16), dilation_width=4, dilation_height=2),
        operator("CONV_2D", IMAGE, weights(4, 3, 3, 16), None),
        operator("FULLY_CONNECTED", tensor(1, 16), weights(10, 16), output=tensor(1, 10)),
        operator("MEAN", IMAGE, tensor(2, values=[1, 2])),
        operator("MEAN", IMAGE, tensor(1, values=[-1])),
        operator("PACK", axis=1),
        operator("PAD", IMAGE, tensor(4, 2, values=[0, 0, 1, 1, 1, 1, 0, 0])),
        operator("PRELU", IMAGE, weights(1, 1, 16)),
        operator("SOFTMAX", tensor(1, 16_000), output=tensor(1, 16_000)),
        operator("SOFTMAX", tensor(1, 16_384), output=tensor(1, 16_384)),
        operator("SQUEEZE", tensor(1, 1, 1, 10), output=tensor(10)),
        operator("STRIDED_SLICE", IMAGE, *[tensor(4, values=[0, 1, 1, 0])] * 2, tensor(4, values=[1, 1, 1, 1])),
        operator("TILE", tensor(1, 1, 1, 16), tensor(4, values=[1, 8, 8, 1])),
        operator("UNIDIRECTIONAL_SEQUENCE_LSTM", *LSTM_INPUTS, output=tensor(1, 5, 4)),
        operator("TRANSPOSE_CONV", tensor(4, values=[1, 8, 8, 16]), weights(16, 3, 3, 16), IMAGE),
    ],
    ids=lambda op: op.name,
)  # fmt: skip
def test_what_the_documentation_allows_is_allowed(op):
    assert fallback_reason(op) is None


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (operator("EXP"), "an Edge TPU has no such operator"),
        (operator("DEQUANTIZE", output=tensor(1, 10, type="FLOAT32")), "an Edge TPU has no such operator"),
        (operator("QUANTIZE", tensor(1, 10, type="FLOAT32")), "`t` is FLOAT32"),
        (operator("ADD", tensor(1, 8, type="INT16")), "`t` is INT16"),
        (operator("ADD", tensor(1, 8, type="INT32")), "`t` is INT32"),
        (operator("ADD", tensor(1, -1, -1, 3)), "shape of `t` is not known"),
        (operator("ADD", tensor(2, 8, 8, 3)), "batch of 2"),
        (operator("ADD", tensor(1, 2, 3, 4, 5)), "more than three dimensions larger than 1"),
        (operator("AVERAGE_POOL_2D", fused_activation=3), "fused activation"),
        (operator("MAX_POOL_2D", fused_activation=1), "fused activation"),
        (operator("CONCATENATION", IMAGE, IMAGE, fused_activation=1), "fused activation"),
        (operator("CONV_2D", IMAGE, weights(4, 3, 3, 16), dilation_width=2), r"differs in x \(2\) and y \(1\)"),
        (operator("DEPTHWISE_CONV_2D", IMAGE, weights(1, 3, 3, 16), dilation_height=3), "dilation differs"),
        (operator("CONV_2D", IMAGE, weights(4, 3, 2, 16), dilation_height=2), r"differs in x \(1\) and y \(2\)"),
        (operator("CONV_2D", IMAGE, IMAGE), "not constants"),
        (operator("TILE", IMAGE, tensor(4, type="INT32")), "`t` is INT32"),
        (operator("TILE", IMAGE, tensor(4, values=[2, 1, 1, 1]), output=tensor(2, 8, 8, 16)), "batch of 2"),
        (operator("UNIDIRECTIONAL_SEQUENCE_LSTM", tensor(1, 5, 3), tensor(4, 3)), "not constants"),
        (operator("UNIDIRECTIONAL_SEQUENCE_LSTM", tensor(1, 5, 3, type="INT16")), "`t` is INT16"),
        (operator("TRANSPOSE_CONV", tensor(4, values=[1, 8, 8, 16]), IMAGE, IMAGE), "not constants"),
        (operator("FULLY_CONNECTED", tensor(1, 16), weights(10, 16), weights_format=1), "not in the default format"),
        (operator("FULLY_CONNECTED", tensor(1, 8, 16), weights(10, 16), output=tensor(1, 8, 10)), "one dimension"),
        (operator("MEAN", IMAGE, tensor(2, values=[0, 1])), "over the batch"),
        (operator("MEAN", IMAGE, tensor(1, values=[-4])), "over the batch"),
        (operator("MEAN", tensor(1, 8, 8, 6), tensor(1, values=[3])), "6 channels, which is not a multiple of 4"),
        (operator("REDUCE_MAX", IMAGE, tensor(1, values=[0])), "over the batch"),
        (operator("REDUCE_MIN", IMAGE, tensor(1, values=[0])), "over the batch"),
        (operator("PACK", axis=0), "along the batch"),
        (operator("PAD", IMAGE, tensor(4, 2, values=[1, 0, 0, 0, 0, 0, 0, 0])), "pads the batch"),
        (operator("PRELU", IMAGE, weights(8, 8, 16)), "alpha has more than one dimension"),
        (operator("SOFTMAX", tensor(1, 16_385), output=tensor(1, 16_385)), "16,385 elements"),
        (operator("SOFTMAX", tensor(1, 8, 8)), "input has more than one dimension"),
        (operator("SQUEEZE", tensor(1, 8, 1, 10), output=tensor(8, 10)), "other dimensions than leading ones"),
        (operator("STRIDED_SLICE", IMAGE, *[tensor(4, values=[1, 2, 2, 1])] * 3), r"strides are \[1, 2, 2, 1\]"),
    ],
    ids=lambda value: value.name if isinstance(value, Operator) else value,
)  # fmt: skip
def test_what_it_does_not_allow_is_refused_with_the_reason(op, reason):
    assert re.search(reason, fallback_reason(op) or "")


@pytest.mark.fixtures
def test_the_table_is_the_documented_one(fixtures_dir):
    documented = json.loads((fixtures_dir / "edgetpu" / "operator_support.json").read_text())
    rules = edgetpu_rules.WITH_RULE
    noted = {name for name, rule in documented["ops"].items() if rule} - edgetpu_rules.MAY_STAY
    assert edgetpu_rules.ALWAYS | set(rules) == set(documented["ops"])
    assert set(rules) == noted
    assert not edgetpu_rules.MAPPED & set(documented["ops"])
    assert not set(documented["unsupported_that_matter"]) & set(documented["ops"])
    for name, version in edgetpu_rules.TOO_NEW.items():
        assert f"{name} version {version}" in " ".join(documented["constraints"])


# --- hand-made files --------------------------------------------------------------------------------------------------


def make_file(
    operators: list[tuple[str, int, list[int], int]], types: list[str], shape=(1, 8, 8, 4), options=None, signature=None
) -> bytes:
    """A file of operators (name, version, inputs, output) on tensors of one shape and signature of a shape."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.buffers, model.operatorCodes, model.subgraphs = [schema.BufferT()], [], [graph]
    graph.tensors, graph.operators = [], []
    for index, kind in enumerate(types):
        made = schema.TensorT()
        made.name, made.shape, made.type = f"t{index}", list(shape), getattr(schema.TensorType, kind)
        made.shapeSignature = signature
        graph.tensors.append(made)
    for name, version, inputs, output in operators:
        code, made = schema.OperatorCodeT(), schema.OperatorT()
        number = getattr(schema.BuiltinOperator, name, None)
        code.builtinCode = schema.BuiltinOperator.CUSTOM if number is None else number
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode, code.version = (name if number is None else None), version
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes), inputs, [output]
        if options is not None and name == options[0]:
            made.builtinOptionsType, made.builtinOptions = options[1], options[2]
        model.operatorCodes.append(code)
        graph.operators.append(made)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_float_input_and_output_stay_on_the_cpu_and_the_rest_does_not():
    operators = [("QUANTIZE", 1, [0], 1), ("RELU", 1, [1], 2), ("RELU6", 1, [2], 3), ("DEQUANTIZE", 1, [3], 4)]
    report = lint(make_file(operators, ["FLOAT32", "INT8", "INT8", "INT8", "FLOAT32"]))
    assert [item.operator for item in report.fallbacks] == ["QUANTIZE", "DEQUANTIZE"]
    assert (report.n_on_edge_tpu, report.n_partitions) == (2, 3)


def test_options_are_read_off_the_file():
    from ai_edge_litert import schema_py_generated as schema

    pool = schema.Pool2DOptionsT()
    pool.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    operators = [("MAX_POOL_2D", 1, [0], 1)]
    content = make_file(operators, ["INT8"] * 2, options=("MAX_POOL_2D", schema.BuiltinOptions.Pool2DOptions, pool))
    assert [item.reason for item in lint(content).fallbacks] == ["it has a fused activation"]
    assert lint(make_file(operators, ["INT8"] * 2)).clean


STRIDES = {"padding": "padding", "stride_width": "strideW", "stride_height": "strideH"}
DILATIONS = {"dilation_width": "dilationWFactor", "dilation_height": "dilationHFactor"}
FUSED = {"fused_activation": "fusedActivationFunction"}
CORNERS = {"align_corners": "alignCorners", "half_pixel_centers": "halfPixelCenters"}


@pytest.mark.parametrize(
    ("name", "kind", "fields"),
    [
        (
            "AVERAGE_POOL_2D",
            "Pool2DOptions",
            {**STRIDES, "filter_width": "filterWidth", "filter_height": "filterHeight", **FUSED},
        ),
        ("CONCATENATION", "ConcatenationOptions", FUSED),
        ("CONV_2D", "Conv2DOptions", {**STRIDES, **DILATIONS}),
        ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", {**STRIDES, **DILATIONS}),
        ("FULLY_CONNECTED", "FullyConnectedOptions", {"weights_format": "weightsFormat"}),
        ("PACK", "PackOptions", {"axis": "axis"}),
        ("TRANSPOSE_CONV", "TransposeConvOptions", STRIDES),
        ("RESIZE_BILINEAR", "ResizeBilinearOptions", CORNERS),
        ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", CORNERS),
    ],
)
def test_each_option_is_the_one_of_the_schema(name, kind, fields):
    from ai_edge_litert import schema_py_generated as schema

    made = getattr(schema, f"{kind}T")()
    kinds = {field: type(getattr(made, name)) for field, name in fields.items()}  # a flag is 0 or 1
    expected = {field: int(kinds[field](number)) for number, field in enumerate(fields, start=1)}
    for field, number in expected.items():
        setattr(made, fields[field], number)
    options = name, getattr(schema.BuiltinOptions, kind), made
    (found,) = read_operators(make_file([(name, 3, [0], 1)], ["INT8"] * 2, options=options))
    assert (found.version, found.options) == (3, expected)


def test_versions_that_the_compiler_refuses_and_large_tensors_are_warned_of():
    types = ["INT8"] * 3
    report = lint(make_file([("RESHAPE", 1, [0], 1), ("FULLY_CONNECTED", 12, [1], 2)], types, (1, 1, 1, 2**20)))
    assert report.warnings == (
        "FULLY_CONNECTED has version 12, which compiler 16.0 is reported to refuse.",
        "A large RESHAPE may stay on the CPU.",
    )
    assert report.clean
    assert lint(make_file([("RESHAPE", 1, [0], 1), ("FULLY_CONNECTED", 4, [1], 2)], types)).warnings == ()


OPEN_BATCH = "The batch size is left open: it is treated as 1, as the compiler does."


def test_an_open_batch_is_taken_for_what_the_file_says():
    """As in every Keras model converted the usual way: 1 in the shape, -1 in its signature."""
    relu = [("RELU", 1, [0], 1)]
    report = lint(make_file(relu, ["INT8"] * 2, signature=(-1, 8, 8, 4)))
    assert report.explain() == "All 1 operators run on an Edge TPU."
    assert report.warnings == (OPEN_BATCH,)
    assert lint(make_file(relu, ["INT8"] * 2, signature=(1, 8, 8, 4))).warnings == ()
    (batch_of_4,) = lint(make_file(relu, ["INT8"] * 2, (4, 8, 8, 4), signature=(-1, 8, 8, 4))).fallbacks
    assert batch_of_4.reason == "`t0` has a batch of 4, not 1"
    for signature in ((-1, -1, 8, 4), (1, 8, 8, -1)):
        (unknown,) = lint(make_file(relu, ["INT8"] * 2, signature=signature)).fallbacks
        assert unknown.reason == "the shape of `t0` is not known before it runs"
    dynamic = lint(make_file([("SHAPE", 1, [0], 1), *relu], ["INT8", "INT32"], signature=(-1, 8, 8, 4)))
    assert dynamic.fallbacks[0].reason == "an Edge TPU has no such operator"


@pytest.mark.parametrize("batch", [None, 1])
def test_a_keras_model_is_clean_whether_its_batch_is_fixed_or_not(batch):
    import keras
    import tensorflow as tf

    image = keras.Input((32, 32, 3), batch_size=batch)
    features = keras.layers.Conv2D(8, 3, 2, "same", activation="relu")(image)
    scores = keras.layers.Dense(4, activation="softmax")(keras.layers.GlobalAveragePooling2D()(features))
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, scores))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.full((1, 32, 32, 3), value, np.float32)] for value in (0, 1))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    report = lint(converter.convert())
    assert report.clean, report.explain()
    assert report.warnings == (() if batch else (OPEN_BATCH,))


def test_a_custom_operator_is_named_without_what_a_terminal_would_obey():
    report = lint(make_file([("evil\x1b[2J\n", 1, [0], 1)], ["INT8"] * 2))
    assert report.fallbacks[0].operator == "CUSTOM evil [2J "


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a TFLite model"),
        (b"PK\x03\x04" * 50, "not a TFLite model"),
        (b"\x00\x00\x00\x00TFL3", "is damaged"),
        (b"\xff\xff\xff\x7fTFL3" + b"\xff" * 100, "is damaged"),
        (make_file([], ["INT8"]), "no operators"),
        (make_file([("edgetpu-custom-op", 1, [0], 1)], ["INT8"] * 2), "compiled for an Edge TPU already"),
        (make_file([("ADD", 1, [0, 7], 1)], ["INT8"] * 2), "an operator uses tensor 7 of 2"),
        (make_file([("ADD", 1, [0], -2)], ["INT8"] * 2), "an operator uses tensor -2 of 2"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(content, match):
    with pytest.raises(OfaError, match=match):
        lint(content)


def test_a_truncated_file_is_refused_or_has_fewer_parameters(clean):
    for end in np.linspace(0, len(clean) - 1, 60).astype(int):
        with pytest.raises(FormatError):
            lint(clean[:end])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_file_with_any_bytes_changed_is_refused_or_reported(data):
    content = bytearray(make_file([("CONV_2D", 3, [0, 1, 2], 3), ("ADD", 2, [3, 0], 4)], ["INT8"] * 5))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        json.dumps(lint(bytes(content)).to_document())
    except OfaError:
        return
