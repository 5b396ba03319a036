"""Spaces and archs as JSON: what is written is read again, and nothing else gets in."""

import contextlib
import json

import pytest
from hostile import json_values, mutations
from hypothesis import given, settings
from hypothesis import strategies as st
from rich_spaces import RICH_SPACES

from ofa_tf.blocks import count_macs, walk
from ofa_tf.errors import FormatError, OfaError, SpaceError
from ofa_tf.jsonio import write_json
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import SPACES, TINY, get_space

ALL = {**SPACES, **RICH_SPACES}
all_spaces = pytest.mark.parametrize("space", ALL.values(), ids=list(ALL))


@all_spaces
def test_a_space_is_the_same_after_json(space, tmp_path):
    assert SearchSpace.from_document(json.loads(json.dumps(space.to_document()))) == space
    write_json(tmp_path / "mine.json", space.to_document())
    assert get_space(str(tmp_path / "mine.json")) == space


@pytest.mark.parametrize("name", SPACES)
def test_a_registered_space_is_found_by_its_name(name):
    assert get_space(name) is SPACES[name]


def test_the_usual_kind_of_blocks_is_not_written():
    """So that documents are what they were before a stage had a kind, and earlier versions read them."""
    usual = {"channels": 24, "stride": 2, "depths": [1, 2], "activation": "relu6", "se": False}
    assert TINY.to_document()["stages"][0] == usual
    document = TINY.to_document()
    document["stages"][0]["kind"] = "mbconv"
    assert SearchSpace.from_document(document) == TINY
    document["stages"][0]["kind"] = "transformer"
    with pytest.raises(SpaceError, match=r"`kind` \(='transformer'\) must be one of \['mbconv', "):
        SearchSpace.from_document(document)


def test_a_space_of_schema_1_is_read(tmp_path):
    document = TINY.to_document()
    old = {f"{name}_width": document.pop(f"{name}_channels") for name in ("stem", "first", "head", "feature")}
    for stage in document["stages"]:
        stage["width"] = stage.pop("channels")
    for new in ("first_depth", "coupled"):
        del document[new]
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"schema": 1, **old, **document}))
    assert get_space(str(path)) == TINY


def test_a_space_of_json_with_surplus_or_missing_keys_is_refused():
    document = TINY.to_document()
    with pytest.raises(FormatError, match="The space has the unknown key 'depth'"):
        SearchSpace.from_document({**document, "depth": 1})
    with pytest.raises(FormatError, match="The space lacks the key 'kernels'"):
        SearchSpace.from_document({key: value for key, value in document.items() if key != "kernels"})
    with pytest.raises(FormatError, match="The space lacks the key 'stages'"):
        SearchSpace.from_document({key: value for key, value in document.items() if key != "stages"})
    with pytest.raises(FormatError, match="The space, stage 2, has the unknown key 'k'"):
        SearchSpace.from_document({**document, "stages": [document["stages"][0], {**document["stages"][1], "k": 3}]})
    with pytest.raises(FormatError, match="The space, stage 1, must be a JSON object, not 24"):
        SearchSpace.from_document({**document, "stages": [24]})
    optional = {"width_mult", "padding", "bn_epsilon"}
    assert SearchSpace.from_document({key: document[key] for key in document.keys() - optional}) == TINY


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("nasnet", "There is no space 'nasnet': give one of .*'tiny'.* or a JSON file"),
        ("", "There is no space ''"),
        ("none.json", "There is no space 'none.json'"),
        ("x" * 5000, "There is no space"),
        ("a\0b", "There is no space"),
    ],
)
def test_an_unknown_space(name, match):
    with pytest.raises(OfaError, match=match):
        get_space(name)


@settings(max_examples=400, deadline=None)
@given(document=mutations(TINY.to_document()))
def test_a_hostile_space_is_refused_or_works(document):
    try:
        space = SearchSpace.from_document(document)
    except OfaError:
        return
    assert SearchSpace.from_document(json.loads(json.dumps(space.to_document()))) == space
    assert space.size() >= 1
    for arch in (space.smallest(), space.largest()):
        assert count_macs(walk(space, arch, 10)) > 0


@settings(max_examples=400, deadline=None)
@given(document=mutations(TINY.arch(24, [1, 2, 1], [3, 0, 5, 7, 3, 0], [3, 0, 4, 6, 3, 0]).to_document()))
def test_a_hostile_arch_is_refused_or_works(document):
    try:
        arch = TINY.arch_from_document(document)
    except OfaError:
        return
    assert TINY.decode_one(TINY.encode(arch)) == arch


@given(values=st.lists(json_values, min_size=4, max_size=4))
def test_any_arguments_of_an_arch_are_refused_or_work(values):
    with contextlib.suppress(SpaceError):
        TINY.arch(*values)
