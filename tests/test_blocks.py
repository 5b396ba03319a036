"""The walk: what every block costs, what names it, and the sums over it for many archs at once."""

import dataclasses
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich_spaces import RESNET, RICH, RICH_SPACES

from ofa_tf.blocks import Block, count_macs, count_params, walk
from ofa_tf.channels import bottleneck_channels, divisible, mid_channels, se_channels
from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.spaces import EDGE, MOBILENET_V3, SPACES, TINY

all_spaces = pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))
SMALL = dataclasses.replace(TINY, stages=TINY.stages[:2], kernels=(3, 5), expands=(2, 3), resolutions=(24, 32))
MBCONV = Block("b", "mbconv", 32, 16, 24, mid_channels=64, kernel=3, stride=2, activation="relu", se_channels=16)
CONV = Block("c", "conv", 33, 3, 16, kernel=3, stride=2, activation="relu6")
LINEAR = Block("l", "linear", 1, 80, 10, bias=True)
POOL = Block("p", "pool", 7, 80, 80)


def noise(block: Block) -> float:
    """A cost that follows from the table key alone, and from all of it."""
    return zlib.crc32(block.key.encode()) / 2**32


# --- widths ----------------------------------------------------------------------------------------------------------


@given(value=st.floats(0.1, 1e6), divisor=st.sampled_from([4, 8, 16]))
def test_divisible_is_the_nearest_multiple_of_at_least_90_percent(value, divisor):
    result = divisible(value, divisor)
    assert result % divisor == 0
    assert result >= max(divisor, 0.9 * value)
    assert result == divisor or result - value <= divisor / 2 or result - divisor < 0.9 * value
    assert result - value > -divisor / 2 - 1e-6


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 8), (11, 16), (12, 16), (16 * 1.2, 24), (19.9, 24), (20, 24), (40 * 1.3, 56), (48, 48)]
)
def test_divisible(value, expected):
    assert divisible(value) == expected


def test_published_widths():
    assert [divisible(width * 1.2) for width in (16, 24, 40, 80, 112, 160, 960, 1280)] == [
        24, 32, 48, 96, 136, 192, 1152, 1536,
    ]  # fmt: skip
    assert mid_channels(24, 3) == 72
    assert [se_channels(mid) for mid in (72, 240, 960, 8)] == [24, 64, 240, 8]


# --- one block -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "out_size", "n_macs", "n_params"),
    [
        # 32^2*16*64 + 16^2*9*64 + 2*64*16 + 16^2*64*24; (1024+128) + (576+128) + (2048+16+64) + (1536+48)
        (MBCONV, 16, 1_048_576 + 147_456 + 2_048 + 393_216, 1_152 + 704 + 2_128 + 1_584),
        (dataclasses.replace(MBCONV, se_channels=0), 16, 1_589_248, 3_440),
        # no expansion: 16^2*9*16 + 16^2*16*24; (144+32) + (384+48)
        (dataclasses.replace(MBCONV, mid_channels=16, se_channels=0), 16, 36_864 + 98_304, 176 + 432),
        (CONV, 17, 17 * 17 * 9 * 3 * 16, 9 * 3 * 16 + 32),
        (POOL, 1, 0, 0),
        (LINEAR, 1, 800, 810),
        (dataclasses.replace(LINEAR, bias=False), 1, 800, 800),
    ],
)
def test_macs_and_parameters_by_hand(block, out_size, n_macs, n_params):
    assert (block.out_size, block.n_macs, block.n_params) == (out_size, n_macs, n_params)


def test_keys_are_words_and_numbers_that_people_can_read():
    assert MBCONV.key == "mbconv in=32x32x16 out=16x16x24 mid=64 k=3 s=2 act=relu se=16 skip=0"
    assert CONV.key == "conv in=33x33x3 out=17x17x16 k=3 s=2 act=relu6"
    assert POOL.key == "pool in=7x7x80 out=1x1x80 v=2"
    assert LINEAR.key == "linear in=1x1x80 out=1x1x10 act=none bias=1"
    assert dataclasses.replace(CONV, padding="symmetric").key == CONV.key + " pad=symmetric"


