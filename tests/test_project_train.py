"""`ofa-tf train`: what can be chosen, what it shows of itself, what it estimates, and how it mends itself."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from commands import assert_refused, contents, forget

from ofa_tf.jsonio import SPACE_SCHEMA, read_json, write_json
from ofa_tf.training.step import TrainingStep

WIDTH = ["train", "--workdir", "work", "--stage", "width"]


@pytest.fixture
def untrained(workdir) -> Path:
    """A workdir whose last stage is yet to be trained."""
    forget(workdir, "width", "accuracy/*")
    (workdir / "accuracy").rmdir()
    shutil.rmtree(workdir / "logs" / "width")
    return workdir


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every scalar in the event files of a folder."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found


def stage_of(workdir: Path, name: str = "width") -> dict:
    return read_json(workdir / "ledger.json")["stages"][name]


def final_arrays(workdir: Path, stage: str = "width") -> dict[str, np.ndarray]:
    path = max((workdir / "checkpoints" / stage).glob("step-*.npz"))
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


# --- overrides --------------------------------------------------------------------------------------------------------


def test_overrides_are_used_and_recorded(ofa, untrained, monkeypatch):
    monkeypatch.setattr("ofa_tf.training.tensorboard.SECONDS_BETWEEN_SCALARS", 0)
    config = (untrained / "config.json").read_bytes()
    n_train = 15 * 16 / stage_epochs(untrained, "full")
    run = ofa(*WIDTH, "--epochs", 0.5, "--batch", 8, "--lr", 0.02, "--json")
    assert run.code == 0, run.err
    record = stage_of(untrained)
    assert record["overrides"] == {"epochs": 0.5, "batch": 8, "base_lr": 0.02}
    assert (record["state"], record["steps"]) == ("done", round(0.5 * n_train / 8))
    rates = [value for _, value in scalars(untrained / "logs" / "width")["learning_rate"]]
    assert max(rates) == pytest.approx(0.02 * 8 / 64)
    assert (untrained / "config.json").read_bytes() == config
    assert json.loads(run.out)["stages"]["width"] == record["metrics"]


def stage_epochs(workdir: Path, stage: str) -> float:
    phases = read_json(workdir / "config.json", SPACE_SCHEMA)["recipe"]["phases"]
    return sum(phase["epochs"] + phase["warmup_epochs"] for phase in phases if phase["stage"] == stage)


def test_a_stage_that_was_begun_keeps_what_it_was_begun_with(ofa, untrained):
    ledger = read_json(untrained / "ledger.json")
    ledger["stages"]["width"] = {"state": "running", "step": 0, "steps": 0, "metrics": {}, "overrides": {"batch": 8}}
    write_json(untrained / "ledger.json", ledger)
    before = contents(untrained)
    for options in (["--batch", 4], ["--batch", 8, "--lr", 0.1]):
        assert_refused(ofa(*WIDTH, *options), "Stage `width`", "was begun with --batch 8:", "--stage width --restart")
    assert contents(untrained) == before
    assert ofa(*WIDTH).code == 0
    assert stage_of(untrained)["overrides"] == {"batch": 8}


def test_the_same_command_goes_on_with_the_stages_that_its_overrides_began(ofa, untrained):
    """The earlier stages were done before with other values, and that is no reason to refuse."""
    ledger = read_json(untrained / "ledger.json")
    ledger["stages"]["width"] = {"state": "running", "step": 0, "steps": 0, "metrics": {}, "overrides": {"batch": 8}}
    write_json(untrained / "ledger.json", ledger)
    run = ofa("train", "--workdir", untrained, "--batch", 8)
    assert run.code == 0, run.err
    assert (stage_of(untrained)["state"], stage_of(untrained)["overrides"]) == ("done", {"batch": 8})
    assert stage_of(untrained, "depth")["overrides"] == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epochs", "0"], "'0' is not a positive number"),
        (["--epochs", "nan"], "'nan' is not a positive number"),
        (["--lr", "-1"], "'-1' is not a positive number"),
        (["--lr", "1e9"], "`base_lr`"),
        (["--batch", "0"], "'0' is not a whole number from 1"),
        (["--strategy", "all"], "'all' is not one of 'none', 'mirrored', 'multiworker', 'tpu'"),
        (["--strategy", "multiworker"], "needs the variable TF_CONFIG"),
    ],
)
def test_options_that_cannot_be_are_refused(ofa, untrained, monkeypatch, options, said):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    before = contents(untrained)
    assert_refused(ofa(*WIDTH, *options), said)
    assert contents(untrained) == before


def test_a_loss_that_is_not_a_number_names_arch_and_batch_and_can_be_mended(ofa, untrained, monkeypatch):
    full = final_arrays(untrained, "depth")
    with monkeypatch.context() as patch:
        patch.setattr("ofa_tf.training.recipe.Span.learning_rate", lambda *_: 1e30)
        run = ofa(*WIDTH, "--lr", 999, "--epochs", 3)
    assert_refused(
        run,
        "The loss of stage `width` is not a number at step",
        ", arch ",
        "numbered",
        "--stage width --restart --lr X",
    )
    assert stage_of(untrained)["state"] == "running"
    for name, array in final_arrays(untrained, "depth").items():
        np.testing.assert_array_equal(array, full[name])
    run = ofa(*WIDTH, "--restart", "--lr", 0.01)
    assert run.code == 0, run.err
    assert stage_of(untrained)["overrides"] == {"base_lr": 0.01}


# --- seeing it --------------------------------------------------------------------------------------------------------


def test_scalars_are_written_for_tensorboard(ofa, untrained, monkeypatch):
    monkeypatch.setattr("ofa_tf.training.tensorboard.SECONDS_BETWEEN_SCALARS", 0)
    config = read_json(untrained / "config.json", SPACE_SCHEMA)
    config["recipe"]["evaluations"] = 2
    write_json(untrained / "config.json", config)
    assert ofa(*WIDTH).code == 0
    found = scalars(untrained / "logs" / "width")
    steps = stage_of(untrained)["steps"]
    assert [step for step, _ in found["loss/all"]] == list(range(steps))
    assert all(np.isfinite(value) for series in found.values() for _, value in series)
    assert all(value > 0 for _, value in found["images_per_second"])
    kinds = Counter(name.split("/")[0] for name in found)
    assert kinds["loss_by_depth"] >= 1
    assert kinds["loss_by_width"] >= 1
    assert {name for name in found if name.startswith("loss_by_width/")} <= {
        f"loss_by_width/expand {width}" for width in (3, 4, 5, 6)
    }
    assert [step for step, _ in found["largest_accuracy"]] == [steps // 2, steps]
    metrics = stage_of(untrained)["metrics"]
    assert {name: found[name][-1][1] for name in metrics} == pytest.approx(metrics)
    assert len([name for name in metrics if name.startswith("random")]) == 4


def test_a_dry_run_estimates_and_leaves_nothing(ofa, tmp_path, monkeypatch, image_folder, small_space, recipe_file):
    monkeypatch.chdir(tmp_path)
    options = ["--data", image_folder, "--space", small_space, "--recipe", recipe_file, "--batch", 32]
    run = ofa("train", "--dry-run", "--workdir", "new", "--stage", "depth", *options, "--json")
    assert run.code == 0, run.err
    assert list(tmp_path.iterdir()) == []
    answer = json.loads(run.out)
    assert [(p["stage"], p["steps"], p["batch"]) for p in answer["phases"]] == [
        ("full", 15, 16), ("kernel", 3, 16), ("depth", 1, 32)
    ]  # fmt: skip
    assert all(phase["step_seconds"] > 0 for phase in answer["phases"])
    total = answer["first_step_seconds"] + sum(phase["seconds"] for phase in answer["phases"])
    assert answer["seconds"] == pytest.approx(total)
    assert answer["peak_mb"] > 100


def test_a_dry_run_in_a_trained_workdir_changes_nothing(ofa, workdir):
    before = contents(workdir)
    run = ofa("train", "--dry-run", "--workdir", workdir)
    assert run.code == 0, run.err
    assert "nothing was trained" in run.out
    assert contents(workdir) == before


# --- mending ----------------------------------------------------------------------------------------------------------


def test_a_stage_whose_last_checkpoint_is_damaged_is_finished_again(ofa, workdir):
    expected = final_arrays(workdir)
    (path,) = (workdir / "checkpoints" / "width").iterdir()
    path.write_bytes(path.read_bytes()[:-99])
    run = ofa(*WIDTH)
    assert run.code == 0, run.err
    assert f"{path} is damaged or lost" in run.err
    assert "stage `width` has no other checkpoint and starts again" in run.err
    again = final_arrays(workdir)
    assert again.keys() == expected.keys()
    for name, array in again.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_stages_without_any_checkpoint_start_again(ofa, workdir):
    expected = final_arrays(workdir)
    shutil.rmtree(workdir / "checkpoints")
    run = ofa(*WIDTH)
    assert run.code == 0, run.err
    for stage in ("full", "kernel", "depth", "width"):
        assert f"stage `{stage}` has no other checkpoint and starts again" in run.err
    again = final_arrays(workdir)
    for name, array in again.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_a_checkpoint_of_another_network_is_named_with_what_helps(ofa, untrained):
    (path,) = (untrained / "checkpoints" / "depth").iterdir()
    np.savez(path, **{"stem/conv/kernel": np.zeros(3, np.float32)})
    assert_refused(ofa(*WIDTH), f"{path} is of another network", "`ofa-tf train --stage depth --restart`")


# --- nothing is lost by a refusal -------------------------------------------------------------------------------------


def test_a_restart_that_is_refused_removes_nothing(ofa, workdir):
    before = contents(workdir)
    assert_refused(ofa("train", "--workdir", workdir, "--restart"), "--restart needs --stage")
    assert_refused(ofa(*WIDTH, "--restart", "--epochs", 1e9), "`epochs`")
    assert_refused(ofa(*WIDTH, "--restart", "--lr", 1e9), "`base_lr`")
    shutil.rmtree(workdir / "cache")
    config = read_json(workdir / "config.json", SPACE_SCHEMA)
    write_json(workdir / "config.json", {**config, "data": str(workdir / "gone")})
    assert_refused(ofa(*WIDTH, "--restart"), "There is no data set")
    write_json(workdir / "config.json", config)
    after = contents(workdir)
    assert {name for name in before if not name.startswith("cache")} <= after.keys()
    assert all(after[name] == before[name] for name in after if name != "config.json")


def test_overrides_that_are_refused_leave_no_trace(ofa, workdir):
    ledger = read_json(workdir / "ledger.json")
    for name in ("kernel", "depth", "width"):
        del ledger["stages"][name]
    ledger["stages"]["full"].update(state="running", step=0)
    write_json(workdir / "ledger.json", ledger)
    before = contents(workdir)
    run = ofa("train", "--workdir", workdir, "--epochs", 2)
    assert_refused(run, "Stage `full`", "was begun with the values of its recipe", "--stage full --restart")
    assert contents(workdir) == before


@pytest.mark.parametrize("options", [["--stage", "full"], ["--stage", "all"]])
def test_overrides_of_what_is_done_are_refused(ofa, workdir, options):
    before = contents(workdir)
    assert_refused(ofa("train", "--workdir", workdir, *options, "--epochs", 3), "is done", "--restart")
    assert contents(workdir) == before


def test_images_that_have_changed_since_a_stage_was_begun_are_refused(ofa, untrained):
    ledger = read_json(untrained / "ledger.json")
    images = ledger["stages"]["depth"]["images"]
    assert images > 50
    begun = {"state": "running", "step": 1, "steps": 2, "metrics": {}, "overrides": {}, "images": images + 1}
    ledger["stages"]["width"] = begun
    write_json(untrained / "ledger.json", ledger)
    run = ofa(*WIDTH)
    assert_refused(
        run, f"begun with {images + 1} training images", f"now there are {images}", "--stage width --restart"
    )
    del begun["images"]  # as ledgers were at first
    begun["steps"] = 7
    write_json(untrained / "ledger.json", ledger)
    assert_refused(ofa(*WIDTH), "was begun with 7 steps, and now there are", "--stage width --restart")
    assert ofa(*WIDTH, "--restart").code == 0


def test_ctrl_c_in_the_last_evaluation_loses_no_step(ofa, untrained, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ofa_tf.training.evaluation.SubnetEvaluator.accuracy", interrupt)
        assert ofa(*WIDTH).code == 130
    record = stage_of(untrained)
    assert (record["state"], record["step"], record["steps"]) == ("running", 2, 2)
    with monkeypatch.context() as patch:
        patch.setattr("ofa_tf.training.step.TrainingStep.run", lambda *_: pytest.fail("a step was done twice"))
        run = ofa(*WIDTH)
    assert run.code == 0, run.err
    assert stage_of(untrained)["state"] == "done"


def test_weights_that_are_not_finite_are_not_kept(ofa, untrained, monkeypatch):
    run_step = TrainingStep.run

    def diverge_at_the_end(step, *arguments):
        losses = run_step(step, *arguments)
        if int(step.iterations.numpy()) == 2:
            step.variables[0].assign(step.variables[0] * np.inf)
        return losses

    monkeypatch.setattr(TrainingStep, "run", diverge_at_the_end)
    assert_refused(
        ofa(*WIDTH), "weights of stage `width` are not finite after step 2", "--stage width --restart --lr X"
    )
    assert stage_of(untrained)["state"] == "running"
    assert not list((untrained / "checkpoints").glob("width/*"))


@pytest.mark.parametrize("place", ["logs", "logs/width"])
def test_scalars_that_cannot_be_written_do_not_stop_the_training(ofa, untrained, place):
    path = untrained / place
    if path.is_dir():
        shutil.rmtree(path)
    path.write_text("not a folder")
    run = ofa(*WIDTH)
    assert run.code == 0, run.err
    assert run.err.count("There are no more scalars for TensorBoard, but the training goes on") == 1


def test_a_dry_run_counts_what_is_left(ofa, untrained):
    ledger = read_json(untrained / "ledger.json")
    images = ledger["stages"]["depth"]["images"]
    begun = {"state": "running", "step": 1, "steps": 2, "metrics": {}, "overrides": {}, "images": images}
    ledger["stages"]["width"] = begun
    write_json(untrained / "ledger.json", ledger)
    run = ofa(*WIDTH, "--dry-run", "--json")
    assert [(phase["stage"], phase["steps"]) for phase in json.loads(run.out)["phases"]] == [("width", 1)]
    assert_refused(ofa(*WIDTH, "--dry-run", "--batch", 8), "was begun with the values of its recipe")
    run = ofa(*WIDTH, "--dry-run", "--restart", "--batch", 8, "--json")
    assert [phase["steps"] for phase in json.loads(run.out)["phases"]] == [4]
