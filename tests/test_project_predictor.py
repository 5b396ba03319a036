"""`ofa-tf predictor`: what it collects, what it says, and when a search refuses what it made."""

import dataclasses
import json

import numpy as np
import pytest
from commands import assert_refused

import ofa_tf as api
from ofa_tf.accuracy.collect import read_journal
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.export.verified import FileOptions
from ofa_tf.jsonio import SPACE_SCHEMA, read_json, write_json
from ofa_tf.progress import Progress
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
    assert "no better than the mean: searches refuse it" in ofa("predictor", "show", "--workdir", workdir).out
    assert not json.loads(ofa("predictor", "show", "--workdir", workdir, "--json").out)["useful"]
    facts_of(workdir, rmse_points=3.0)
    assert ofa(*SEARCH).code == 0


GOOD = {"rmse_points": 1.0, "mean_rmse_points": 3.1, "noise_points": 0.5, "spearman": 0.9}
CAUTIONS = [
    ({}, None),
    ({"spearman": 0.5}, None),
    ({"spearman": 0.49}, "correlation on those it has not seen is 0.49, and below 0.5 more than one pair in three"),
    ({"noise_points": 3.2}, None),
    ({"noise_points": 3.2, "spearman": 0.79}, "differ by 3.10 points, and one accuracy may be off by 3.20"),
    ({"rmse_points": 3.2}, "and is no better than the mean: searches refuse it"),
]


@pytest.mark.parametrize(("errors", "said"), CAUTIONS, ids=lambda value: str(value)[:40])
def test_a_predictor_that_cannot_rank_says_so_in_one_sentence(errors, said):
    caution = FittedPredictor(None, {**GOOD, **errors}).caution
    if said is None:
        assert caution is None
        return
    assert caution.startswith("The predictor cannot rank subnets")
    assert said in caution
    assert caution.count(". ") == 0
    assert caution.endswith(".")


def test_of_a_predictor_nothing_is_known_of_nothing_is_said():
    assert FittedPredictor(None, {}).caution is None
    assert FittedPredictor(None, {"rmse_points": 0.2, "pairs": 16000.0}, "imported").caution is None


def test_it_is_said_wherever_it_matters(ofa, workdir):
    """And nowhere else: the whole sentence, once, and the same."""
    said = "The predictor cannot rank subnets: its rank correlation"
    commands = {
        "show": ["predictor", "show", "--workdir", workdir],
        "search": SEARCH,
        "front": ["search", "--workdir", workdir, "--pareto", "--points", 3],
        "export": ["export", "--workdir", workdir, "--latency", 1000, "--latency", 999, "--no-gate", "--force"],
    }
    facts_of(workdir, **{**GOOD, "spearman": 0.2})
    for name, command in commands.items():
        assert ofa(*command).out.count(said) == 1, name
        run = ofa(*command, "--json")
        assert run.err.count(said) == 1, name
        assert json.loads(run.out)
    assert ofa("report", "-w", workdir).code == 0
    assert (workdir / "report.html").read_text().count(f'<p class="missing">{said}') == 2  # front and accuracy

    notes = []

    class Noting(Progress):
        def note(self, text):
            notes.append(text)

    project = api.open(workdir, progress=Noting())
    calls = (
        project.predictor.show,
        lambda: project.search(latency_ms=1000),
        lambda: project.pareto(points=3),
        lambda: project.export(latency_ms=1000, name="last", gate=False),
    )
    for call in calls:
        notes.clear()
        call()
        (note,) = (note for note in notes if said in note)
        assert "`project.predictor.fit(archs=N)`" in note

    facts_of(workdir, **GOOD)
    for name, command in commands.items():
        run = ofa(*command)
        assert "cannot rank" not in run.out + run.err, name
    assert ofa("report", "-w", workdir).code == 0
    assert "cannot rank" not in (workdir / "report.html").read_text()


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
    document = read_json(config, SPACE_SCHEMA)
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