CHANGES = {
    "in_size": 30, "in_channels": 8, "out_channels": 32, "mid_channels": 72, "kernel": 5, "stride": 1,
    "activation": "hard_swish", "se_channels": 24, "skip": True, "bias": False, "padding": "symmetric",
}  # fmt: skip
MATTERS = {
    "mbconv": CHANGES.keys() - {"bias"},
    "conv": CHANGES.keys() - {"bias", "mid_channels", "se_channels", "skip"},
    "linear": {"in_channels", "out_channels", "activation", "bias"},
    "pool": {"in_size"},
}


@pytest.mark.parametrize("block", [MBCONV, CONV, LINEAR, POOL], ids=lambda block: block.kind)
def test_whatever_changes_the_cost_changes_the_key(block):
    for field in MATTERS[block.kind]:
        assert dataclasses.replace(block, **{field: CHANGES[field]}).key != block.key, field
    assert dataclasses.replace(block, name="other", slot=3).key == block.key


def test_the_padding_of_stride_one_is_the_same_either_way():
    plain = dataclasses.replace(MBCONV, stride=1)
    assert dataclasses.replace(plain, padding="symmetric").key == plain.key


blocks = st.builds(
    Block,
    name=st.just("b"),
    kind=st.sampled_from(["conv", "mbconv"]),
    in_size=st.integers(7, 9),
    in_channels=st.sampled_from([8, 16]),
    out_channels=st.sampled_from([8, 16]),
    mid_channels=st.sampled_from([24, 48]),
    kernel=st.sampled_from([3, 5]),
    stride=st.sampled_from([1, 2]),
    activation=st.sampled_from(["relu", "relu6"]),
    se_channels=st.sampled_from([0, 8]),
    skip=st.booleans(),
    padding=st.sampled_from(["same", "symmetric"]),
)


@settings(max_examples=300)
@given(first=blocks, second=blocks)
def test_equal_keys_are_equal_work(first, second):
    def work(block):
        ignored = {} if block.kind == "mbconv" else {"mid_channels": 0, "se_channels": 0, "skip": False}
        padding = block.padding if block.stride > 1 else "same"
        return dataclasses.replace(block, padding=padding, **ignored)

    assert (first.key == second.key) == (work(first) == work(second))


# --- the walk --------------------------------------------------------------------------------------------------------


@all_spaces
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_block_starts_where_the_one_before_ends(space, seed):
    arch = space.decode_one(space.sample(np.random.default_rng(seed), 1)[0])
    network = walk(space, arch, 7)
    assert (network[0].in_size, network[0].in_channels) == (arch.resolution, 3)
    for before, after in pairwise(network):
        assert (after.in_size, after.in_channels) == (before.out_size, before.out_channels)
    assert (network[-1].kind, network[-1].out_channels, network[-1].bias) == ("linear", 7, True)
    assert [block.kind for block in network].count("pool") == 1
    assert len({block.name for block in network}) == len(network)
    elastic = [block for block in network if block.slot >= 0]
    chosen = dict(zip((stream.name for stream in space.elastic_streams), arch.channels, strict=True))
    assert [block.slot for block in elastic] == np.flatnonzero(arch.kernels).tolist()
    for block in elastic:
        stage, position = space.block_stages[block.slot], space.block_positions[block.slot]
        assert block.name == f"stage{stage + 1}_block{position + 1}"
        assert block.stride == (space.stages[stage].stride if position == 0 else 1)
        mid = {
            "mbconv": mid_channels(block.in_channels, arch.expands[block.slot]),
            "bottleneck": bottleneck_channels(block.out_channels, arch.expands[block.slot]),
        }
        assert (block.kernel, block.mid_channels) == (arch.kernels[block.slot], mid.get(block.kind, 0))
        mult = space.width_mults[chosen.get(f"stage{stage + 1}", 0)]
        assert block.out_channels == divisible(space.stages[stage].channels * mult)
        assert block.activation == space.stages[stage].activation
        assert block.se_channels == (se_channels(block.mid_channels) if space.stages[stage].se else 0)
        before = space.streams[space.first_stage_stream + stage - 1]
        one_width = position > 0 or not (before.elastic or space.streams[space.first_stage_stream + stage].elastic)
        assert block.skip == (block.stride == 1 and block.in_channels == block.out_channels and one_width)
    assert count_macs(network) == sum(block.n_macs for block in network)
    assert count_params(network) == sum(block.n_params for block in network)


