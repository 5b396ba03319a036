"""`ofa-tf space`: what a space is, and which one suits a latency budget."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from commands import assert_refused
from ofa_tf.cli.train import command as train
from test_imports import loaded_by

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.edgetpu.latency_model import modelled_table
from ofa_tf.errors import ArgumentError, InfeasibleError, SpaceError
from ofa_tf.latency.store import add_table, renamed
from ofa_tf.progress import SILENT
from ofa_tf.project.space import describe_space
from ofa_tf.project.space_suggest import LEAST_PIXELS, WIDTHS, _approach, _Latencies, suggest_space, variants
from ofa_tf.search.file_size import size_costs
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import PHOTOS, SPACES, TINY, get_space

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
    assert {least for name, (least, *_) in found.channels.items() if name.startswith("stage")} == set(channels)


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
    assert [of for name, (of,) in describe_space(path).channels.items() if name.startswith("stage")] == [48, 80, 160]
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


# --- suggest: which spaces are tried ----------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [TINY, PHOTOS], ids=lambda space: space.name)
def test_variants_ascend_and_have_names_of_their_own(base):
    spaces = variants(base, side=4000)
    assert base in spaces
    assert len({space.name for space in spaces}) == len(spaces) > len(WIDTHS)
    macs = [count_macs(walk(space, space.largest(), 10)) for space in spaces]
    assert macs == sorted(macs)
    assert all(space.resolutions[0] >= LEAST_PIXELS for space in spaces)
    assert f"{base.name}_x0_5" in [space.name for space in spaces]


def test_resolutions_are_not_higher_than_those_of_the_images():
    assert max(space.resolutions[-1] for space in variants(TINY, side=33)) == 32
    assert max(space.resolutions[-1] for space in variants(TINY, side=64)) == 64


def approach(budget_ms, overhead_ms=0.01, covered=None):
    """What is tried on a device that takes a millisecond for a million MACs."""
    spaces = variants(TINY, side=64)

    def source(space):
        if covered is not None and space.name not in covered:
            return None
        macs = (count_macs(walk(space, arch, 10)) for arch in (space.smallest(), space.largest()))
        return _Latencies("toy (int8, measured)", *(overhead_ms + n / 1e6 for n in macs))

    return _approach(spaces, spaces.index(TINY), source(TINY), source, budget_ms, SILENT)


@pytest.mark.parametrize(("budget_ms", "steps"), [(2.0, 1), (0.3, 4), (0.1, 5), (10, 4), (100, 5)])
def test_a_few_steps_lead_to_a_space_around_the_budget(budget_ms, steps):
    tried = approach(budget_ms)
    found = tried[list(tried)[-1]]
    assert found.well_inside(budget_ms)
    assert 1.3 * found.smallest_ms <= budget_ms <= 0.8 * found.largest_ms
    assert len(tried) <= steps


def test_what_is_out_of_reach_ends():
    for budget_ms in (1e-6, 1e6):
        tried = approach(budget_ms)
        assert not any(found.well_inside(budget_ms) for found in tried.values())
        assert max(found.margin(budget_ms) for found in tried.values()) < 1
    assert len(approach(5.1, overhead_ms=5)) < len(variants(TINY, side=64))  # all latencies nearly alike


def test_spaces_that_no_table_covers_are_left_out():
    assert list(approach(0.3, covered={"tiny"})) == [TINY]
    tried = approach(0.3, covered={"tiny", "tiny_x0_7", "tiny_x0_5"})
    assert {space.name for space in tried} <= {"tiny", "tiny_x0_7", "tiny_x0_5"}
    assert len(tried) > 1


# --- suggest: whole runs ----------------------------------------------------------------------------------------------


def test_a_space_is_measured_on_this_machine_and_written(ofa, image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ofa_tf.project.space_suggest.SECONDS", 0.1)
    monkeypatch.setattr("ofa_tf.project.space_suggest.OVER_SMALLEST", 0.0)  # any time of this machine will do
    monkeypatch.setattr("ofa_tf.project.space_suggest.OF_LARGEST", 0.0)
    monkeypatch.setattr("ofa_tf.project.space_suggest._Latencies.margin", lambda *_: 2.0)
    run = ofa("space", "suggest", "--data", image_folder, "--latency", 0.2)
    assert run.code == 0, run.err
    assert "The subnets of `tiny` take" in run.err
    for text in ("Stages of `tiny`", "latency on host (int8, measured)", "for 3 classes"):
        assert text in run.out
    assert get_space("space.json") == TINY
    words = shlex.split(run.out.splitlines()[-1].partition("Train with it: ")[2])
    assert words[:2] == ["ofa-tf", "train"]
    options = train.make_context("train", words[2:]).params
    assert (options["space"], options["data"]) == ("space.json", str(image_folder))


def test_a_narrower_space_has_a_name_and_a_file_of_its_own(ofa, image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--data", image_folder, "--device", "edgetpu", "--latency"]
    run = ofa("space", "suggest", *options, 0.79, "--out", "mine.json", "--json")
    assert run.code == 0, run.err
    document = json.loads(run.out)
    space = get_space("mine.json")
    assert (document["space"], document["file"]) == (space.to_document(), "mine.json")
    assert document["smallest"]["latency_ms"] <= 0.79 <= document["largest"]["latency_ms"]
    assert "close to the latency of the smallest subnet" in run.err
    assert run.err.count("modelled, ±") == 1
    before = Path("mine.json").read_bytes()
    assert_refused(ofa("space", "suggest", *options, 0.9, "--out", "mine.json"), "mine.json exists", "--force", "--out")
    assert Path("mine.json").read_bytes() == before
    assert ofa("space", "suggest", *options, 0.9, "--out", "mine.json", "--force").code == 0
    assert get_space("mine.json").width_mult > 1


@pytest.mark.parametrize(
    ("budget", "said"), [(0.001, ["even the smallest", "raise --latency to"]), (99, ["only", "lower --latency to"])]
)
def test_a_budget_that_nothing_can_meet_is_answered_with_the_nearest(
    ofa, image_folder, tmp_path, monkeypatch, budget, said
):
    monkeypatch.chdir(tmp_path)
    options = ["space", "suggest", "--data", image_folder, "--device", "edgetpu", "--latency", budget]
    assert_refused(ofa(*options), "on both sides of", *said)
    details = json.loads(ofa(*options, "--json").out)["infeasible"]
    assert (details["budget_ms"], details["device"]) == (budget, "edgetpu")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InfeasibleError, match=said[-1]) as error:
        suggest_space(image_folder, budget, "edgetpu")
    assert error.value.details == details


def test_a_table_is_used_where_it_covers_the_space(ofa, image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["space", "suggest", "--data", image_folder, "--device", "pi4", "--latency", 0.8]
    assert_refused(ofa(*options), "no table of a device 'pi4'")
    add_table(Path("lut"), renamed(modelled_table(PHOTOS, 3), "pi4"))
    assert_refused(
        ofa(*options), "the space `tiny` for 3 classes", "covers `photos` for 3 classes", "`ofa-tf lut build"
    )
    add_table(Path("lut"), renamed(modelled_table(TINY, 3), "pi4"), replace=True)
    run = ofa(*options)
    assert run.code == 0, run.err
    assert "latency on pi4 (int8, modelled)" in run.out
    assert get_space("space.json") == TINY
    assert_refused(
        ofa(*options[:-1], 0.5, "--force"), "even the smallest subnet of the nearest, `tiny`, takes 0.775 ms"
    )


def test_what_cannot_be_is_refused_before_any_work(ofa, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["space", "suggest", "--data", "nowhere", "--latency"]
    assert_refused(ofa(*options, 5), "There is no data set 'nowhere'")
    assert_refused(ofa(*options, 0), "'--latency'", "positive number of milliseconds")
    assert_refused(ofa(*options, 5, "--out", "no/where.json"), "--out no/where.json must be a file in a folder")
    assert not list(tmp_path.iterdir())
