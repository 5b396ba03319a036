"""Every kind of block, as it is registered; and a made-up one, which takes one expansion and one layer."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_checker import randomize

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.costs import arch_costs
from ofa_tf.edgetpu.latency_model import modelled_table, param_bytes
from ofa_tf.export.convert import BlockConverter, to_tflite
from ofa_tf.kinds import KINDS, SIGNATURE, Block, Kind
from ofa_tf.latency.table import distinct_blocks
from ofa_tf.layers import (
    BLOCK_LAYERS,
    BlockLayer,
    Choices,
    ElasticBatchNorm,
    ElasticConv2D,
    ElasticDepthwiseConv2D,
    OpWeights,
)
from ofa_tf.ops import INPUT
from ofa_tf.search.file_size import size_costs
from ofa_tf.space import SearchSpace, Stage
from ofa_tf.subnet import block_model, extract
from ofa_tf.supernet import Supernet
from ofa_tf.tflite.inspect import inspect_file

CLASSES = 5
every_kind = pytest.mark.parametrize("kind", list(KINDS))
VARIANTS = {
    "full": {},
    "strided": {"stride": 2, "skip": False, "padding": "symmetric"},
    "bare": {"mid_channels": 16, "se_channels": 0, "skip": False, "bias": False, "activation": "none"},
}
# Kernel sizes and expand ratios of the kinds that differ from the first one.
CHOICES = {"bottleneck": ((3,), (0.3, 1)), "residual_conv": ((3,), (1,)), "conv_pool": ((3,), (1,))}
every_variant = pytest.mark.parametrize("variant", list(VARIANTS))


def example(kind: str, variant: str) -> Block:
    """A block with all that a block can have, or with less of it."""
    full = {
        "mid_channels": 48, "kernel": 5, "activation": "hard_swish", "se_channels": 8, "skip": True, "bias": True,
    }  # fmt: skip
    block = Block("some_block", kind, 8, 16, 16, **{**full, **VARIANTS[variant]})
    return block if block.takes_images else dataclasses.replace(block, in_size=1)


def small_space(kind: str = "mbconv", padding: str = "same") -> SearchSpace:
    """A space with choices of all channels whose stages are of one kind, if they can be."""
    kind = kind if KINDS[kind].elastic else "mbconv"
    se, kernels, expands = KINDS[kind].squeezes, *CHOICES.get(kind, ((3, 5), (2, 3)))
    return SearchSpace(
        name="small",
        stem_channels=(8, 16),
        stem_stride=2,
        stem_activation="hard_swish",
        first_channels=(16, 24),
        first_activation="relu",
        stages=(
            Stage((16, 24), 2, (1, 2), "relu6", kind=kind),
            Stage((24, 32), 1, (1, 2), "hard_swish", se, kind),
            Stage(32, 1, (1, 2), "relu", kind=kind),
        ),
        kernels=kernels,
        expands=expands,
        resolutions=(16, 24),
        head_channels=(40, 48),
        feature_channels=64,
        head_activation="hard_swish",
        padding=padding,
    )


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def block_input(block: Block) -> np.ndarray:
    sizes = (block.in_size, block.in_size) if block.takes_images else ()
    return noise(2, *sizes, block.in_channels)


def assert_close(actual, expected, rtol=1e-5):
    expected = np.asarray(expected)
    assert expected.std() > 0
    assert np.abs(np.asarray(actual) - expected).max() < rtol * np.abs(expected).max()


# --- every kind -------------------------------------------------------------------------------------------------------


@every_variant
@every_kind
def test_operations_fit_together_and_add_up(kind, variant):
    block = example(kind, variant)
    shapes = {INPUT: (block.in_size, block.in_channels)}
    for op in block.ops:
        assert op.suffix not in shapes
        sizes, channels = zip(*(shapes[source] for source in op.inputs), strict=True)
        assert (max(sizes), set(channels)) == (op.in_size, {op.in_channels})
        shapes[op.suffix] = op.out_size, op.out_channels
    assert shapes[block.ops[-1].suffix] == (block.out_size, block.out_channels)
    assert block.n_macs == sum(op.n_macs for op in block.ops)
    assert block.n_params == sum(op.n_params for op in block.ops)
    assert len({block.layer_name(op) for op in block.ops}) == len(block.ops)


def test_an_expansion_is_kept_where_it_makes_nothing_wider():
    block = Block("some_block", "mbconv", 8, 16, 16, mid_channels=16, kernel=3, slot=3)
    kept = dataclasses.replace(block, keeps_expansion=True)
    assert [op.suffix for op in block.ops] == ["depthwise", "project"]
    assert [op.suffix for op in kept.ops] == ["expand", "depthwise", "project"]
    assert kept.key == block.key + " expand=1"
    wide, same = (dataclasses.replace(of, mid_channels=32) for of in (block, kept))
    assert (wide.ops, wide.key) == (same.ops, same.key)


@every_variant
@every_kind
def test_the_key_tells_all_that_the_work_depends_on(kind, variant):
    block = example(kind, variant)
    shapes = f"in={block.in_size}x{block.in_size}x16 out={block.out_size}x{block.out_size}x16"
    assert block.key == block.key.strip()
    assert block.key.startswith(f"{kind} {shapes}")
    changes = {
        "mid_channels": 64, "kernel": 3, "stride": 3, "activation": "relu", "se_channels": 24, "skip": not block.skip,
        "bias": not block.bias, "padding": "same" if block.padding == "symmetric" else "symmetric",
    }  # fmt: skip
    assert changes.keys() == {*SIGNATURE, "padding"}
    for field, value in changes.items():
        changed = dataclasses.replace(block, **{field: value})
        if changed.key == block.key:
            work = [[dataclasses.replace(op, padding="same") if not any(op.margins) else op for op in ops]
                    for ops in (changed.ops, block.ops)]  # fmt: skip
            assert work[0] == work[1], field
    assert dataclasses.replace(block, name="other", slot=7).key == block.key


def test_a_key_can_name_every_field():
    apart = {"name", "kind", "in_size", "in_channels", "out_channels", "padding", "slot", "keeps_expansion"}
    assert {field.name for field in dataclasses.fields(Block)} == apart | SIGNATURE.keys()


@every_variant
@every_kind
def test_the_plain_layers_are_those_of_the_operations(kind, variant):
    block = example(kind, variant)
    model = block_model(block)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == block.n_params
    sizes = (block.out_size, block.out_size) if len(model.output_shape) == 4 else ()
    assert model.output_shape == (None, *sizes, block.out_channels)
    for op in block.ops:
        layer = model.get_layer(block.layer_name(op))
        assert (tuple(layer.kernel.shape) if op.n_weights else ()) == op.weight_shape
    names = {layer.name for layer in model.layers}
    assert {name for name in names if name.endswith("_bn")} == {
        block.layer_name(op, "bn") for op in block.ops if op.norm
    }
    assert not any(type(layer).__module__.startswith("ofa_tf") for layer in model.layers)


def compare_with_plain(kind: str, space: SearchSpace, formulation: str = "sliced") -> None:
    """Holds the supernet's layers against the plain ones of the blocks of random archs."""
    supernet = Supernet(space, CLASSES, formulation=formulation)
    randomize(supernet)
    codes = [space.encode(space.smallest()), *space.sample(np.random.default_rng(1), 3), space.encode(space.largest())]
    widest = {block.name: block for block in walk(space, space.largest(), CLASSES)}
    n_compared = 0
    for code in codes:
        for block in walk(space, space.decode_one(code), CLASSES):
            if block.kind != kind:
                continue
            model, layer = block_model(block, space.bn_epsilon), supernet.block_layers[block.name]
            assert isinstance(layer, BlockLayer)
            for name, weights in layer.active_weights(block).items():
                model.get_layer(name).set_weights([np.asarray(weight) for weight in weights])
            indices = {}
            if block.slot >= 0:
                indices["kernel_index"] = int(code[space.kernel_genes][block.slot])
                indices["expand_index"] = int(code[space.expand_genes][block.slot])
            for name, channels in (("in", block.in_channels), ("out", block.out_channels)):
                choices = getattr(layer, f"{name}_channels", None)
                if isinstance(choices, tuple):
                    indices[f"{name}_index"] = choices.index(channels)
            given = x = block_input(block)
            expected = model(x)
            if formulation == "masked":
                unused = widest[block.name].in_channels - block.in_channels
                given = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, unused)])
            for of_this_call in (indices, {name: tf.constant(index) for name, index in indices.items()}):
                found = np.asarray(layer(given, **of_this_call))
                assert_close(found[..., : block.out_channels], expected)
                assert not found[..., block.out_channels :].any()
            n_compared += 1
    assert n_compared >= len(codes)


