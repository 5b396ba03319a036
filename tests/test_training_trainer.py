"""Progressive shrinking: the numbers of a step, the schedules, and what happens when a run is cut off."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import small_project
import tensorflow as tf
from small_project import CONFIG, N_TRAIN, RECIPE, Hook, make_data

from ofa_tf.errors import TrainingError, WorkdirError
from ofa_tf.layers import sorting
from ofa_tf.project.workdir import Workdir
from ofa_tf.spaces import TINY
from ofa_tf.supernet import Supernet
from ofa_tf.training import checkpoint
from ofa_tf.training.recipe import STAGES, span_of, spans
from ofa_tf.training.sampling import plan_step, probe_archs, trained_widths
from ofa_tf.training.trainer import Trainer, load_stage
from ofa_tf.training.weights import weights_of

N_STEPS = {"full": 3, "kernel": 2, "depth": 6, "width": 3}


@dataclass
class Run:
    """A training through all stages, and its trainer, whose compiled functions other tests use."""

    trainer: Trainer
    workdir: Workdir
    records: dict

    def fork(self, path, stage):
        """A copy of the workdir in which `stage` and those after it are to be trained, and the trainer working there.

        All that the trainer holds in memory is poisoned: the run must come from the workdir.
        """
        shutil.copytree(self.workdir.path, path)
        workdir = Workdir(path)
        dropped = STAGES[STAGES.index(stage) :]
        workdir.ledger().forget(dropped)
        for name in dropped:
            shutil.rmtree(workdir.checkpoints(name))
        trainer = self.trainer
        trainer.workdir, trainer.ledger, trainer.progress = workdir, workdir.ledger(), Hook()
        step = trainer.step
        for variable in (*trainer.supernet.variables, *step.gradients, *step.momentums):
            variable.assign(np.full(variable.shape, np.nan, np.float32))
        return workdir


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("training") / "workdir")
    workdir.create(CONFIG)
    trainer = Trainer(workdir, CONFIG, make_data())
    return Run(trainer, workdir, {stage: trainer.train(stage) for stage in STAGES})


def final_state(workdir, stage):
    """Everything in the last checkpoint of a stage."""
    with np.load(checkpoint.checkpoint_path(workdir.checkpoints(stage), N_STEPS[stage])) as file:
        return {name: file[name] for name in file.files}


def assert_same_end(workdir, other, stage):
    """The same weights and momenta, to the last bit."""
    state, expected = final_state(workdir, stage), final_state(other, stage)
    assert state.keys() == expected.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


# --- all stages -------------------------------------------------------------------------------------------------------


def test_each_function_is_traced_once_over_all_stages(run):
    plans = [
        plan_step(TINY, span_of(spans(RECIPE, stage, N_TRAIN), step), (0, index), step)
        for index, stage in enumerate(STAGES)
        for step in range(N_STEPS[stage])
    ]
    assert {plan.resolution for plan in plans} == set(TINY.resolutions)
    assert len({tuple(code) for plan in plans for code in plan.codes}) > 10
    assert run.trainer.traces == {"teacher": 1, "accumulate": 1, "apply": 1}
    for function in (run.trainer.step.teach, run.trainer.step.accumulate, run.trainer.step.apply):
        assert function.experimental_get_tracing_count() == 1
    assert run.trainer.evaluator.traces == {"calibrate": 1, "predict": 1}


def test_every_stage_is_recorded_and_goes_on_from_the_one_before(run):
    ledger = run.workdir.ledger()
    for stage in STAGES:
        record = run.records[stage]
        assert (record.state, record.step, record.steps) == ("done", N_STEPS[stage], N_STEPS[stage])
        probes = [name for name in probe_archs(TINY, CONFIG.seed) if stage != "full" or name.startswith("largest")]
        assert set(record.metrics) == {f"{name}_accuracy" for name in probes}
        assert all(0 <= value <= 1 for value in record.metrics.values())
        assert ledger.stages[stage] == record
    states = [final_state(run.workdir, stage) for stage in STAGES]
    names = set(weights_of(run.trainer.supernet))
    assert len(names) == len(run.trainer.supernet.variables)
    assert all(names < set(state) for state in states)
    # Before the width stages channels move, so a weight is only comparable up to there.
    stem = [state["stem/conv/kernel"] for state in states]
    for before, after in pairwise(stem):
        assert 0 < np.abs(after - before).max() < 0.5
    identity = np.eye(25, dtype=np.float32)
    moved = [not np.array_equal(state["stage1_block1/depthwise/transform_7_to_5"], identity) for state in states]
    assert moved == [False, True, True, True]


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, sort_channels=False)], ids=["sorting", "not sorting"])
def test_channels_are_sorted_when_the_width_stage_begins(run, monkeypatch, recipe):
    sorted_at = []
    trainer = run.trainer
    monkeypatch.setattr(trainer.supernet, "sort_channels", lambda **what: sorted_at.append((stage, *what.values())))
    monkeypatch.setattr(trainer.step, "run", lambda *_: np.zeros(1))
    for stage in STAGES:
        layout = spans(recipe, stage, N_TRAIN)
        for step in range(N_STEPS[stage]):
            trainer._train_step(stage, recipe, span_of(layout, step), step, None, None, None)
    trained = trained_widths(trainer.config.space, spans(recipe, "width", N_TRAIN), spans(recipe, "width", N_TRAIN)[1])
    assert len(trained) == 3
    first, second = ("width", True, True, [], "weights"), ("width", True, True, trained, "weights")
    assert sorted_at == ([first, second] if recipe.sort_channels else [])


def test_the_middle_of_a_coupled_space_is_sorted_when_depth_opens_it(run, monkeypatch):
    sorted_at = []
    trainer = run.trainer
    stages = tuple(replace(stage, depths=(1, 2), kernels=(3,), expands=(3, 6)) for stage in TINY.stages)
    space, recipe = replace(TINY, stages=stages, coupled=True), replace(RECIPE, importance="contribution")
    monkeypatch.setattr(trainer, "config", replace(trainer.config, space=space))
    monkeypatch.setattr(trainer.supernet, "sort_channels", lambda **what: sorted_at.append((stage, *what.values())))
    monkeypatch.setattr(trainer.step, "run", lambda *_: np.zeros(1))
    for stage in STAGES:
        trainer._train_step(stage, recipe, spans(recipe, stage, N_TRAIN)[0], 0, None, None, None)
    assert sorted_at == [("depth", True, False, [], "contribution"), ("width", False, True, [], "contribution")]


def test_a_recipe_without_evaluations_measures_nothing(run, tmp_path, monkeypatch):
    run.fork(tmp_path / "workdir", "width")
    monkeypatch.setattr(run.trainer, "config", replace(CONFIG, recipe=replace(RECIPE, evaluations=0)))
    record = run.trainer.train("width")
    assert (record.state, record.metrics) == ("done", {})


def test_the_teacher_is_the_frozen_largest_network_of_the_first_stage(run):
    full = Supernet(TINY, len(CONFIG.classes), seed=9)
    load_stage(run.workdir, "full", full)
    x = np.random.default_rng(0).normal(size=(8, 28, 28, 3)).astype(np.float32)
    step = run.trainer.step
    before = step.teacher.get_weights()
    expected = tf.nn.softmax(full(x, training=True)).numpy()
    for _ in range(2):
        step.teach(x, 0, 8)
        np.testing.assert_allclose(step.soft_targets, expected, rtol=0, atol=1e-5)
    assert np.abs(tf.nn.softmax(full(x)) - expected).max() > 0.05
    for new, old in zip(step.teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_stage_needs_the_one_before(tmp_path, run):
    workdir = run.fork(tmp_path / "fork", "kernel")
    with pytest.raises(WorkdirError, match=r"Stage `depth` of .* is not done: run `ofa-tf train --stage depth`"):
        run.trainer.train("width")
    with pytest.raises(WorkdirError, match="Stage `kernel`"):
        load_stage(workdir, "kernel", run.trainer.supernet)


# --- cut off ----------------------------------------------------------------------------------------------------------


def test_a_killed_run_ends_as_one_that_was_not(run, tmp_path, monkeypatch):
    workdir = run.fork(tmp_path / "fork", "depth")
    program = [sys.executable, small_project.__file__, str(workdir), "depth", "4"]
    child = subprocess.run(program, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-2000:]
    assert checkpoint.steps(workdir.checkpoints("depth")) == [2, 3]
    assert workdir.ledger().stages["depth"].state == "running"
    steps = []
    monkeypatch.setattr(run.trainer, "progress", Hook(steps.append))
    run.trainer.train("depth")
    assert steps == [4, 5, 6]
    assert_same_end(workdir, run.workdir, "depth")


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [2, 4])
def test_an_interrupt_leaves_a_checkpoint_to_go_on_from(run, tmp_path, stop):
    workdir = run.fork(tmp_path / "fork", "depth")
    run.trainer.progress = Hook(lambda step: interrupt() if step == stop else None)
    with pytest.raises(KeyboardInterrupt):
        run.trainer.train("depth")
    # Step 2 begins a phase: the checkpoint before it, or the stage before, does as well.
    assert checkpoint.steps(workdir.checkpoints("depth")) == ([] if stop == 2 else [stop])
    assert workdir.ledger().stages["depth"].state == "running"
    run.trainer.progress = Hook()
    run.trainer.train("depth")
    assert_same_end(workdir, run.workdir, "depth")


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_within_a_step_does_not_count_it_wrongly(run, tmp_path, monkeypatch, when):
    workdir = run.fork(tmp_path / "fork", "depth")
    step, calls = run.trainer.step, []
    accumulate, apply = step.accumulate, step.apply

    def cut_accumulate(*arguments):
        calls.append(arguments)
        if len(calls) == 8 and when == "before":  # the second subnet of the fourth step
            raise KeyboardInterrupt
        return accumulate(*arguments)

    def cut_apply(*arguments):
        losses = apply(*arguments)
        if len(calls) == 8 and when == "after":
            raise KeyboardInterrupt
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(step, "accumulate", cut_accumulate)
        patch.setattr(step, "apply", cut_apply)
        with pytest.raises(KeyboardInterrupt):
            run.trainer.train("depth")
    assert checkpoint.steps(workdir.checkpoints("depth")) == [4 if when == "after" else 3]
    run.trainer.train("depth")
    assert_same_end(workdir, run.workdir, "depth")


def test_an_interrupt_while_channels_are_sorted_does_no_harm(run, tmp_path, monkeypatch):
    workdir = run.fork(tmp_path / "fork", "width")
    with monkeypatch.context() as patch:
        reorder, moved = sorting.reorder, []

        def cut_reorder(weight, order, axis):
            moved.append(weight)
            return interrupt() if len(moved) == 20 else reorder(weight, order, axis)

        patch.setattr(sorting, "reorder", cut_reorder)
        with pytest.raises(KeyboardInterrupt):
            run.trainer.train("width")
    run.trainer.train("width")
    assert_same_end(workdir, run.workdir, "width")


def test_a_loss_that_is_not_a_number_stops_the_stage_and_keeps_the_checkpoint(run, tmp_path, monkeypatch):
    workdir = run.fork(tmp_path / "fork", "depth")
    bias = run.trainer.supernet.block_layers["classifier"].bias
    run.trainer.progress = Hook(lambda step: bias.assign(bias * np.nan) if step == 4 else None)
    monkeypatch.setattr("ofa_tf.training.trainer.SECONDS_BETWEEN_CHECKPOINTS", -1)
    saves = []

    def save_up_to_3(stage, step, n_steps):
        if step <= 3:
            saves.append(step)
            Trainer._save(run.trainer, stage, step, n_steps)

    plan = plan_step(TINY, spans(RECIPE, "depth", N_TRAIN)[1], (0, STAGES.index("depth")), 4)
    with monkeypatch.context() as patch:
        patch.setattr(run.trainer, "_save", save_up_to_3)
        with pytest.raises(TrainingError) as error:
            run.trainer.train("depth")
    for word in ("stage `depth`", "step 4", str(TINY.decode_one(plan.codes[0])), "checkpoint is kept"):
        assert word in str(error.value)
    assert saves == [1, 2, 3]
    assert checkpoint.steps(workdir.checkpoints("depth")) == [2, 3]
    assert run.trainer.step.iterations.numpy() == 4
    run.trainer.progress = Hook()
    run.trainer.train("depth")
    assert_same_end(workdir, run.workdir, "depth")


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(run, tmp_path, monkeypatch):
    workdir = run.fork(tmp_path / "fork", "depth")
    monkeypatch.setattr("ofa_tf.training.trainer.SECONDS_BETWEEN_CHECKPOINTS", -1)
    run.trainer.progress = Hook(lambda step: interrupt() if step == 5 else None)
    with pytest.raises(KeyboardInterrupt):
        run.trainer.train("depth")
    folder = workdir.checkpoints("depth")
    assert checkpoint.steps(folder) == [4, 5]
    newest = checkpoint.checkpoint_path(folder, 5)
    newest.write_bytes(newest.read_bytes()[:-1000])
    steps = []
    run.trainer.progress = Hook(steps.append)
    run.trainer.train("depth")
    assert steps == [5, 6]
    (note,) = run.trainer.progress.notes
    assert note.startswith(f"Skipped a checkpoint: {newest} is damaged")
    assert_same_end(workdir, run.workdir, "depth")
