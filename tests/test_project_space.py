"""`ofa-tf space`: what a space is."""

import json
from dataclasses import replace

import pytest
from commands import assert_refused
from test_imports import loaded_by

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.errors import ArgumentError, SpaceError
from ofa_tf.project.space import describe_space
from ofa_tf.search.file_size import size_costs
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import SPACES, TINY

# --- show -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_a_registered_space_is_described(name):
    space = SPACES[name]
    found = describe_space(name, classes=7)
    assert (found.space, found.n_subnets, found.n_classes) == (space, space.size(), 7)
    for end, arch in ((found.smallest, space.smallest()), (found.largest, space.largest())):
        blocks = walk(space, arch, 7)
        assert (end.arch, end.n_macs, end.n_params) == (arch, count_macs(blocks), count_params(blocks))
        assert end.predicted_bytes == round(size_costs(space, 7, "int8")(space.encode([arch]))[0])
        assert end.latency_ms is None
    channels = [block.out_channels for block in walk(space, space.smallest(), 7) if block.slot >= 0]
    assert set(found.stage_channels) == set(channels)


def test_a_file_is_shown(ofa, small_space):
    document = json.loads(ofa("space", "show", small_space, "--classes", 3, "--json").out)
    assert SearchSpace.from_document(document["space"]).name == "small"
    assert (document["n_classes"], document["device"], document["file"]) == (3, None, None)
    assert document["smallest"]["n_macs"] < document["largest"]["n_macs"]
    out = ofa("space", "show", small_space, "--classes", 3).out
    for text in ("Stages of `small`", "3, 5", "24, 32", "at each resolution", "predicted int8 size", "3 classes"):
        assert text in out
    assert "latency" not in out


def test_channels_are_shown_with_the_multiplier(ofa, tmp_path):
    path = tmp_path / "wide.json"
    path.write_text(json.dumps({"schema": 1, **replace(TINY, name="wide", width_mult=2).to_document()}))
    assert describe_space(path).stage_channels == (48, 80, 160)
    assert "multiplier of 2" in ofa("space", "show", path).out


def test_large_numbers_can_be_read(ofa):
    out = ofa("space", "show", "edge").out
    assert "2.2 · 10^19" in out
    assert "128 to 224 in steps of 4" in out


def test_showing_does_not_wait_for_tensorflow():
    assert not loaded_by("space", "show", "tiny") & {"tensorflow", "keras", "ai_edge_litert"}


def test_what_is_no_space_is_refused(ofa, tmp_path):
    assert_refused(ofa("space", "show", "huge"), "'huge'", "tiny", "JSON file")
    (tmp_path / "bad.json").write_text('{"schema": 1, "x": 2}')
    assert_refused(ofa("space", "show", tmp_path / "bad.json"), "bad.json", "'x'")
    assert_refused(ofa("space", "show", "tiny", "--classes", 1), "--classes", "'1'", "from 2")
    with pytest.raises(ArgumentError, match="`classes`: 1 is not"):
        describe_space("tiny", classes=1)
    with pytest.raises(SpaceError, match="huge"):
        describe_space("huge")
