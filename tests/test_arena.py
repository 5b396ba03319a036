"""The predicted arena: of a block by hand, of an arch in tables, of boards and budgets."""

import dataclasses

import numpy as np
import pytest
from rich_spaces import RICH_SPACES

from ofa_tf.arena import ALIGNMENT, arena_costs, arena_size, block_activations, block_records
from ofa_tf.blocks import walk
from ofa_tf.errors import ArgumentError, DeviceError, InfeasibleError
from ofa_tf.kinds import Block
from ofa_tf.micro.boards import boards, get_board
from ofa_tf.project.choice import Budgets
from ofa_tf.project.memories import excess, make_budgets, with_memories
from ofa_tf.spaces import MOBILENET_V3, TINY

MBCONV = Block(
    "", "mbconv", in_size=8, in_channels=8, out_channels=8, mid_channels=24, kernel=3, activation="relu6", skip=True
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 8 * 8 * (8 + 24 + 24)),  # the input is still needed while the depthwise convolution runs
        ({"skip": False}, 8 * 8 * (24 + 24)),
        ({"stride": 2, "skip": False, "in_channels": 16}, 8 * 8 * (16 + 24)),  # while the expansion runs
        ({"activation": "hard_swish"}, 8 * 8 * (8 + 24 + 24)),
        ({"stride": 2, "skip": False, "padding": "symmetric"}, (8 * 8 + 10 * 10) * 24),  # the padding is an operator
    ],
)
def test_activations_of_a_block(changes, expected):
    assert block_activations(dataclasses.replace(MBCONV, **changes)) == expected


def test_records_grow_with_operators_and_channels():
    without = dataclasses.replace(MBCONV, skip=False)
    wider = dataclasses.replace(without, mid_channels=32)
    assert block_records(MBCONV) > block_records(without)
    assert block_records(wider) - block_records(without) == 8 * 8 * 2  # of two convolutions, 8 bytes a channel


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3, *RICH_SPACES.values()], ids=lambda space: space.name)
def test_tables_hold_what_the_walk_gives(space):
    codes = space.sample(np.random.default_rng(0), 20)
    expected = [arena_size(walk(space, arch, 10)).total_bytes for arch in space.decode(codes)]
    assert np.abs(arena_costs(space, 10)(codes) - expected).max() < ALIGNMENT  # only the total is aligned


def test_boards_have_memories_and_sources():
    for board in boards().values():
        assert 0 < board.free_ram_bytes < board.ram_bytes < board.flash_bytes
        assert board.source.startswith("https://")
        assert board.checked_with.startswith("https://github.com/")


def test_only_ram_in_one_piece_counts():
    assert get_board("arduino-portenta-h7").ram_bytes == 512 * 1024  # of 1 MB in several places
    assert get_board("nucleo-l4r5zi").ram_bytes == 640 * 1024  # in three, one after the other


def test_a_board_that_is_not_known_is_refused_with_the_nearest_names():
    with pytest.raises(DeviceError, match="There is no board 'picco': did you mean 'pico'"):
        get_board("picco")
    with pytest.raises(DeviceError, match="There is no board 'zzzz': there are arduino-nano-33-ble, "):
        get_board("zzzz")


def test_a_board_brings_its_budgets_and_tightens_those_given():
    found = with_memories(Budgets({"mcu:pico": None}), TINY, "int8")
    assert (found.ram_bytes, found.size_bytes) == (get_board("pico").free_ram_bytes, get_board("pico").free_flash_bytes)
    assert (found.target, dict(found.latency_ms)) == ("mcu:pico", {})
    tighter = with_memories(Budgets({"mcu:pico": None}, ram_bytes=20e3, size_bytes=9e9), TINY, "int8")
    assert (tighter.ram_bytes, tighter.size_bytes) == (20e3, found.size_bytes)


@pytest.mark.parametrize(
    ("budgets", "precision", "said"),
    [
        (Budgets({"mcu": None}), "int8", "needs both --ram-kb and --flash-kb"),
        (Budgets({"mcu": None}, ram_bytes=5e4), "int8", "needs both --ram-kb and --flash-kb"),
        (Budgets({"mcu:pico": 3.0}), "int8", "--latency is not for mcu:pico"),
        (Budgets({"host": None, "mcu:pico": None}), "int8", "name no other device with it"),
        (Budgets(ram_bytes=5e4), "fp32", "--ram-kb is for int8 files, not for fp32"),
    ],
)
def test_budgets_that_do_not_go_together_are_refused(budgets, precision, said):
    with pytest.raises(ArgumentError, match=said):
        with_memories(budgets, TINY, precision)


def test_less_ram_than_the_image_is_refused():
    with pytest.raises(InfeasibleError, match=r"less than the smallest input image of `tiny` takes: 1\.7 kB at 24 px"):
        with_memories(Budgets(ram_bytes=1000), TINY, "int8")


def test_other_precisions_are_not_for_a_microcontroller():
    with pytest.raises(DeviceError, match="--precision fp16 is not for a microcontroller"):
        with_memories(Budgets({"mcu:pico": None}), TINY, "fp16")


def test_arguments_become_budgets():
    assert make_budgets(device="mcu:pico").latency_ms == {"mcu:pico": None}
    assert make_budgets(device="host").latency_ms == {}
    assert make_budgets(2, ram_kb=64, size_kb=100) == Budgets({"host": 2.0}, size_bytes=100e3, ram_bytes=64e3)
    with pytest.raises(ArgumentError, match="ram_kb"):
        make_budgets(ram_kb=-1)


def test_flash_is_another_name_of_size_and_not_a_second_budget():
    assert make_budgets(flash_kb=100) == make_budgets(size_kb=100) == Budgets(size_bytes=100e3)
    with pytest.raises(ArgumentError, match="`flash_kb`: -1 is not a positive number"):
        make_budgets(flash_kb=-1)
    with pytest.raises(ArgumentError, match="--size-kb or --flash-kb, not both: they are two names of one budget"):
        make_budgets(size_kb=100, flash_kb=50)


def test_what_does_not_fit_is_told():
    board = Budgets({"mcu:bluepill": None})
    assert excess(board, 10_000, 40_000) is None
    assert excess(board, 19_000, 40_000) == "The file needs 19.0 kB of RAM, more than the budget of 18.4 kB."
    assert "of flash, more than the budget of 49.2 kB" in excess(board, None, 60_000)
    assert excess(Budgets({"host": 1.0}), 10**9, 10**9) is None
