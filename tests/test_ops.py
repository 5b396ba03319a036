"""Operations as data: shapes and counts by hand."""

import pytest

from ofa_tf.ops import INPUT, Expansion, Op


@pytest.mark.parametrize(
    ("op", "weight_shape", "n_macs", "n_params"),
    [
        (Op("", "conv", 9, 5, 3, 8, kernel=(3, 3), stride=2, norm=True), (3, 3, 3, 8), 25 * 216, 216 + 16),
        (Op("", "conv", 4, 4, 3, 8, kernel=(1, 7), bias=True), (1, 7, 3, 8), 16 * 168, 168 + 8),
        (Op("", "depthwise", 8, 8, 6, 6, kernel=(5, 5), norm=True), (5, 5, 6, 1), 64 * 150, 150 + 12),
        (Op("", "dense", 1, 1, 20, 10, bias=True), (20, 10), 200, 210),
        (Op("", "mean", 8, 1, 6, 6), (), 0, 0),
        (Op("", "flatten", 1, 1, 6, 6), (), 0, 0),
        (Op("", "add", 8, 8, 6, 6, ("a", INPUT)), (), 0, 0),
        (Op("", "multiply", 8, 8, 6, 6, ("a", "b")), (), 0, 0),
    ],
    ids=lambda value: value.kind if isinstance(value, Op) else "",
)
def test_weights_macs_and_parameters(op, weight_shape, n_macs, n_params):
    assert (op.weight_shape, op.n_macs, op.n_params) == (weight_shape, n_macs, n_params)
    assert op.takes_images == (op.kind != "dense")
    assert op.depthwise == (op.kind == "depthwise")


@pytest.mark.parametrize(
    ("padding", "stride", "kernel", "margins"),
    [
        ("same", 2, (3, 3), (0, 0)),
        ("symmetric", 1, (3, 3), (0, 0)),  # where TensorFlow pads as PyTorch does
        ("symmetric", 2, (5, 3), (2, 1)),
        ("symmetric", 2, (1, 1), (0, 0)),
    ],
)
def test_margins(padding, stride, kernel, margins):
    assert Op("", "conv", 8, 4, 3, 8, kernel=kernel, stride=stride, padding=padding).margins == margins


def test_each_operation_reads_the_one_before():
    made = Expansion(9, 3, "symmetric")
    first = made.conv("a", 8, kernel=3, stride=2, norm=True, activation="relu")
    made.mean("b")
    made.conv("c", 8, bias=True)
    made.multiply("d", first)
    made.depthwise("e", 5)
    made.add("f", INPUT)
    made.mean("g")
    made.flatten("h")
    made.dense("i", 4)
    assert [(op.suffix, op.inputs, op.in_size, op.out_size, op.in_channels, op.out_channels) for op in made.ops] == [
        ("a", (INPUT,), 9, 5, 3, 8),
        ("b", ("a",), 5, 1, 8, 8),
        ("c", ("b",), 1, 1, 8, 8),
        ("d", ("a", "c"), 5, 5, 8, 8),
        ("e", ("d",), 5, 5, 8, 8),
        ("f", ("e", INPUT), 5, 5, 8, 8),
        ("g", ("f",), 5, 1, 8, 8),
        ("h", ("g",), 1, 1, 8, 8),
        ("i", ("h",), 1, 1, 8, 4),
    ]
    assert (first.norm, first.bias, first.activation, first.padding) == (True, False, "relu", "symmetric")
