"""The ledger and the config of a workdir."""

import contextlib
import dataclasses
import json

import pytest
from hostile import mutations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_project import CONFIG

from ofa_tf.errors import FormatError, OfaError, WorkdirError
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.training.ledger import Ledger, StageRecord
from ofa_tf.training.recipe import STAGES

DONE = StageRecord("done", 5, 5, {"largest_accuracy": 0.5})


def test_what_is_recorded_is_read_again(tmp_path):
    ledger = Ledger(tmp_path / "ledger.json")
    assert not (tmp_path / "ledger.json").exists()
    ledger.record("kernel", StageRecord("running", 3, 9))
    ledger.record("full", DONE)
    again = Ledger(tmp_path / "ledger.json")
    assert again.stages == {"full": DONE, "kernel": StageRecord("running", 3, 9)}
    assert [again.done(stage) for stage in STAGES] == [True, False, False, False]
    assert list(json.loads((tmp_path / "ledger.json").read_text())["stages"]) == ["full", "kernel"]
    ledger.forget(("kernel",))
    assert Ledger(ledger.path).stages == ledger.stages == {"full": DONE}


@pytest.mark.parametrize(
    "record",
    [
        {"state": "begun"},
        {"step": -1},
        {"step": True},
        {"steps": 2.5},
        {"metrics": [1]},
        {"extra": 1},
        {"steps": KeyError},
    ],
)
def test_a_broken_record_is_refused(tmp_path, record):
    ledger = Ledger(tmp_path / "ledger.json")
    ledger.record("full", DONE)
    document = json.loads(ledger.path.read_text())
    document["stages"]["full"].update(record)
    document["stages"]["full"] = {k: v for k, v in document["stages"]["full"].items() if v is not KeyError}
    ledger.path.write_text(json.dumps(document))
    with pytest.raises(FormatError):
        Ledger(ledger.path)


def test_an_unknown_stage_or_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "ledger.json"
    path.write_text('{"schema": 1, "stages": {"warm": {"state": "done", "step": 1, "steps": 1}}}')
    with pytest.raises(FormatError, match="unknown key 'warm'"):
        Ledger(path)
    path.write_text('{"schema": 2, "stages": {}}')
    with pytest.raises(FormatError, match="newer ofa-tf"):
        Ledger(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_ledgers_and_configs_end_in_our_errors(tmp_path, data):
    ledger = {"schema": 1, "stages": {"full": dataclasses.asdict(DONE), "kernel": dataclasses.asdict(DONE)}}
    config = {"schema": 1, **CONFIG.to_document()}
    for document, read in ((ledger, Ledger), (config, Config.load)):
        path = tmp_path / "hostile.json"
        path.write_text(json.dumps(data.draw(mutations(json.loads(json.dumps(document))))))
        with contextlib.suppress(OfaError):
            read(path)


def test_a_config_is_the_same_after_its_file(tmp_path):
    workdir = Workdir(tmp_path / "new" / "workdir")
    assert not workdir.exists
    with pytest.raises(WorkdirError, match="is not a workdir yet"):
        workdir.config()
    workdir.create(CONFIG)
    assert workdir.exists
    assert workdir.config() == CONFIG


def test_a_file_is_no_workdir_and_a_workdir_has_one_user(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkdirError, match="is not a folder"):
        Workdir(tmp_path / "file")
    workdir = Workdir(tmp_path / "workdir")
    with (
        workdir.lock(),
        pytest.raises(WorkdirError, match="Another ofa-tf is at work"),
        Workdir(workdir.path).lock(),
    ):
        pass
    with workdir.lock():
        pass
