"""Results that the app shared: the tables in them, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from stand_in_app import bare_workdir, content, run_app

from ofa_tf.errors import FormatError, TableError, WorkdirError
from ofa_tf.latency.app_results import results_of_app, tables_of
from ofa_tf.latency.table import LatencyTable, distinct_blocks
from ofa_tf.progress import Progress
from ofa_tf.project.table_files import import_any
from ofa_tf.spaces import TINY


@pytest.fixture
def mailed(java, tmp_path) -> Path:
    """What the app shares after it measured the blocks of `tiny`, each for as long as its number says."""
    blocks = distinct_blocks(TINY, TINY.resolutions, 10)
    job, answers = tmp_path / "job", tmp_path / "answers"
    job.mkdir()
    files = []
    for number, key in enumerate(blocks):
        (job / f"{number}.tflite").write_bytes(content(100 + number))
        files.append({"file": f"{number}.tflite", "in_size": None, "key": key})
    settings = {"threads": [1, 2], "delegates": ["xnnpack"], "warmup": 0, "runs": 2, "rounds": 1, "seed": 0}
    (job / "job.json").write_text(json.dumps({"schema": 1, "precision": "int8", **settings, "files": files}))
    run_app(java, job, answers)
    return answers / "results.json"


def test_mailed_results_are_tables(mailed):
    """Their predictions are the sums of what was put in, as those of a table that was written here."""
    results = results_of_app(mailed)
    blocks = list(distinct_blocks(TINY, TINY.resolutions, 10))
    tables = tables_of(results, "results.json")
    assert [table.runtime["threads"] for table in tables] == [1, 2]
    for table in tables:
        assert table.label == "acme-one (int8, measured)"
        assert {key: entry["p10_ms"] for key, entry in table.entries.items()} == {
            key: (100 + number) / 1000 for number, key in enumerate(blocks)
        }
        codes = TINY.sample(np.random.default_rng(0), 20)
        entries = {key: {"p10_ms": (100 + number) / 1000, "runs": 2} for number, key in enumerate(blocks)}
        here = LatencyTable(table.device, table.runtime, "int8", "measured", entries, "p10_ms")
        np.testing.assert_array_equal(table.costs(TINY, 10)(codes), here.costs(TINY, 10)(codes))


def test_mailed_results_are_imported(mailed, tmp_path):
    project = bare_workdir(tmp_path / "work")
    first = import_any(mailed, project.path)
    names = sorted(path.name for path in project.tables.iterdir())
    assert names == [f"acme-one__litert-app-2.16.1-{threads}t-xnnpack__int8.json" for threads in (1, 2)]
    assert first.table == LatencyTable.load(first.path)
    with pytest.raises(WorkdirError, match="exists: replace it with --force"):
        import_any(mailed, project.path)
    assert import_any(mailed, project.path, force=True, name="pixel").table.device["name"] == "pixel"


def test_blocks_that_the_app_could_not_measure_are_told(mailed, tmp_path):
    results = results_of_app(mailed)
    (tmp_path / "gaps.json").write_text(
        json.dumps({**results, "errors": [{"file": "3.tflite", "error": "no\x1bmemory"}]})
    )
    said = []
    progress = Progress()
    progress.note = said.append
    import_any(tmp_path / "gaps.json", bare_workdir(tmp_path / "work").path, progress=progress)
    assert said[0].endswith("gaps.json: the app could not measure 1 of the files; the first, because: no\\x1bmemory")


def test_results_that_were_edited_by_hand(mailed):
    def refused(said: str, error=FormatError, **changes) -> None:
        with pytest.raises(error, match=said):
            tables_of({**results_of_app(mailed), **changes}, "results.json")

    table = results_of_app(mailed)["tables"][0]
    refused(r"results\.json is from version 1 of the benchmark app, and this ofa-tf reads version 2", app_version=1)
    refused("is from version", schema=2)
    refused("has the unknown key 'more'", more=1)
    refused("`tables`, `benchmarks` and `errors` must be lists", tables={})
    refused("`tables`, `benchmarks` and `errors` must be lists", errors={})
    refused("holds no table, only the latencies of", TableError, tables=[])
    refused("table 1 must be a JSON object of schema 1", tables=[3])
    refused("table 1 must be a JSON object of schema 1", tables=[{**table, "schema": 9}])
    refused("table 2 has the unknown key 'x'", tables=[table, {**table, "x": 1}])
    refused("results.json, table 1, entry 'a'", tables=[{**table, "entries": {"a": {"p10_ms": -1, "runs": 1}}}])
    refused("must consist of printable characters", tables=[{**table, "device": {"name": "\u001b[2J"}}])


def test_other_files_are_no_results(tmp_path):
    for text in ("", "{", "[]", '{"schema": 1}', '{"kind": 3}'):
        path = tmp_path / "file.json"
        path.write_text(text)
        assert results_of_app(path) is None
    assert results_of_app(tmp_path / "none.json") is None
