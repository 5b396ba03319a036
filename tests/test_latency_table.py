"""Latency tables: the sum of their entries, and files that hold nothing else."""

import copy
import dataclasses
import json
import re

import numpy as np
import pytest
from hostile import changed, mutations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ofa_tf.blocks import walk
from ofa_tf.errors import FormatError, OfaError, TableError
from ofa_tf.latency.table import Calibration, LatencyTable, distinct_blocks
from ofa_tf.spaces import TINY

VALIDATION = {"subnets": 24, "mape": 0.02, "within_10pct": 1.0, "spearman": -0.5}
DOCUMENT = {
    "schema": 1,
    "device": {"name": "host"},
    "runtime": {"name": "litert", "version": "2", "threads": 1, "delegate": "none"},
    "precision": "int8",
    "source": "measured",
    "statistic": "p10_ms",
    "calibration": {"scale": 0.9, "per_block_ms": 0.01, "constant_ms": 0.1, "subnets": 24},
    "validation": VALIDATION,
    "entries": {"pool in=4x4x8 out=1x1x8": {"median_ms": 0.2, "p10_ms": 0.1, "p90_ms": 0.3, "runs": 50}},
}


def make_table(resolutions=(28,), n_classes=10, **fields):
    rng = np.random.default_rng(0)
    keys = distinct_blocks(TINY, resolutions, n_classes)
    entries = {key: {"median_ms": rng.random(), "p10_ms": rng.random(), "runs": 30} for key in keys}
    return LatencyTable({"name": "host"}, DOCUMENT["runtime"], "int8", "measured", entries, **fields)


@pytest.fixture
def load(tmp_path):
    def load(document):
        path = tmp_path / "table.json"
        path.write_text(json.dumps(document))
        return LatencyTable.load(path)

    return load


# --- sums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", ["median_ms", "p10_ms"])
def test_the_latency_of_an_arch_is_the_sum_of_its_blocks(statistic):
    table = make_table(statistic=statistic)
    codes = TINY.sample(np.random.default_rng(1), 50)
    codes[:, 0] = TINY.resolutions.index(28)
    expected = [
        sum(table.entries[block.key][statistic] for block in walk(TINY, arch, 10)) for arch in TINY.decode(codes)
    ]
    np.testing.assert_allclose(table.costs(TINY, 10)(codes), expected, rtol=1e-13)


def test_a_calibration_scales_and_adds_per_block_and_once():
    codes = TINY.encode([TINY.smallest(28), TINY.largest(28)])
    plain = make_table().costs(TINY, 10)(codes)
    calibrated = make_table(calibration=Calibration(0.8, 0.05, 1.5, 24)).costs(TINY, 10)(codes)
    np.testing.assert_allclose(calibrated, 0.8 * plain + 0.05 * np.array([3, 6]) + 1.5, rtol=1e-13)


def test_resolutions_that_are_not_covered_cost_infinitely_much():
    table = make_table(resolutions=(24, 32))
    assert table.resolutions(TINY, 10) == [24, 32]
    codes = TINY.encode([TINY.largest(24), TINY.largest(28), TINY.largest(32)])
    assert np.isfinite(table.costs(TINY, 10)(codes)).tolist() == [True, False, True]


def test_one_missing_entry_uncovers_a_resolution_and_is_named():
    table = make_table(resolutions=(32,))
    assert table.missing(TINY, 32, 10) == []
    key = next(key for key in table.entries if key.startswith("mbconv"))
    entries = {name: entry for name, entry in table.entries.items() if name != key}
    broken = dataclasses.replace(table, entries=entries)
    assert broken.missing(TINY, 32, 10) == [key]
    assert broken.resolutions(TINY, 10) == []
    with pytest.raises(TableError, match=re.escape(f"The table of host (int8, measured) lacks the block `{key}`")):
        broken.costs(TINY, 10)
    with pytest.raises(TableError, match="lacks the block `linear"):
        table.costs(TINY, 11)


def test_a_table_serves_every_space_of_the_same_shapes():
    other = dataclasses.replace(TINY, name="other", resolutions=(28,), kernels=(3, 5), bn_epsilon=1e-3)
    codes = other.encode([other.largest()])
    arch = TINY.arch(28, [2] * 3, [5] * 6, [6] * 6)
    table = make_table()
    assert table.costs(other, 10)(codes) == table.costs(TINY, 10)(TINY.encode([arch]))


def test_distinct_blocks_are_all_that_any_arch_needs_and_no_more():
    blocks = distinct_blocks(TINY, [28], 10)
    archs = TINY.decode(TINY.sample(np.random.default_rng(2), 500))
    archs = [dataclasses.replace(arch, resolution=28) for arch in archs]
    needed = {block.key for arch in archs for block in walk(TINY, arch, 10)}
    assert needed == set(blocks)
    assert all(block.key == key for key, block in blocks.items())


def test_the_label_says_where_the_numbers_come_from():
    assert make_table().label == "host (int8, measured)"
    assert dataclasses.replace(make_table(), source="modelled").label == "host (int8, modelled)"


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calibration", [None, Calibration(0.9, 0.01, 0.2, 24)])
@pytest.mark.parametrize("validation", [None, VALIDATION])
def test_a_table_is_the_same_after_its_file(tmp_path, calibration, validation):
    table = make_table(calibration=calibration, validation=validation)
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == table
    document = json.loads((tmp_path / "table.json").read_text())
    assert document.keys() == DOCUMENT.keys()
    assert document["schema"] == 1


