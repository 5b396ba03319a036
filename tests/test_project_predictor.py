"""`ofa-tf predictor`: what it collects, what it says, and when a search refuses what it made."""

import dataclasses
import json

import numpy as np
import pytest
from commands import assert_refused

from ofa_tf.accuracy.collect import read_journal
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.export.verified import FileOptions
from ofa_tf.jsonio import read_json, write_json
from ofa_tf.project.export import ExportOptions, export
from ofa_tf.project.opened import open_existing
from ofa_tf.tflite.run import ModelFile

SEARCH = ["search", "--workdir", "work", "--latency", 1000]
FIT = ["predictor", "fit", "--workdir", "work", "--archs", 12]


def test_the_accuracy_of_int8_files_can_be_the_target(ofa, workdir):
    run = ofa(*FIT, "--target", "int8", "--int8-archs", 5)
    assert run.code == 0, run.err
    assert "12 subnets evaluated, 5 of them as int8 files too, which lose " in run.out
    project = open_existing(workdir)
    space = project.config.space
    pairs = read_journal(workdir / "accuracy" / "pairs.jsonl", space)
    int8 = read_journal(workdir / "accuracy" / "int8_pairs.jsonl", space)
    assert [arch for arch, _ in int8] == [arch for arch, _ in pairs[:5]]

    # The files are those that an export makes.
    arch, accuracy = int8[1]
    exported = export(project, arch, options=ExportOptions(FileOptions(gate=False), name="same"))
    tune = project.data.tune
    file = ModelFile((exported.folder / "model.tflite").read_bytes())
    assert accuracy == (file.logits(tune, project.config.preprocessing).argmax(1) == tune.labels).mean()

    fitted = FittedPredictor.load(workdir / "accuracy", space)
    assert fitted.target == "int8"
    losses = [before - after for (_, before), (_, after) in zip(pairs, int8, strict=False)]
    assert fitted.errors["int8_drop_points"] == pytest.approx(100 * np.mean(losses))
    facts = json.loads(ofa("predictor", "show", "--workdir", workdir, "--json").out)
    assert (facts["target"], facts["int8_pairs"], facts["pairs"]) == ("int8", 5, 12)

    # Whoever uses it says so.
    assert "Accuracy: by the fitted int8 predictor" in ofa(*SEARCH).out
    (choice,) = json.loads(ofa(*SEARCH, "--json").out)["choices"]
    assert choice["predictor_origin"] == "fitted int8"
    run = ofa("export", "--workdir", workdir, "--latency", 1000, "--name", "chosen")
    assert run.code == 0, run.err
    assert read_json(workdir / "exports" / "chosen" / "manifest.json")["predictor_origin"] == "fitted int8"

    # Back to the usual target: nothing is evaluated again.
    assert ofa(*FIT).code == 0
    assert FittedPredictor.load(workdir / "accuracy", space).target == "float"
    assert read_journal(workdir / "accuracy" / "int8_pairs.jsonl", space) == int8


def facts_of(workdir, **errors):
    """Writes other errors into the facts of the workdir's predictor."""
    path = workdir / "accuracy" / "predictor.json"
    facts = read_json(path)
    write_json(path, {**facts, "errors": {**facts["errors"], **errors}})


def test_a_predictor_no_better_than_the_mean_is_refused_with_what_mends_it(ofa, workdir):
    facts_of(workdir, rmse_points=3.2, mean_rmse_points=3.1, noise_points=0.5)
    for command in (SEARCH, ["export", "--workdir", "work", "--latency", 1000, "--name", "new"]):
        assert_refused(
            ofa(*command), "3.20 points", "the mean of all (3.10)", "more subnets than 12", "`ofa-tf predictor fit"
        )
    assert not (workdir / "exports" / "new").exists()
    assert "no better than the mean, so searches refuse it" in ofa("predictor", "show", "--workdir", workdir).out
    assert not json.loads(ofa("predictor", "show", "--workdir", workdir, "--json").out)["useful"]
    facts_of(workdir, rmse_points=3.0)
    assert ofa(*SEARCH).code == 0


def test_facts_of_before_there_was_a_target_are_read(ofa, workdir):
    path = workdir / "accuracy" / "predictor.json"
    errors = {"pairs": 12.0, "rmse_points": 3.2, "spearman": 0.5}
    write_json(path, {"errors": errors})
    run = ofa("predictor", "show", "--workdir", workdir)
    assert "error 3.20 points (RMSE), rank correlation 0.50" in run.out
    assert ofa(*SEARCH).code == 0
    write_json(path, {"errors": errors, "target": "fp16"})
    assert_refused(ofa(*SEARCH), "`target` (='fp16')", "['float', 'int8']")


def test_a_predictor_and_a_journal_of_another_space_are_refused(ofa, workdir):
    config = workdir / "config.json"
    document = read_json(config)
    twin = {**document["space"], "name": "twin"}
    write_json(config, {**document, "space": twin})
    assert_refused(ofa(*SEARCH), "another space: of `small`, not of `twin`", "`ofa-tf predictor fit`")
    assert_refused(ofa(*FIT), "pairs.jsonl, line 1, is of the space 'small', not of 'twin'")


@pytest.mark.parametrize("name", ["pairs.jsonl", "int8_pairs.jsonl"])
def test_an_accuracy_that_is_not_a_number_is_refused_by_line(ofa, workdir, name):
    journal = workdir / "accuracy" / "pairs.jsonl"
    lines = journal.read_text().splitlines()
    bad = [lines[0], json.dumps({**json.loads(lines[1]), "accuracy": float("nan")}), *lines[2:], ""]
    (workdir / "accuracy" / name).write_text("\n".join(bad))
    run = ofa(*FIT, "--target", "int8", "--int8-archs", 5)
    assert_refused(run, f"{name}, line 2", "`accuracy` (=nan)", "a number from 0 to 1")


def test_what_is_not_a_target_is_refused(ofa, workdir):
    assert_refused(ofa(*FIT, "--target", "int4"), "'--target'", "'int4'")
    assert_refused(ofa(*FIT, "--int8-archs", "4"), "'--int8-archs'", "from 5 to")


def test_a_predictor_with_a_label_of_its_own():
    fitted = FittedPredictor(None, {"rmse_points": 1.0})
    assert [fitted.label, dataclasses.replace(fitted, target="int8").label] == ["fitted", "fitted int8"]
    assert not fitted.says_nothing
