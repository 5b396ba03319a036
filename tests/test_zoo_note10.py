"""The published Note10 tables and accuracy predictor, against what the published project predicts with them."""

import dataclasses
import json

import numpy as np
import pytest
import yaml

from ofa_tf.errors import FormatError
from ofa_tf.spaces import MOBILENET_V3
from ofa_tf.zoo.note10 import merge_note10, read_note10
from ofa_tf.zoo.published_predictor import read_published_predictor

SPACE = dataclasses.replace(MOBILENET_V3, width_mult=1.2)
RESOLUTIONS = (160, 192, 224)
ENTRY = {"mean": 1.5, "std": 0.1, "count": 7}
STEM = "Conv-input:160x160x3-output:80x80x24"


@pytest.fixture(scope="module")
def references(fixtures_dir):
    return json.loads((fixtures_dir / "note10" / "reference_predictions.json").read_text())


@pytest.fixture(scope="module")
def tables(fixtures_dir):
    return {r: read_note10(fixtures_dir / "note10" / f"{r}_lookup_table.yaml") for r in RESOLUTIONS}


def _codes(references):
    return SPACE.encode([SPACE.arch(row["r"], row["d"], row["ks"], row["e"]) for row in references])


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_latencies_are_those_of_the_reference(tables, references, padding):
    space = dataclasses.replace(SPACE, padding=padding)
    costs = {resolution: table.costs(space, 1000) for resolution, table in tables.items()}
    for row, code in zip(references, _codes(references), strict=True):
        assert costs[row["r"]](code[None])[0] == pytest.approx(row["note10_ms"], rel=1e-9)


def test_merged_table_covers_all_resolutions_and_stays_close(tables, references):
    merged = merge_note10(list(tables.values()))
    assert merged.resolutions(SPACE, 1000) == list(RESOLUTIONS)
    assert merged.source == "imported"
    latencies = merged.costs(SPACE, 1000)(_codes(references))
    assert latencies == pytest.approx([row["note10_ms"] for row in references], rel=2e-3)


def test_merging_weighs_by_runs(tables):
    first, last = tables[160], tables[224]
    key = next(key for key in first.entries if key.startswith("linear") and "act=none" in key)
    a, b = first.entries[key], last.entries[key]
    assert a != b
    merged = merge_note10([first, last]).entries[key]
    assert merged["runs"] == a["runs"] + b["runs"]
    mean = (a["mean_ms"] * a["runs"] + b["mean_ms"] * b["runs"]) / merged["runs"]
    assert merged["mean_ms"] == pytest.approx(mean)


@pytest.mark.parametrize("suffix", ["npz", "pth"])
def test_predictor_answers_as_the_reference(fixtures_dir, references, suffix):
    predictor = read_published_predictor(fixtures_dir / "note10" / f"ofa_accuracy_predictor.{suffix}", SPACE)
    assert predictor(_codes(references)) == pytest.approx([row["predicted_acc"] for row in references], abs=1e-6)


def test_predictor_of_a_space_of_another_shape_is_refused(fixtures_dir):
    from ofa_tf.spaces import TINY

    with pytest.raises(FormatError, match="its input has"):
        read_published_predictor(fixtures_dir / "note10" / "ofa_accuracy_predictor.npz", TINY)


def test_one_entry_is_read_for_both_paddings(tmp_path):
    path = tmp_path / "160_lookup_table.yaml"
    path.write_text(yaml.safe_dump({STEM: ENTRY}))
    table = read_note10(path)
    assert len(table.entries) == 2
    assert all(entry == {"mean_ms": 1.5, "std_ms": 0.1, "runs": 7} for entry in table.entries.values())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "mapping from blocks"),
        ([1, 2], "mapping from blocks"),
        ({"Conv-input:1x1x1-output:1x1x1": ENTRY}, "no subnet"),
        ({STEM: {**ENTRY, "mean": -1.0}}, "the mean -1.0"),
        ({STEM: {**ENTRY, "mean": float("nan")}}, "the mean nan"),
        ({STEM: {**ENTRY, "mean": "1"}}, "the mean '1'"),
        ({STEM: {**ENTRY, "count": 0}}, "the count 0"),
        ({STEM: {**ENTRY, "more": 1}}, "`mean`, `std` and `count`"),
        ({STEM: {"mean": 1.0}}, "`mean`, `std` and `count`"),
        ({STEM: 3}, "`mean`, `std` and `count`"),
    ],
)
def test_broken_tables_are_refused(tmp_path, content, says):
    path = tmp_path / "160_lookup_table.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(FormatError, match=says):
        read_note10(path)


@pytest.mark.parametrize(
    "text", ["{", "!!python/object/apply:os.getcwd []", "a: " * 5000, "\0", "[" * 20000, "x" * (1 << 20) + "y"]
)
def test_hostile_files_are_refused(tmp_path, text):
    path = tmp_path / "160_lookup_table.yaml"
    path.write_text(text)
    with pytest.raises(FormatError):
        read_note10(path)


def test_aliases_do_not_unfold(tmp_path):
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    path = tmp_path / "160_lookup_table.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(FormatError, match="has aliases"):
        read_note10(path)
    path.write_text("block: &b {mean: [1, 2], std: *b, count: 3}")  # within itself, as the message would be
    with pytest.raises(FormatError, match="has aliases"):
        read_note10(path)


def test_arrays_that_are_not_a_predictor_are_refused(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, weights=np.zeros((2, 2)))
    with pytest.raises(FormatError, match="not the published predictor"):
        read_published_predictor(path, SPACE)
    path.write_bytes(b"PK\3\4")
    with pytest.raises(FormatError, match="npz is damaged"):
        read_published_predictor(path, SPACE)


@pytest.mark.parametrize("name", ["\N{SUPERSCRIPT TWO}.weight", "9" * 5000 + ".weight"])
def test_layers_without_a_number_of_their_own_are_refused(tmp_path, name):
    path = tmp_path / "some.npz"
    np.savez(path, **{"0.weight": np.zeros((2, 2)), name: np.zeros((2, 2))})
    with pytest.raises(FormatError, match="not the published predictor"):
        read_published_predictor(path, SPACE)


@pytest.mark.parametrize("bad", [np.nan, "x"])
def test_a_predictor_of_what_is_no_number_is_refused(tmp_path, bad):
    path, n_inputs = tmp_path / "some.npz", SPACE.n_blocks * 6 + 8
    layers = {"0.weight": np.zeros((4, n_inputs)), "0.bias": np.zeros(4), "2.weight": np.zeros((1, 4))}
    np.savez(path, **layers, **{"2.bias": np.array([bad])})
    with pytest.raises(FormatError, match="layer 2 must hold finite floating-point numbers"):
        read_published_predictor(path, SPACE)
