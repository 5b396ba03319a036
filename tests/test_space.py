"""Spaces and archs: what is in them, and that nothing else gets in."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich_spaces import RICH_SPACES

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.errors import FormatError, SpaceError
from ofa_tf.space import Stage
from ofa_tf.spaces import EDGE, MOBILENET_V3, PHOTOS, PROXYLESS, RESNET50D, SPACES, TINY

PUBLISHED_SIZE = (9**2 + 9**3 + 9**4) ** 5

# space, classes, subnets, (parameters, MACs) of the smallest and of the largest subnet
ROWS = [
    (MOBILENET_V3, 1000, PUBLISHED_SIZE, (3_410_792, 41_476_224), (7_664_760, 566_170_656)),
    (PROXYLESS, 1000, PUBLISHED_SIZE * 9, (3_718_832, 87_823_104), (7_942_056, 1_004_908_032)),
    (RESNET50D, 1000, 2 * 2 * 3 * (3 * 117) ** 3 * (3 * 1053), (6_539_280, 315_079_552), (48_105_992, 9_784_377_344)),
    (EDGE, 1000, PUBLISHED_SIZE, (3_133_464, 41_200_896), (5_151_656, 563_666_208)),
    (PHOTOS, 10, 90**2 * 819**3, (168_890, 2_676_320), (1_051_402, 58_655_744)),
    (TINY, 10, 90**3, (39_994, 637_504), (232_234, 5_330_752)),
]
ALL = {**SPACES, **RICH_SPACES}
registered_spaces = pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))
all_spaces = pytest.mark.parametrize("space", ALL.values(), ids=list(ALL))


@st.composite
def codes_of(draw, space):
    """A canonical code, every gene drawn on its own."""
    genes = [draw(st.integers(0, int(size) - 1)) for size in space.gene_sizes]
    return space.canonical(np.array([genes], np.int32))[0]


# --- the registered spaces -------------------------------------------------------------------------------------------


def test_every_registered_space_has_a_row():
    assert [row[0] for row in ROWS] == list(SPACES.values())


@pytest.mark.parametrize(("space", "n_classes", "size", "smallest", "largest"), ROWS, ids=list(SPACES))
def test_size_parameters_and_macs(space, n_classes, size, smallest, largest):
    assert space.size() == size
    for arch, counts in ((space.smallest(), smallest), (space.largest(), largest)):
        blocks = walk(space, arch, n_classes)
        assert (count_params(blocks), count_macs(blocks)) == counts


def test_mobilenet_v3_has_the_papers_number_of_subnets():
    assert MOBILENET_V3.size() == 21_758_655_492_572_485_851 > 2 * 10**19


def test_edge_holds_only_what_an_edge_tpu_runs():
    assert {stage.activation for stage in EDGE.stages} == {"relu6"}
    assert not any(stage.se for stage in EDGE.stages)
    assert {EDGE.stem_activation, EDGE.first_activation, EDGE.head_activation} == {"relu6"}
    for ours, theirs in zip(EDGE.stages, MOBILENET_V3.stages, strict=True):
        assert (ours.channels, ours.stride, ours.depths) == (theirs.channels, theirs.stride, theirs.depths)


def test_photos_holds_only_what_an_edge_tpu_runs():
    assert {stage.activation for stage in PHOTOS.stages} == {"relu6"}
    assert not any(stage.se for stage in PHOTOS.stages)
    assert {PHOTOS.stem_activation, PHOTOS.first_activation, PHOTOS.head_activation} == {"relu6"}


def test_nothing_here_imports_tensorflow():
    modules = ["space", "blocks", "spaces", "search", "latency.table", "accuracy.predictor", "jsonio"]
    heavy = {"tensorflow", "keras", "torch", "ai_edge_litert", "matplotlib", "sklearn"}
    program = "import sys\n" + "".join(f"import ofa_tf.{module}\n" for module in modules)
    program += f"print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- archs -----------------------------------------------------------------------------------------------------------


@registered_spaces
def test_largest_and_smallest(space):
    largest, smallest = space.largest(), space.smallest()
    assert largest.depths == tuple(stage.depths[-1] for stage in space.stages)
    of_blocks = {"kernel": largest.kernels, "expand": largest.expands}
    for dimension in space.block_dimensions:
        assert of_blocks[dimension.name] == tuple(choices[-1] for choices in dimension.choices)
    assert largest.channels == tuple(len(stream.channels) - 1 for stream in space.elastic_streams)
    assert set(smallest.kernels) <= {0, 3}
    assert set(smallest.channels) <= {0}
    assert sum(kernel > 0 for kernel in smallest.kernels) == sum(smallest.depths)
    assert (largest.resolution, smallest.resolution) == (space.resolutions[-1], space.resolutions[0])
    assert space.largest(space.resolutions[1]).resolution == space.resolutions[1]


def test_equal_subnets_are_equal_archs():
    clean = TINY.arch(24, [1, 2, 1], [3, 0, 5, 7, 3, 0], [3, 0, 4, 6, 3, 0])
    assert TINY.arch(24, [1, 2, 1], [3, 99, 5, 7, 3, -1], (3, 6, 4, 6, 3, 1)) == clean
    assert (clean.kernels, clean.expands) == ((3, 0, 5, 7, 3, 0), (3, 0, 4, 6, 3, 0))
    assert str(clean) == "24 px | 3x3 | 5x4 7x6 | 3x3"
    document = clean.to_document()
    assert document == {
        "space": "tiny",
        "resolution": 24,
        "depths": [1, 2, 1],
        "kernels": [3, 0, 5, 7, 3, 0],
        "expands": [3, 0, 4, 6, 3, 0],
    }


def test_numpy_integers_become_plain_ones():
    arch = TINY.arch(np.int64(24), [np.int32(1)] * 3, [np.int32(3)] * 6, [np.int64(3)] * 6)
    assert arch == TINY.smallest(24)
    json.dumps(arch.to_document())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 30}, "`resolution` (=30) must be one of [24, 28, 32]."),
        ({"resolution": 24.0}, "`resolution` (=24.0) must be one of [24, 28, 32]."),
        ({"resolution": None}, "`resolution` (=None) must be one of [24, 28, 32]."),
        ({"depths": [1, 2]}, "`depths` (=[1, 2]) must be a list of 3 integers."),
        ({"depths": [1, 2, 3]}, "`depths` (=[1, 2, 3]) must be chosen from [[1, 2], [1, 2], [1, 2]]."),
        ({"depths": [1, 2, 0]}, "`depths` (=[1, 2, 0]) must be chosen from [[1, 2], [1, 2], [1, 2]]."),
        ({"depths": "121"}, "`depths` (='121') must be a list of 3 integers."),
        ({"depths": [True, 1, 1]}, "`depths` (=[True, 1, 1]) must be a list of 3 integers."),
        ({"kernels": [3] * 5}, "`kernels` (=[3, 3, 3, 3, 3]) must be a list of 6 integers."),
        (
            {"kernels": [3, 3, 3, 3, 9, 3]},
            "`kernels` (=[3, 3, 3, 3, 9, 3]) must be chosen from the space's (3, 5, 7) for every block in use.",
        ),
        ({"kernels": [3, 3, 3, 3, 5.0, 3]}, "`kernels` (=[3, 3, 3, 3, 5.0, 3]) must be a list of 6 integers."),
        (
            {"expands": [3, 5, 4, 6, 3, 3]},
            "`expands` (=[3, 5, 4, 6, 3, 3]) must be chosen from the space's (3, 4, 6) for every block in use.",
        ),
        ({"expands": None}, "`expands` (=None) must be a list of 6 numbers."),
    ],
)
def test_a_wrong_arch_is_refused_with_argument_value_and_rule(change, message):
    good = {"resolution": 24, "depths": [2, 2, 2], "kernels": [3] * 6, "expands": [3] * 6}
    TINY.arch(**good)
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}$"):
        TINY.arch(**{**good, **change})
    with pytest.raises(SpaceError, match=re.escape(message)):
        TINY.arch_from_document({"space": "tiny", **good, **change})


def test_an_arch_of_another_space_is_refused():
    with pytest.raises(SpaceError, match="is of the space 'edge', not of 'mobilenet_v3'"):
        MOBILENET_V3.arch_from_document(EDGE.largest().to_document())
    with pytest.raises(FormatError, match="unknown key 'extra'"):
        TINY.arch_from_document({**TINY.largest().to_document(), "extra": 1})
    with pytest.raises(FormatError, match="lacks the key 'depths'"):
        TINY.arch_from_document({k: v for k, v in TINY.largest().to_document().items() if k != "depths"})


# --- codes -----------------------------------------------------------------------------------------------------------


@all_spaces
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_code_arch_and_json_round_trip(space, data):
    code = data.draw(codes_of(space))
    arch = space.decode_one(code)
    assert np.array_equal(space.encode(arch), code)
    assert space.encode([arch]).dtype == np.int32
    assert space.decode(code) == [arch]
    assert space.arch_from_document(json.loads(json.dumps(arch.to_document()))) == arch
    active = space.active(code[None])[0]
    assert np.array_equal(active, np.array(arch.kernels) > 0)
    assert active.sum() == sum(arch.depths)


def test_encode_of_none_is_an_empty_matrix():
    assert TINY.encode([]).shape == (0, TINY.n_genes)
    assert TINY.sample(np.random.default_rng(0), 0).shape == (0, TINY.n_genes)


def test_the_columns_of_a_code():
    arch = TINY.arch(28, [2, 1, 2], [3, 5, 7, 0, 3, 5], [6, 4, 3, 0, 6, 6])
    assert TINY.encode(arch).tolist() == [1, 1, 0, 1, 0, 1, 2, 0, 0, 1, 2, 1, 0, 0, 2, 2]
    assert TINY.gene_sizes.tolist() == [3, 2, 2, 2] + [3] * 12
    assert (TINY.depth_genes, TINY.kernel_genes, TINY.expand_genes) == (slice(1, 4), slice(4, 10), slice(10, 16))


OTHER = dataclasses.replace(
    TINY, stages=(dataclasses.replace(TINY.stages[0], depths=(1, 2, 4)), *TINY.stages[1:]), kernels=(3, 5), expands=(2,)
)  # each dimension has another number of choices


@pytest.mark.parametrize("space", [*SPACES.values(), OTHER], ids=[*SPACES, "other"])
def test_dimensions_hold_every_gene_once_in_order(space):
    names, stages = [dimension.name for dimension in space.dimensions], space.block_stages
    assert names == ["resolution", "depth", "kernel", "expand"] + (["channels"] if space.elastic_streams else [])
    genes = [gene for dimension in space.dimensions for gene in range(space.n_genes)[dimension.genes]]
    assert genes == list(range(space.n_genes))
    choices = {dimension.name: dimension.choices for dimension in space.dimensions}
    assert [len(of) for name in names for of in choices[name]] == space.gene_sizes.tolist()
    assert choices["resolution"] == (space.resolutions,)
    assert choices["depth"] == tuple(stage.depths for stage in space.stages)
    assert choices["kernel"] == tuple(space.stages[stage].kernels or space.kernels for stage in stages)
    assert choices["expand"] == tuple(space.stages[stage].expands or space.expands for stage in stages)
    assert [len(of) for of in choices.get("channels", ())] == [len(of.channels) for of in space.elastic_streams]
    assert [dimension.name for dimension in space.block_dimensions] == ["kernel", "expand"]
    assert [dimension.size for dimension in space.block_dimensions] == [len(space.kernels), len(space.expands)]


@pytest.mark.parametrize("space", [*SPACES.values(), OTHER], ids=[*SPACES, "other"])
def test_dimensions_tell_what_codes_choose(space):
    codes = space.sample(np.random.default_rng(0), 50)
    archs, active = space.decode(codes), space.active(codes)
    resolution, depth, kernel, expand, *channels = (dimension.chosen(codes) for dimension in space.dimensions)
    assert resolution[:, 0].tolist() == [arch.resolution for arch in archs]
    assert depth.tolist() == [list(arch.depths) for arch in archs]
    assert (kernel * active).tolist() == [list(arch.kernels) for arch in archs]
    assert (expand * active).tolist() == [list(arch.expands) for arch in archs]
    assert [of.tolist() for of in channels] == [[list(arch.channels) for arch in archs]] * bool(space.elastic_streams)
    assert [arch.values for arch in archs] == [
        (arch.resolution, *arch.depths, *arch.kernels, *arch.expands, *arch.channels) for arch in archs
    ]


def test_a_space_with_other_choices():
    assert OTHER.size() == (2 + 2**2 + 2**4) * (2 + 2**2) ** 2
    assert np.array_equal(OTHER.encode([OTHER.smallest()]), np.zeros((1, OTHER.n_genes)))
    assert np.array_equal(OTHER.encode(OTHER.largest()), OTHER.gene_sizes - 1)
    with pytest.raises(SpaceError, match=r"`kernels` .* chosen from the space's \(3, 5\) for every block in use"):
        OTHER.arch(32, [1, 1, 1], [7] * 8, [2] * 8)


def test_every_subnet_has_exactly_one_canonical_code():
    space = dataclasses.replace(TINY, stages=TINY.stages[:2], kernels=(3, 5), expands=(2, 3), resolutions=(24,))
    everything = np.stack(np.meshgrid(*map(np.arange, space.gene_sizes), indexing="ij"), -1).reshape(-1, space.n_genes)
    codes = np.unique(space.canonical(everything), axis=0)
    assert len(codes) == space.size() == (4 + 16) ** 2
    assert len({space.decode_one(code) for code in codes}) == len(codes)


def within_five_sigma(counts, n):
    expected = n / len(counts)
    return np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_sampling_is_uniform_gene_by_gene_and_pair_by_pair():
    n = 18_000
    codes = TINY.sample(np.random.default_rng(7), n)
    assert codes.dtype == np.int32
    assert np.array_equal(TINY.canonical(codes), codes)
    always = [0, 1, 2, 3] + [
        genes.start + block for genes in (TINY.kernel_genes, TINY.expand_genes) for block in (0, 2, 4)
    ]
    sizes = TINY.gene_sizes
    for first in always:
        assert within_five_sigma(np.bincount(codes[:, first], minlength=sizes[first]), n)
        for second in (gene for gene in always if gene > first):
            pairs = codes[:, first] * sizes[second] + codes[:, second]
            assert within_five_sigma(np.bincount(pairs, minlength=sizes[first] * sizes[second]), n)
    deep = codes[codes[:, 1] == 1]
    assert within_five_sigma(np.bincount(deep[:, TINY.kernel_genes.start + 1], minlength=3), len(deep))


@registered_spaces
def test_sampling_the_largest_choices_only(space):
    rng = np.random.default_rng(3)
    codes = space.sample(rng, 300, kernel_choices=1, depth_choices=1, expand_choices=1, channels_choices=1)
    assert {arch.resolution for arch in space.decode(codes)} == set(space.resolutions)
    assert {arch.values[1:] for arch in space.decode(codes)} == {space.largest().values[1:]}
    two = dict.fromkeys(("kernel_choices", "depth_choices", "expand_choices", "channels_choices"), 2)
    archs = space.decode(space.sample(rng, 300, **two))
    assert {kernel for arch in archs for kernel in arch.kernels} - {0} == set(space.kernels[-2:])
    fixed = {ratio for stage in space.stages for ratio in stage.expands or ()}
    assert {expand for arch in archs for expand in arch.expands} - {0} == {*space.expands[-2:], *fixed}
    for stage, depths in zip(space.stages, zip(*(arch.depths for arch in archs), strict=True), strict=True):
        assert set(depths) == set(stage.depths[-2:])
    assert {index for arch in archs for index in arch.channels} == ({1, 2} if space.elastic_streams else set())
    more = space.sample(rng, 300, kernel_choices=99)
    assert {kernel for arch in space.decode(more) for kernel in arch.kernels} - {0} == set(space.kernels)


@pytest.mark.parametrize("name", ["kernel_choices", "depth_choices", "expand_choices"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_sampling_no_choice_is_refused(name, value):
    with pytest.raises(SpaceError, match=rf"`{name}` \(={value}\) must be an integer of at least 1"):
        TINY.sample(np.random.default_rng(0), 5, **{name: value})


@pytest.mark.parametrize("name", ["resolution_choices", "kernels"])
def test_sampling_by_no_dimension_is_refused(name):
    with pytest.raises(TypeError, match=f"`{name}` must be one of"):
        TINY.lowest_code(**{name: 1})


def test_sampling_takes_its_randomness_from_the_argument_alone():
    first, again = (TINY.sample(np.random.default_rng(5), 20) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, TINY.sample(np.random.default_rng(6), 20))


@all_spaces
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), probability=st.floats(0, 1))
def test_mutation_and_crossover_stay_within_the_space(space, seed, probability):
    rng = np.random.default_rng(seed)
    first, second = space.sample(rng, 20), space.sample(rng, 20)
    before = first.copy()
    mutants = space.mutate(first, rng, probability)
    children = space.crossover(first, second, rng)
    for codes in (mutants, children):
        assert codes.shape == first.shape
        assert np.array_equal(space.canonical(codes), codes)
        assert ((codes >= 0) & (codes < space.gene_sizes)).all()
        assert np.array_equal(space.encode(space.decode(codes)), codes)
    assert ((children == first) | (children == second) | (children == 0)).all()
    assert np.array_equal(first, before)


def test_how_much_a_mutation_changes():
    rng = np.random.default_rng(0)
    codes = TINY.sample(rng, 5000)
    assert np.array_equal(TINY.mutate(codes, rng, 0.0), codes)
    changed = TINY.mutate(codes, rng, 0.3)[:, :4] != codes[:, :4]
    assert np.allclose(changed.mean(0), 0.3 * np.array([2 / 3, 1 / 2, 1 / 2, 1 / 2]), atol=0.03)
    children = TINY.crossover(np.zeros((5000, 16), np.int32), np.ones((5000, 16), np.int32), rng)
    assert np.allclose(children[:, :4].mean(0), 0.5, atol=0.04)


EXPANDS = "an ascending list of numbers above 0, at most 64"
CHANNELS = "an ascending list of multiples of 8 up to 65536, or one integer"
MULTIPLIERS = "a number between 0 and 100, or an ascending list of such numbers"
KINDS_OF_STAGES = "one of ['mbconv', 'bottleneck', 'residual_conv', 'conv_pool']"


# --- rules of a space ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("name", "my space", "a name made of a-z, 0-9 and _"),
        ("name", "é", "a name made of a-z, 0-9 and _"),
        ("name", 5, "a name made of a-z, 0-9 and _"),
        ("stem_channels", -1, "an integer from 0 to 65536"),
        ("first_channels", 16.0, "an integer from 0 to 65536"),
        ("head_channels", 10**9, "an integer from 0 to 65536"),
        ("feature_channels", -1, "an integer from 0 to 65536"),
        ("stem_stride", 3, "1 or 2"),
        ("stem_stride", 2.0, "1 or 2"),
        ("stem_stride", True, "1 or 2"),
        ("stem_activation", "swish", "one of ['relu', 'relu6', 'hard_swish']"),
        ("first_activation", None, "one of ['relu', 'relu6', 'hard_swish']"),
        ("head_activation", ["relu"], "one of ['relu', 'relu6', 'hard_swish']"),
        ("stages", (), "a list of 1 to 32 stages"),
        ("kernels", (), "an ascending list of integers from 3 to 31"),
        ("kernels", (5, 3), "an ascending list of integers from 3 to 31"),
        ("kernels", (3, 3), "an ascending list of integers from 3 to 31"),
        ("kernels", (4, 6), "odd, such as [3, 5, 7]"),
        ("expands", (0, 3), EXPANDS),
        ("expands", (3, 3), EXPANDS),
        ("expands", (3, float("inf")), EXPANDS),
        ("expands", 3, EXPANDS),
        ("stem_channels", (16, 8), CHANNELS),
        ("first_channels", (16, 16), CHANNELS),
        ("head_channels", (60, 64), CHANNELS),
        ("head_channels", (), CHANNELS),
        ("first_depth", 0, "an integer from 1 to 64"),
        ("coupled", 1, "true or false"),
        ("resolutions", (4, 32), "an ascending list of integers from 8 to 8192"),
        ("resolutions", (10**12,), "an ascending list of integers from 8 to 8192"),
        ("width_mult", 0, MULTIPLIERS),
        ("width_mult", (0.5, float("nan")), MULTIPLIERS),
        ("width_mult", True, MULTIPLIERS),
        ("width_mult", (1.0, 0.5), MULTIPLIERS),
        ("bn_epsilon", 1.0, "a number between 0 and 1"),
        ("padding", "valid", "one of ['same', 'symmetric']"),
    ],
)
def test_a_wrong_space_is_refused_with_argument_value_and_rule(field, value, rule):
    shown = list(value) if isinstance(value, tuple) else value
    with pytest.raises(SpaceError, match=f"^{re.escape(f'`{field}` (={shown!r}) must be {rule}.')}$"):
        dataclasses.replace(TINY, **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("channels", 0, "an integer from 1 to 65536"),
        ("channels", (24, 16), CHANNELS),
        ("channels", (16, 20), CHANNELS),
        ("kernels", (3, 4), "odd, such as [3, 5, 7]"),
        ("expands", (), EXPANDS),
        ("stride", 3, "1 or 2"),
        ("stride", 1.0, "1 or 2"),
        ("depths", (0, 1), "an ascending list of integers from 1 to 64"),
        ("depths", (10**9,), "an ascending list of integers from 1 to 64"),
        ("depths", (2, 1), "an ascending list of integers from 1 to 64"),
        ("activation", "none", "one of ['relu', 'relu6', 'hard_swish']"),
        ("se", 1, "true or false"),
        ("kind", "linear", KINDS_OF_STAGES),
        ("kind", ["mbconv"], KINDS_OF_STAGES),
    ],
)
def test_a_wrong_stage_is_refused_with_argument_value_and_rule(field, value, rule):
    shown = list(value) if isinstance(value, tuple) else value
    with pytest.raises(SpaceError, match=f"^{re.escape(f'`{field}` (={shown!r}) must be {rule}.')}$"):
        dataclasses.replace(Stage(24, 2, (1, 2), "relu6"), **{field: value})