@pytest.mark.parametrize("space", RICH_SPACES.values(), ids=list(RICH_SPACES))
def test_blocks_follow_the_channels_that_were_chosen(space):
    for arch in space.decode(space.sample(np.random.default_rng(0), 50)):
        network, channels = walk(space, arch, 7), space.channels_of(arch)
        for before, after in pairwise(network):
            assert (after.in_size, after.in_channels) == (before.out_size, before.out_channels)
        for block in (block for block in network if block.slot >= 0):
            stage = space.block_stages[block.slot]
            assert block.out_channels == channels[f"stage{stage + 1}"]
            if block.kind == "mbconv":
                assert block.mid_channels == mid_channels(block.in_channels, arch.expands[block.slot])
            assert block.skip in (False, block.stride == 1 and block.in_channels == block.out_channels)
            if space.block_positions[block.slot]:
                assert block.skip


def test_a_block_keeps_its_expansion_where_its_stage_offers_larger_ones():
    arch = RICH.smallest()
    blocks = {block.name: block for block in walk(RICH, arch, 7)}
    narrow, alone = blocks["stage1_block1"], blocks["stage3_block1"]
    assert (narrow.mid_channels, narrow.expanded, narrow.key[-9:]) == (8, True, " expand=1")
    assert [op.suffix for op in narrow.ops] == ["expand", "depthwise", "project"]
    assert (alone.mid_channels, alone.expanded) == (alone.in_channels, False)
    assert "expand" not in alone.key


def test_the_first_block_may_be_several():
    blocks = walk(RICH, RICH.smallest(), 7)
    assert [(block.name, block.skip) for block in blocks[:3]] == [
        ("stem", False), ("first", False), ("first_block2", True)
    ]  # fmt: skip


def test_the_skip_of_a_bottleneck_pools_where_the_block_does():
    blocks = {block.name: block for block in walk(RESNET, RESNET.largest(), 7)}
    assert [op.suffix for op in blocks["stage4_block1"].ops] == [
        "downsample_pool", "downsample", "reduce", "conv", "project", "add"
    ]  # fmt: skip
    assert [op.inputs for op in blocks["stage4_block1"].ops][-1] == ("project", "downsample")
    assert blocks["stage3_block1"].ops[0].suffix == "downsample"
    assert [op.suffix for op in blocks["stage4_block2"].ops] == ["reduce", "conv", "project", "add"]
    assert blocks["stage4_block2"].ops[-1].activation == "relu"


def test_the_published_stem_and_head():
    network = walk(MOBILENET_V3, MOBILENET_V3.smallest(), 1000)
    assert [block.name for block in network[:2]] == ["stem", "first"]
    assert network[1].skip
    assert not network[1].expanded
    assert [(block.name, block.kind, block.out_channels, block.activation, block.bias) for block in network[-4:]] == [
        ("head", "conv", 960, "hard_swish", False),
        ("pool", "pool", 960, "none", False),
        ("feature", "linear", 1280, "hard_swish", False),
        ("classifier", "linear", 1000, "none", True),
    ]