@pytest.mark.parametrize("formulation", ["sliced", "masked"])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@every_kind
def test_the_layer_of_a_supernet_answers_as_the_plain_ones(kind, padding, formulation):
    compare_with_plain(kind, small_space(kind, padding), formulation)


@every_kind
def test_the_layer_of_a_supernet_has_the_weights_of_every_operation(kind):
    block = example(kind, "full")
    layer = BLOCK_LAYERS[kind](block, Choices(*CHOICES.get(kind, ((3, 5), (2, 3)))))
    layer.build((None, block.in_channels))
    weights = layer.op_weights()
    assert weights.keys() == {op.suffix for op in block.ops if op.n_weights}
    held = {id(weight) for weight in layer.weights}
    for op in block.ops:
        if op.n_weights:
            found = weights[op.suffix]
            assert (found.bias is not None, found.norm is not None) == (op.bias, op.norm)
            for variable in (found.kernel, found.bias, *found.transforms.values(), *getattr(found.norm, "weights", ())):
                held.discard(id(variable))
    assert not held


@every_kind
def test_a_block_becomes_an_integer_file(kind):
    block = example(kind, "full")
    model = block_model(block)
    content = to_tflite(model, "int8", [values[None] for values in block_input(block)])
    assert inspect_file(content).n_float_tensors == 0


