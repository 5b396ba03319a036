"""How large a space may be: a file of any size is refused in a moment."""

import dataclasses
import json

import pytest

from ofa_tf.errors import SpaceError
from ofa_tf.rules import MAX_BLOCKS, MAX_CHOICES, MAX_STAGES
from ofa_tf.space import Stage
from ofa_tf.spaces import SPACES, TINY, get_space

DEEP = Stage(24, 1, tuple(range(1, 65)), "relu6")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stages": (TINY.stages[0],) * (MAX_STAGES + 1)}, f"`stages` .* must be a list of 1 to {MAX_STAGES} stages"),
        ({"stages": (DEEP,) * 5}, f"`depths` of the stages add up to 320 blocks, more than {MAX_BLOCKS}"),
        ({"resolutions": tuple(range(8, 8 + MAX_CHOICES + 1))}, "`resolutions` has 65 choices, more than 64"),
        ({"expands": tuple(1 + i / 100 for i in range(65))}, "`expands` has 65 choices"),
        ({"stem_channels": tuple(range(8, 8 * 66, 8))}, "`stem_channels` has 65 choices"),
        (
            {"stages": (dataclasses.replace(DEEP, channels=tuple(range(8, 136, 8))),) * 4,
             "kernels": (3, 5, 7, 9, 11, 13, 15), "expands": tuple(range(1, 17))},
            "choices of this space make .* different blocks, more than 200000",
        ),
    ],
    ids=["stages", "blocks", "resolutions", "expands", "channels", "variants"],
)  # fmt: skip
def test_what_nobody_could_search_is_refused(changes, said):
    with pytest.raises(SpaceError, match=said):
        dataclasses.replace(TINY, **changes)


def test_a_file_of_thousands_of_stages_is_refused_in_one_sentence(tmp_path):
    document = {"schema": 2, **TINY.to_document()}
    document["stages"] = [DEEP.to_document()] * 3000
    path = tmp_path / "space.json"
    path.write_text(json.dumps(document))
    with pytest.raises(SpaceError) as refused:
        get_space(str(path))
    assert len(str(refused.value)) < 300


def test_the_largest_spaces_that_are_published_are_far_from_the_limits():
    for space in SPACES.values():
        assert sum(stage.depths[-1] for stage in space.stages) * 8 < MAX_BLOCKS
