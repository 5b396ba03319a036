"""A workdir, a table, an arch and an export of the version before open, and answer what they answered."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import assert_refused

from ofa_tf.jsonio import SPACE_SCHEMA, read_json
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project.workdir import Workdir

DATA = Path(__file__).parent / "data"
ANSWERS = json.loads((DATA / "version_0_1.json").read_text())
FILE = "exports/first/model.tflite"


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DATA / "version_0_1", "work")
    return Path("work")


@pytest.fixture
def measured_again(old) -> Path:
    """The old table, as if its global averages had been measured in the way that subnets compute them now."""
    (path,) = old.glob("lut/*.json")
    table = json.loads(path.read_text())
    table["entries"] = {key + " v=2" * key.startswith("pool "): entry for key, entry in table["entries"].items()}
    path.write_text(json.dumps(table))
    return path


def answer(run) -> dict:
    """What a command printed as JSON, without the path of a file."""
    assert run.code == 0, run.err
    return {key: value for key, value in json.loads(run.out).items() if key != "file"}


def close(found, expected) -> bool:
    """Whether two JSON values are equal but for the last digits of numbers, and for keys that are new."""
    if isinstance(expected, dict):
        return found.keys() >= expected.keys() and all(close(found[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found == (pytest.approx(expected, rel=1e-5) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("macs", ANSWERS["searches"])
def test_searches_answer_the_same(ofa, old, macs):
    assert close(answer(ofa("search", "-w", old, "--macs", macs, "--json")), ANSWERS["searches"][macs])


def test_predictor_table_and_file_are_what_they_were(ofa, old, measured_again):
    assert close(answer(ofa("predictor", "show", "-w", old, "--json")), ANSWERS["predictor"])
    assert close(answer(ofa("show", old / FILE, "--json")), ANSWERS["file"])
    found, expected = answer(ofa("lut", "show", measured_again, "-w", old, "--json")), ANSWERS["table"]
    del found["device"], expected["device"]  # another machine's `host` is called after its processor
    assert close(found, expected)


def test_a_table_of_global_averages_that_are_computed_no_more_is_refused(ofa, old):
    assert_refused(ofa("search", "-w", old, "--latency", 1), "lacks the block `pool in=4x4x160", "`ofa-tf lut build`")


def test_latencies_are_the_same(old, measured_again):
    space, table = Workdir(old).config().space, LatencyTable.load(measured_again)
    archs = [space.arch_from_document(document) for document in ANSWERS["archs"]]
    np.testing.assert_allclose(table.costs(space, 10)(space.encode(archs)), ANSWERS["latencies_ms"], rtol=1e-9)


def test_an_arch_file_is_read(old):
    arch = Workdir(old).config().space.arch_from_document(read_json(old / "arch.json", SPACE_SCHEMA))
    assert arch.to_document() in [
        choice["arch"] for found in ANSWERS["searches"].values() for choice in found["choices"]
    ]


def test_weights_answer_the_same(old):
    from ofa_tf.project.evaluator import make_evaluator
    from ofa_tf.project.opened import open_existing

    project = open_existing(old)
    space, evaluator = project.config.space, make_evaluator(project)
    archs = [space.arch_from_document(document) for document in ANSWERS["archs"]]
    evaluator.calibrate(archs[0])
    pixels = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    logits = np.asarray(evaluator.supernet(project.config.preprocessing(pixels), space.encode(archs[0])))
    expected = np.array(ANSWERS["logits"])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    n_images = len(project.data.tune)
    for arch, accuracy in zip(archs, ANSWERS["accuracies"], strict=False):
        assert evaluator.accuracy(arch, project.data.tune) == pytest.approx(accuracy, abs=1.01 / n_images)


def test_the_exported_file_is_evaluated_and_reported(ofa, old):
    found = answer(ofa("evaluate", old / FILE, "-w", old, "--json"))
    assert found["top1"] == pytest.approx(ANSWERS["evaluation"]["top1"], abs=2.01 / found["n_images"])
    assert found["sha256"] == ANSWERS["evaluation"]["sha256"]
    report = answer(ofa("report", "-w", old, "--json"))
    assert (report["stages"], report["subnets"], report["exports"]) == (4, 12, 1)


def test_it_is_exported_again(ofa, old):
    run = ofa("export", "-w", old, "--arch", old / "exports/first/arch.json", "--name", "again", "--no-gate", "--json")
    (export,) = answer(run)["exports"]
    assert export["n_macs"] == read_json(old / "exports/first/manifest.json")["n_macs"]
