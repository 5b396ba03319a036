"""Spaces with choices of channels, with choices of each stage, and with depths that set the expand ratio."""

import dataclasses
import json

import numpy as np
import pytest
from rich_spaces import COUPLED, LAST, RESNET, RICH

from ofa_tf.errors import SpaceError
from ofa_tf.spaces import TINY

# --- channels, and choices of a stage --------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [RICH, COUPLED, LAST], ids=lambda space: space.name)
def test_the_size_of_a_space_is_the_number_of_its_codes(space):
    n_choices = np.prod(space.gene_sizes.astype(float))
    codes = np.stack(np.unravel_index(np.arange(int(n_choices)), space.gene_sizes), axis=1).astype(np.int32)
    assert len(np.unique(space.canonical(codes), axis=0)) == space.size() * len(space.resolutions)


def test_choices_of_channels_that_are_built_alike_count_once():
    wide = dataclasses.replace(RESNET, width_mult=(0.5, 0.55, 1.0))
    assert [len(stream.channels) for stream in wide.elastic_streams] == [3] * 4
    assert wide.streams[1].channels == (8, 8, 16)
    widths = [len(set(stream.channels)) for stream in wide.elastic_streams]
    assert widths == [2, 2, 2, 3]
    assert wide.size() == RESNET.size() // 2**4 * 2**3 * 3


def test_an_arch_says_which_channels():
    arch = RICH.largest()
    assert arch.channels == (1, 1, 1, 2, 1)
    assert RICH.channels_of(arch) == {
        "image": 3, "stem": 16, "first": 16, "stage1": 24, "stage2": 40, "stage3": 40, "head": 96
    }  # fmt: skip
    assert str(arch) == "32 px | 7x3 7x3 | 5x4 5x4 | 5x1 | channels 1 1 1 2 1"
    assert RICH.smallest().channels == (0,) * 5
    assert RICH.arch_from_document(json.loads(json.dumps(arch.to_document()))) == arch
    assert "channels" not in TINY.largest().to_document()


@pytest.mark.parametrize("channels", [(), (1, 1, 1, 2), (1, 1, 1, 3, 1), (1, 1, -1, 2, 1), (1, 1, 1, 2, 0.5), None])
def test_wrong_channels_are_refused_and_the_meant_ones_named(channels):
    arch = RICH.largest()
    with pytest.raises(SpaceError) as caught:
        RICH.arch(arch.resolution, arch.depths, arch.kernels, arch.expands, channels)
    shown = list(channels) if isinstance(channels, tuple) else channels
    assert str(caught.value) == (
        f"`channels` (={shown!r}) must be a list of 5 indices, from 0, which choose the channels of stem from [8, 16], "
        "first from [8, 16], stage1 from [16, 24], stage2 from [24, 32, 40], head from [64, 96]."
    )


def test_channels_without_a_choice_are_refused():
    arch = TINY.largest()
    message = r"^`channels` \(=\[0\]\) must be left out: `tiny` has no choice of channels\.$"
    with pytest.raises(SpaceError, match=message):
        TINY.arch(arch.resolution, arch.depths, arch.kernels, arch.expands, (0,))


def test_an_arch_file_without_channels_says_which_are_meant():
    document = RICH.largest().to_document()
    del document["channels"]
    with pytest.raises(SpaceError, match="which choose the channels of stem from"):
        RICH.arch_from_document(document)


def test_a_stage_has_kernels_and_expand_ratios_of_its_own():
    archs = RICH.decode(RICH.sample(np.random.default_rng(0), 500))
    of_slots = [set(values) - {0} for values in zip(*(arch.kernels for arch in archs), strict=True)]
    assert of_slots == [{3, 7}, {3, 7}, {3, 5}, {3, 5}, {5}]
    of_slots = [set(values) - {0} for values in zip(*(arch.expands for arch in archs), strict=True)]
    assert of_slots == [{1, 3}, {1, 3}, {3, 4}, {3, 4}, {1}]
    arch = RICH.largest()
    with pytest.raises(SpaceError, match=r"must be chosen from its stage's \(3, 7\) for every block in use"):
        RICH.arch(arch.resolution, arch.depths, (5, *arch.kernels[1:]), arch.expands, arch.channels)


def test_width_opens_the_widest_channels_first():
    rng = np.random.default_rng(0)
    narrow = RICH.sample(rng, 200, channels_choices=2)[:, RICH.channel_genes]
    assert narrow[:, 3].min() == 1
    assert narrow[:, 0].min() == 0
    assert (RICH.sample(rng, 50, channels_choices=1)[:, RICH.channel_genes] == [1, 1, 1, 2, 1]).all()
    assert RICH.lowest_code(channels_choices=1)[RICH.channel_genes].tolist() == [1, 1, 1, 2, 1]
    assert len(TINY.sample(rng, 5, channels_choices=1)) == 5


# --- depths and expand ratios that are coupled ------------------------------------------------------------------------


def test_the_expand_ratio_of_a_coupled_space_follows_the_depth():
    codes = COUPLED.sample(np.random.default_rng(0), 300)
    for arch in COUPLED.decode(codes):
        for slots, stage, depth, expands in zip(
            COUPLED.stage_slots, COUPLED.stages, arch.depths, COUPLED.stage_expands, strict=True
        ):
            assert set(arch.expands[slots][:depth]) == {expands[stage.depths.index(depth)]}
    assert len(np.unique(codes[:, 1:], axis=0)) == COUPLED.size() == 3 * 2 * 2
    closed = COUPLED.sample(np.random.default_rng(0), 50, depth_choices=1)
    assert {arch.expands for arch in COUPLED.decode(closed)} == {(6, 6, 6, 3, 3)}


def test_an_arch_that_is_not_coupled_is_refused():
    with pytest.raises(SpaceError, match=r"`expands` .* must be coupled to the depths: 1 with 3, 2 with 4, 3 with 6\."):
        COUPLED.arch(24, (2, 1), (3, 3, 0, 5, 0), (6, 6, 0, 2, 0), (0,))


# --- what does not go together ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            lambda: dataclasses.replace(TINY, coupled=True, expands=(3, 4), kernels=(3, 5)),
            "Stage 1: `coupled` needs one kernel size, not `kernels` (=[3, 5]).",
        ),
        (
            lambda: dataclasses.replace(TINY, coupled=True, kernels=(3,)),
            "Stage 1: `coupled` needs as many `depths` (=[1, 2]) as `expands` (=[3, 4, 6]), because the n-th of both "
            "are chosen together.",
        ),
        (
            lambda: dataclasses.replace(TINY, expands=(0.5, 3)),
            "Stage 1: `expands` (=[0.5, 3]) must be at least 1.",
        ),
        (
            lambda: dataclasses.replace(RICH, width_mult=0.5),
            "`width_mult` (=0.5) makes two choices of channels of stem the same: [8, 8].",
        ),
        (
            lambda: dataclasses.replace(RICH, width_mult=(0.5, 1.0)),
            "`width_mult` must be one number where a stage or an end has a list of channels.",
        ),
        (
            lambda: dataclasses.replace(RESNET, stages=(dataclasses.replace(RESNET.stages[2], se=True),)),
            "Stage 1: blocks of the kind 'bottleneck' have no squeeze-and-excite (`se`).",
        ),
        (
            lambda: dataclasses.replace(RESNET, stages=(dataclasses.replace(RESNET.stages[0], expands=(1, 2)),)),
            "Stage 1: its blocks have no middle, so `expands` (=[1, 2]) must be [1].",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(space, message):
    with pytest.raises(SpaceError) as caught:
        space()
    assert str(caught.value) == message