@pytest.mark.parametrize(("stride", "skips"), [(1, [True, True, True]), (2, [True, False, True])])
def test_a_skip_needs_equal_widths_and_stride_one(stride, skips):
    stage = dataclasses.replace(TINY.stages[0], channels=TINY.first_channels, stride=stride)
    space = dataclasses.replace(TINY, stem_channels=TINY.first_channels, stages=(stage,))
    assert [block.skip for block in walk(space, space.largest(), 10) if block.kind == "mbconv"] == skips


def test_padding_reaches_every_block():
    space = dataclasses.replace(TINY, padding="symmetric")
    assert {block.padding for block in walk(space, space.largest(), 10)} == {"symmetric"}


# --- sums for many archs ---------------------------------------------------------------------------------------------


@all_spaces
def test_tabulated_macs_and_parameters_are_those_of_the_walk_exactly(space):
    resolutions = space.resolutions[:: len(space.resolutions) - 1]
    codes = space.sample(np.random.default_rng(11), 40)
    codes[:, 0] *= 0
    codes[::2, 0] = len(space.resolutions) - 1
    for cost, count in ((lambda block: block.n_macs, count_macs), (lambda block: block.n_params, count_params)):
        costs = arch_costs(space, cost, 10, resolutions)
        assert costs(codes).tolist() == [count(walk(space, arch, 10)) for arch in space.decode(codes)]


@all_spaces
def test_a_batch_answers_to_the_last_bit_what_single_calls_do(space):
    costs = arch_costs(space, noise, 10, space.resolutions[:1])
    codes = space.sample(np.random.default_rng(12), 200)
    codes[:, 0] = 0
    batch = costs(codes)
    assert batch.dtype == np.float64
    assert batch.shape == (200,)
    assert batch.tolist() == [costs(code[None])[0] for code in codes]
    assert batch[::-1].tolist() == costs(codes[::-1]).tolist()
    assert costs(np.asfortranarray(codes)).tolist() == batch.tolist()
    sums = [sum(map(noise, walk(space, arch, 10))) for arch in space.decode(codes)]
    np.testing.assert_allclose(batch, sums, rtol=1e-13)
    assert costs(codes[:0]).shape == (0,)


def test_resolutions_left_out_cost_infinitely_much():
    costs = arch_costs(TINY, noise, 10, [28])
    codes = TINY.encode([TINY.largest(24), TINY.largest(28), TINY.largest(32)])
    assert np.isfinite(costs(codes)).tolist() == [False, True, False]
    assert TINY.decode_one(costs.cheapest()).resolution == 28


def test_edge_is_cheaper_than_its_model_everywhere():
    macs = [arch_costs(space, lambda block: block.n_macs, 1000, [224]) for space in (EDGE, MOBILENET_V3)]
    codes = EDGE.sample(np.random.default_rng(0), 100)
    codes[:, 0] = EDGE.resolutions.index(224)
    assert (macs[0](codes) < macs[1](codes)).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_cheapest_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    costs = ArchCosts(SMALL, rng.random(2), rng.random((4, 2, 2, 2)))
    genes = np.meshgrid(*map(np.arange, SMALL.gene_sizes), indexing="ij")
    codes = np.unique(SMALL.canonical(np.stack(genes, -1).reshape(-1, SMALL.n_genes).astype(np.int32)), axis=0)
    assert len(codes) == SMALL.size() * 2
    best = costs.cheapest()
    assert np.array_equal(SMALL.canonical(best[None])[0], best)
    assert costs(best[None])[0] == pytest.approx(costs(codes).min(), rel=1e-12)


@all_spaces
def test_the_smallest_has_the_fewest_macs(space):
    resolutions = space.resolutions[:: len(space.resolutions) - 1]
    costs = arch_costs(space, lambda block: block.n_macs, 10, resolutions)
    assert space.decode_one(costs.cheapest()) == space.smallest()
