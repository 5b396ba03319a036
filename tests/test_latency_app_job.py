"""A job for a phone that no cable connects, from the workdir to the table that comes back."""

import json
from pathlib import Path

import pytest
from commands import assert_refused
from stand_in_app import PutIn, bare_workdir, run_app

from ofa_tf.errors import WorkdirError
from ofa_tf.latency.table import LatencyTable, distinct_blocks
from ofa_tf.progress import SILENT
from ofa_tf.project.command_groups import TableCommands
from ofa_tf.project.opened import open_existing
from ofa_tf.project.workdir import Workdir
from ofa_tf.spaces import TINY


@pytest.fixture
def put_in(monkeypatch) -> PutIn:
    """The converter of every workdir."""
    converter = PutIn(distinct_blocks(TINY, TINY.resolutions, 10))
    monkeypatch.setattr("ofa_tf.project.lut._converter", lambda *_: converter)
    return converter


@pytest.fixture
def project(tmp_path) -> Workdir:
    return bare_workdir(tmp_path / "work")


def test_a_table_comes_by_mail(ofa, java, put_in, project, tmp_path):
    folder, answers = tmp_path / "for the phone", tmp_path / "answers"
    made = ofa("lut", "job", "--workdir", project.path, "--out", folder, "--threads", 2)
    assert made.code == 0, made.err
    n_files = len(list(folder.glob("*.tflite")))
    assert f"{folder}: {len(put_in.blocks)} blocks in {n_files} files, " in made.out
    assert n_files < len(put_in.blocks), "a block at another resolution is the same file"
    run_app(java, folder, answers)
    imported = ofa("lut", "import", answers / "results.json", "--workdir", project.path)
    assert imported.code == 0, imported.err
    (path,) = project.tables.glob("*.json")
    table = LatencyTable.load(path)
    assert table.label == "acme-one (int8, measured)"
    assert table.runtime == {"name": "litert_app", "version": "2.16.1", "threads": 2, "delegate": "xnnpack"}
    assert table.resolutions(TINY, 10) == list(TINY.resolutions)
    for key, entry in table.entries.items():
        assert entry["p10_ms"] == pytest.approx(put_in.expected_ms(key), rel=1e-12)
        assert entry["runs"] == 150


def test_a_job_of_one_resolution(ofa, put_in, project, tmp_path):
    resolution = TINY.resolutions[0]
    commands = TableCommands(open_existing(project.path, SILENT))
    made = commands.job(tmp_path / "job", precision="fp16", resolutions=[resolution], delegate="none")
    document = json.loads((made.path / "job.json").read_text())
    assert [file["key"] for file in document["files"]] == list(distinct_blocks(TINY, [resolution], 10))
    assert (document["precision"], document["threads"], document["delegates"]) == ("fp16", [1], ["none"])
    assert made.size_bytes == sum(path.stat().st_size for path in made.path.glob("*.tflite"))
    with pytest.raises(WorkdirError, match="job exists: name a new folder with `out`"):
        commands.job(tmp_path / "job")


def test_what_is_no_job(ofa, put_in, project, tmp_path):
    command = ["lut", "job", "--workdir", project.path, "--out"]
    assert_refused(ofa(*command, tmp_path), "exists: name a new folder with --out.")
    assert_refused(ofa(*command, tmp_path / "job", "--resolution", 7), "(=7) must be one of the space's")
    assert not Path(tmp_path / "job").exists()


def test_a_job_is_there_whole_or_not_at_all(ofa, put_in, project, tmp_path, monkeypatch):
    command = ["lut", "job", "--workdir", project.path, "--out"]
    (tmp_path / "file").write_text("")
    calls = []
    convert = put_in.convert
    monkeypatch.setattr(put_in, "convert", lambda *given: calls.append(given) or convert(*given), raising=False)
    assert_refused(ofa(*command, tmp_path / "file" / "job"), "file")
    assert calls == [], "nothing was converted for a place that cannot be"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert_refused(ofa(*command, tmp_path / "link"), "exists: name a new folder")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ofa_tf.latency.app_job.job_document", full)
    assert_refused(ofa(*command, tmp_path / "job"), "The disk is full", "nothing was left half-written")
    assert not [path for path in tmp_path.iterdir() if "job" in path.name]