# --- a made-up kind ---------------------------------------------------------------------------------------------------


def expand_twice(block: Block):
    """Two depthwise convolutions, of which the second is elastic, and a projection."""
    made = block.expansion()
    made.depthwise("blur", 3, norm=True)
    made.depthwise("depthwise", block.kernel, block.stride, norm=True, activation=block.activation)
    made.conv("project", block.out_channels, norm=True)
    if block.skip:
        made.add("add", INPUT)
    return made.ops


@keras.saving.register_keras_serializable(package="ofa_tf_tests")
class Twice(BlockLayer):
    """The same, elastic."""

    def __init__(self, block: Block, choices: Choices):
        super().__init__(name=block.name, dtype=choices.dtype)
        self.activation, self.skip = block.activation, block.skip
        shared = {"padding": block.padding, "dtype": choices.dtype}
        channels = block.in_channels
        self.blur = ElasticDepthwiseConv2D(channels, (3,), name="blur", **shared)
        self.depthwise = ElasticDepthwiseConv2D(channels, choices.kernels, block.stride, name="depthwise", **shared)
        self.project = ElasticConv2D(channels, block.out_channels, name="project", **shared)
        self.norms = [
            ElasticBatchNorm(n, choices.epsilon, name=f"{name}_bn", dtype=choices.dtype)
            for name, n in (("blur", channels), ("depthwise", channels), ("project", block.out_channels))
        ]

    def build(self, input_shape=None):
        for layer in (self.blur, self.depthwise, self.project, *self.norms):
            layer.build()
        self.built = True

    def call(
        self, inputs, kernel_index=None, expand_index=None, in_index=None, out_index=None, training=False, momentum=None
    ):
        mode = {"training": training, "momentum": momentum}
        x = self.norms[0](self.blur(inputs), **mode)
        x = self.norms[1](self.depthwise(x, kernel_index=kernel_index), **mode)
        x = self.norms[2](self.project(keras.activations.get(self.activation)(x)), **mode)
        return x + inputs if self.skip else x

    def op_weights(self):
        depthwise, sizes = self.depthwise, self.depthwise.kernel_sizes
        return {
            "blur": OpWeights(self.blur.kernel, norm=self.norms[0]),
            "depthwise": OpWeights(
                depthwise.kernel,
                norm=self.norms[1],
                transforms=dict(zip(sizes[-2::-1], depthwise.transforms, strict=True)),
                cut=lambda op: depthwise.active_kernel(sizes.index(op.kernel[0]), op.out_channels),
            ),
            "project": OpWeights(self.project.kernel, norm=self.norms[2]),
        }


@pytest.fixture
def made_up(monkeypatch) -> SearchSpace:
    """A space of a kind of blocks that there is not; all that is needed is in these two lines."""
    mid = KINDS["mbconv"].mid  # its keys name a middle that it does not have
    monkeypatch.setitem(KINDS, "twice", Kind(expand_twice, elastic=True, mid=mid, elastic_kernel=True))
    monkeypatch.setitem(BLOCK_LAYERS, "twice", Twice)
    stages = (Stage(24, 2, (1, 2), "relu6", kind="twice"), Stage(24, 1, (1, 2), "relu6", kind="mbconv"))
    return dataclasses.replace(
        small_space(), stages=stages, stem_activation="relu6", first_activation="relu6",
        head_activation="relu6", feature_channels=0, stem_channels=16, first_channels=16, head_channels=48,
    )  # fmt: skip