def test_the_optional_parts_may_be_absent_or_null(load):
    for key in ("statistic", "calibration", "validation"):
        document = {name: value for name, value in DOCUMENT.items() if name != key}
        if key == "statistic":
            assert load(document).statistic == "median_ms"
        else:
            assert load(document) == load({**DOCUMENT, key: None})


KEY = "pool in=4x4x8 out=1x1x8"


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("schema",), 2, "has schema 2: it was written by a newer ofa-tf"),
        (("schema",), KeyError, "has schema None"),
        (("extra",), 1, "unknown key 'extra'"),
        (("entries",), KeyError, "lacks the key 'entries'"),
        (("entries",), [], r"`entries` must be an object, not \[\]"),
        (("device",), "host", "`device` must be an object, not 'host'"),
        (("device", "name"), KeyError, "`device` must have a `name`"),
        (("device", "name"), 5, "`device` must have a `name`"),
        (("runtime",), None, "`runtime` must be an object, not None"),
        (
            ("device", "name"),
            "pi\x1b]0;x\x07",
            r"`device`: 'name' \(='pi\\x1b]0;x\\x07'\) must consist of printable",
        ),
        (("device", "os\n"), "x", r"`device`: 'os\\n' \(='x'\) must consist of printable characters"),
        (("device", "cores"), 3, r"`cores` \(=3\) must be a list of numbers of processor cores"),
        (("device", "cores"), [0, -1], r"`cores` \(=\[0, -1\]\) must be a list"),
        (("runtime", "threads"), KeyError, "`runtime`, lacks the key 'threads'"),
        (("runtime", "threads"), "2", r"`threads` \(='2'\) must be an integer above 0, or 'unknown'"),
        (("runtime", "threads"), True, r"`threads` \(=True\) must be an integer above 0"),
        (("runtime", "version"), 2, r"`runtime`: `version` \(=2\) must be a string"),
        (("runtime", "delegate"), "\x9b", r"`runtime`: 'delegate' .* must consist of printable characters"),
        (("runtime", "cores"), 4, "`runtime`, has the unknown key 'cores'"),
        (("precision",), "int4", r"`precision` \(='int4'\) must be one of \['int8', 'fp16', 'fp32'\]"),
        (("source",), ["measured"], r"`source` \(=\['measured'\]\) must be one of"),
        (("statistic",), "p90_ms", r"`statistic` \(='p90_ms'\) must be one of"),
        (("statistic",), "mean_ms", f"entry '{KEY}' lacks the key 'mean_ms'"),
        (("entries", KEY), 0.5, f"entry '{KEY}' must be a JSON object, not 0.5"),
        (("entries", KEY, "runs"), KeyError, f"entry '{KEY}' lacks the key 'runs'"),
        (("entries", KEY, "p10_ms"), KeyError, f"entry '{KEY}' lacks the key 'p10_ms'"),
        (("entries", KEY, "ms"), 1.0, f"entry '{KEY}' has the unknown key 'ms'"),
        (("entries", KEY, "p10_ms"), -0.1, rf"entry '{KEY}': `p10_ms` \(=-0.1\) must be a number from 0 to 1e\+12"),
        (("entries", KEY, "p10_ms"), float("nan"), "NaN is not a finite number"),
        (("entries", KEY, "p10_ms"), float("inf"), "Infinity is not a finite number"),
        (("entries", KEY, "p10_ms"), 10**13, r"`p10_ms` .* must be a number from 0 to 1e\+12"),
        (("entries", KEY, "p10_ms"), "0.1", r"`p10_ms` \(='0.1'\) must be a number from 0 to 1e\+12"),
        (("entries", KEY, "p10_ms"), None, r"`p10_ms` \(=None\) must be a number from 0 to 1e\+12"),
        (("entries", KEY, "runs"), True, r"`runs` \(=True\) must be a number from 0 to 1e\+12"),
        (("calibration",), 0, "`calibration`, must be a JSON object, not 0"),
        (("calibration", "scale"), KeyError, "`calibration`, lacks the key 'scale'"),
        (("calibration", "bias"), 1, "`calibration`, has the unknown key 'bias'"),
        (("calibration", "constant_ms"), -1, r"`calibration`: `constant_ms` \(=-1\) must be a number from 0 to 1e\+12"),
        (("validation",), 5, "`validation`, must be a JSON object, not 5"),
        (("validation", "mape"), KeyError, "`validation`, lacks the key 'mape'"),
        (("validation", "spearman"), 2, r"`spearman` \(=2\) must be a number from -1 to 1"),
        (("validation", "mape"), None, r"`mape` \(=None\) must be a number from 0 to 1e\+12"),
    ],
)
def test_a_broken_file_is_refused_by_name(load, path, value, match):
    with pytest.raises(FormatError, match=match) as error:
        load(changed(DOCUMENT, path, value))
    assert "table.json" in str(error.value)
    assert "The table" not in str(error.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_a_table_made_of_what_is_no_latency_is_refused(bad):
    table = make_table()
    entries = copy.deepcopy(table.entries)
    next(iter(entries.values()))["median_ms"] = bad
    with pytest.raises(FormatError, match="`median_ms`"):
        dataclasses.replace(table, entries=entries)
    with pytest.raises(FormatError, match="`calibration`: `scale`"):
        dataclasses.replace(table, calibration=Calibration(bad, 0, 0, 24))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_hostile_table_is_refused_or_works(load, tmp_path, data):
    try:
        table = load(data.draw(mutations(DOCUMENT)))
    except OfaError:
        return
    table.save(tmp_path / "again.json")
    assert LatencyTable.load(tmp_path / "again.json") == table
    assert "(" in table.label
    with pytest.raises(TableError, match="lacks the block"):
        table.costs(TINY, 10)
