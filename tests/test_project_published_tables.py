"""Tables in the format of the published ones, of any device: recognised by their content, named by the user."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from commands import assert_refused, contents
from published_tables import RESOLUTIONS, published_table, wide_workdir

from ofa_tf.jsonio import read_json
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project.workdir import Workdir


@pytest.fixture
def wide(tmp_path, monkeypatch) -> Path:
    """A workdir `wide` of the network of such tables, and a folder `jetson` with two of them, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("jetson").mkdir()
    for resolution in RESOLUTIONS:
        Path("jetson", f"{resolution}_lookup_table.json").write_text(json.dumps(published_table(resolution)))
    return wide_workdir(Path("wide"))


def tables(workdir: Path) -> list[LatencyTable]:
    return [LatencyTable.load(path) for path in sorted(workdir.glob("lut/*.json"))]


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml", "txt", ""])
@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump])
def test_a_table_is_recognised_by_its_content(wide, ofa, suffix, write):
    Path(f"theirs.{suffix}").write_text(write(published_table(160)))
    run = ofa("lut", "import", f"theirs.{suffix}", "--as", "jetson", "-w", wide, "--json")
    assert run.code == 0, run.err
    (table,) = tables(wide)
    assert table.device == {"name": "jetson"}, "nothing is invented"
    assert set(table.runtime.values()) == {"unknown"}
    assert table.source == "imported"
    config = Workdir(wide).config()
    assert table.resolutions(config.space, config.n_classes) == [160]


def test_small_numbers_are_numbers(wide, ofa):
    """`json` writes 1e-05, which is a string in YAML 1.1."""
    document = published_table(160)
    document[next(iter(document))]["std"] = 1e-05
    Path("theirs.json").write_text(json.dumps(document))
    assert ofa("lut", "import", "theirs.json", "--as", "jetson", "-w", wide).code == 0


@pytest.mark.parametrize("source", ["jetson", "jetson/160_lookup_table.json"])
def test_an_unnamed_device_must_be_named(wide, ofa, source):
    before = contents(wide)
    run = ofa("lut", "import", source, "-w", wide)
    assert_refused(run, f"{source} does not say which device", "as in `ofa-tf lut import SOURCE --as pi4`.")
    assert contents(wide) == before


def test_files_of_one_device_are_given_as_a_folder(wide, ofa):
    for name in ("notes.json", "._160_lookup_table.json", "readme.md"):
        Path("jetson", name).write_text("{}")
    Path("jetson", "unusual.yaml").write_text(yaml.safe_dump(published_table(224)))
    first, second = "jetson/160_lookup_table.json", "jetson/192_lookup_table.json"
    assert ofa("lut", "import", first, "--as", "jetson", "-w", wide).code == 0
    run = ofa("lut", "import", second, "--as", "jetson", "-w", wide)
    assert_refused(run, "replace it with --force, or give the tables of all resolutions together, as a folder.")
    assert ofa("lut", "import", "jetson", "--as", "jetson", "-w", wide, "--force").code == 0
    (table,) = tables(wide)
    config = Workdir(wide).config()
    assert table.resolutions(config.space, config.n_classes) == [160, 192, 224]
    assert_refused(ofa("lut", "import", "jetson", "--as", "jetson", "-w", wide), "exists: replace it with --force.")


def test_a_damaged_table_of_a_folder_is_named(wide, ofa):
    Path("jetson/176_lookup_table.json").write_text("{")
    assert_refused(ofa("lut", "import", "jetson", "--as", "jetson", "-w", wide), "176_lookup_table.json")
    shutil.rmtree("jetson")
    Path("jetson").mkdir()
    assert_refused(
        ofa("lut", "import", "jetson", "--as", "jetson", "-w", wide),
        "jetson has no files named like 160_lookup_table.yaml",
    )


def test_zoo_import_note10_attributes_tables_to_the_note10(wide, ofa):
    assert ofa("zoo", "import", "note10", "jetson", "-w", wide).code == 0
    (table,) = tables(wide)
    assert table.device["model"] == "Samsung Galaxy Note10"


def test_a_table_of_ours_is_read_whatever_it_is_called(wide, ofa):
    ofa("lut", "import", "jetson", "--as", "jetson", "-w", wide)
    (path,) = wide.glob("lut/*.json")
    for name in ("mine.json", "mine.txt"):
        shutil.copy(path, name)
        run = ofa("lut", "import", name, "--as", Path(name).suffix[1:], "-w", wide)
        assert run.code == 0, run.err
    assert {table.device["name"] for table in tables(wide)} == {"jetson", "json", "txt"}
    assert read_json(path)["entries"] == {key: dict(entry) for key, entry in tables(wide)[0].entries.items()}


def test_other_objects_are_not_tables(wide, ofa):
    Path("other.json").write_text(json.dumps({"Conv": {"mean": 1.0, "std": 0.1, "count": 3}}))
    assert_refused(ofa("lut", "import", "other.json", "--as", "jetson", "-w", wide), "has schema None")