@pytest.fixture
def trained(made_up) -> Supernet:
    supernet = Supernet(made_up, CLASSES)
    randomize(supernet)
    return supernet


def test_a_new_kind_is_walked_counted_and_named(made_up):
    arch = made_up.arch(16, [2, 1], [3, 5, 3, 3], [2, 3, 2, 2])
    blocks = walk(made_up, arch, CLASSES)
    assert [block.kind for block in blocks] == [
        "conv", "mbconv", "twice", "twice", "mbconv", "conv", "pool", "linear",
    ]  # fmt: skip
    first, second = blocks[2:4]
    assert (first.out_size, second.skip) == (4, True)
    assert second.n_macs == 16 * (9 * 24 + 25 * 24 + 24 * 24)
    assert second.n_params == (9 * 24 + 48) + (25 * 24 + 48) + (24 * 24 + 48)
    assert first.key == "twice in=8x8x16 out=4x4x24 mid=32 k=3 s=2 act=relu6 se=0 skip=0 bias=0"
    codes = made_up.sample(np.random.default_rng(0), 20)
    archs = made_up.decode(codes)
    for cost, count in ((lambda block: block.n_macs, count_macs), (lambda block: block.n_params, count_params)):
        costs = arch_costs(made_up, cost, CLASSES)(codes)
        assert costs.tolist() == [count(walk(made_up, arch, CLASSES)) for arch in archs]


def test_a_space_of_a_new_kind_is_the_same_after_json(made_up, trained):
    document = json.loads(json.dumps(made_up.to_document()))
    assert [stage.get("kind") for stage in document["stages"]] == ["twice", None]
    assert SearchSpace.from_document(document) == made_up
    again = Supernet.from_config(json.loads(json.dumps(trained.get_config())))
    assert [weight.path for weight in again.weights] == [weight.path for weight in trained.weights]


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_a_new_kind_answers_in_the_subnet_as_in_the_supernet(made_up, padding):
    space = dataclasses.replace(made_up, padding=padding)
    supernet = Supernet(space, CLASSES)
    randomize(supernet)
    supernet.sort_channels()
    x, archs = noise(2, 24, 24, 3), space.decode(space.sample(np.random.default_rng(2), 3))
    for arch in [space.smallest(), *archs, space.largest()]:
        model = extract(supernet, arch, fixed_size=False)
        assert_close(model(x), supernet(x, space.encode(arch)), 1e-4)
        n_params = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        assert n_params == count_params(walk(space, arch, CLASSES))
    compare_with_plain("twice", space)


def test_a_new_kind_is_exported(made_up, trained):
    from ofa_tf.export import qat

    arch = made_up.arch(16, [2, 1], [3, 5, 3, 3], [2, 3, 2, 2])
    model, x = extract(trained, arch), noise(4, 16, 16, 3)
    samples = [image[None] for image in x]
    facts = inspect_file(to_tflite(model, "int8", samples))
    n_depthwise = sum(op.depthwise for block in walk(made_up, arch, CLASSES) for op in block.ops)
    assert facts.n_float_tensors == 0
    assert facts.ops["DEPTHWISE_CONV_2D"] == n_depthwise == 6
    assert facts.n_macs == count_macs(walk(made_up, arch, CLASSES))
    twin = qat.build_twin(model, made_up, arch, CLASSES)
    qat.check_twin(model, twin, x)
    student = qat.quantise_twin(twin, -4.0, 4.0)
    student(x, training=True)
    assert inspect_file(to_tflite(student, "int8", trained_ranges=True)).ops == facts.ops


def test_a_new_kind_is_in_tables(made_up):
    blocks = distinct_blocks(made_up, made_up.resolutions, CLASSES)
    ours = [block for block in blocks.values() if block.kind == "twice"]
    # Two sizes, kernels and expand ratios, for each of the two slots.
    assert len(ours) == 16
    content = BlockConverter(made_up, CLASSES, "int8").block(ours[0])
    assert inspect_file(content).ops["DEPTHWISE_CONV_2D"] == 2
    codes = made_up.sample(np.random.default_rng(3), 10)
    table = modelled_table(made_up, CLASSES)
    assert blocks.keys() == table.entries.keys()
    assert np.isfinite(table.costs(made_up, CLASSES)(codes)).all()
    assert param_bytes(ours[0]) == sum(op.n_weights + 4 * op.out_channels for op in ours[0].ops)
    assert (size_costs(made_up, CLASSES, "int8")(codes) > 10_000).all()
