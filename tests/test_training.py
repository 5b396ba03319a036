"""Progressive shrinking: the numbers of a step, the schedules, and what happens when a run is cut off."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import pairwise

import keras
import numpy as np
import pytest
import small_project
import tensorflow as tf
from layer_checker import randomize
from small_project import BATCH, CONFIG, N_TRAIN, RECIPE, Hook, make_data

from ofa_tf.blocks import walk
from ofa_tf.errors import FormatError, TrainingError, WorkdirError
from ofa_tf.spaces import MOBILENET_V3, TINY
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.training import checkpoint
from ofa_tf.training.losses import distillation_loss
from ofa_tf.training.recipe import RECIPES, STAGES, Phase, Recipe, spans
from ofa_tf.training.trainer import Trainer, load_stage, plan_step, span_of, weights_of
from ofa_tf.workdir import Workdir

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
        for variable in (*trainer.supernet.variables, *step.gradients, *step.optimizer.momentums):
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
        assert set(record.metrics) == {"smallest_accuracy", "largest_accuracy"}
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


def test_channels_are_sorted_when_the_width_stage_begins(run, monkeypatch):
    sorted_at = []
    trainer = run.trainer
    monkeypatch.setattr(trainer.supernet, "sort_channels", lambda: sorted_at.append(stage))
    monkeypatch.setattr(trainer.step, "run", lambda *_: np.zeros(1))
    for stage in STAGES:
        layout = spans(RECIPE, stage, N_TRAIN)
        for step in range(N_STEPS[stage]):
            trainer._train_step(stage, span_of(layout, step), (0, 0), step, None, np.zeros(BATCH))
    assert sorted_at == ["width", "width"]


def test_the_teacher_is_the_frozen_largest_network_of_the_first_stage(run):
    full = Supernet(TINY, len(CONFIG.classes), seed=9)
    load_stage(run.workdir, "full", full)
    x = np.random.default_rng(0).normal(size=(8, 28, 28, 3)).astype(np.float32)
    before = run.trainer.step.teacher_model.get_weights()
    expected = full(x, training=True).numpy()
    for _ in range(2):
        np.testing.assert_allclose(run.trainer.step.teach(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.abs(full(x) - expected).max() > 0.1 * np.abs(expected).max()
    for new, old in zip(run.trainer.step.teacher_model.get_weights(), before, strict=True):
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
        apply(*arguments)
        if len(calls) == 8 and when == "after":
            raise KeyboardInterrupt

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
        patch.setattr(run.trainer.supernet.elastic_blocks[3], "sort_channels", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.trainer.train("width")
    run.trainer.train("width")
    assert_same_end(workdir, run.workdir, "width")


def test_a_loss_that_is_not_a_number_stops_the_stage_and_keeps_the_checkpoint(run, tmp_path, monkeypatch):
    workdir = run.fork(tmp_path / "fork", "depth")
    bias = run.trainer.supernet.classifier.bias
    run.trainer.progress = Hook(lambda step: bias.assign(bias * np.nan) if step == 4 else None)
    monkeypatch.setattr("ofa_tf.training.trainer.SECONDS_BETWEEN_CHECKPOINTS", -1)
    saves = []

    def save_up_to_3(stage, step, n_steps):
        if step <= 3:
            saves.append(step)
            Trainer._save(run.trainer, stage, step, n_steps)

    monkeypatch.setattr(run.trainer, "_save", save_up_to_3)
    plan = plan_step(TINY, spans(RECIPE, "depth", N_TRAIN)[1], (0, STAGES.index("depth")), 4)
    with pytest.raises(TrainingError) as error:
        run.trainer.train("depth")
    for word in ("stage `depth`", "step 4", str(TINY.decode_one(plan.codes[0])), "checkpoint is kept"):
        assert word in str(error.value)
    assert saves == [1, 2, 3]
    assert checkpoint.steps(workdir.checkpoints("depth")) == [2, 3]
    assert run.trainer.step.optimizer.iterations.numpy() == 4
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


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_checkpoints_that_are_damaged_or_of_another_network_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    variables = {name: keras.Variable(rng.normal(size=shape), dtype="float32") for name, shape in [("a", 3), ("b", 4)]}
    good = checkpoint.save(tmp_path, 7, variables).read_bytes()
    expected = {name: variable.numpy() for name, variable in variables.items()}
    bad = tmp_path / "bad.npz"

    def refused(message):
        before = [variable.assign(variable * 0 + 5).numpy() for variable in variables.values()]
        with pytest.raises(FormatError, match=message):
            checkpoint.load(bad, variables)
        for old, variable in zip(before, variables.values(), strict=True):
            np.testing.assert_array_equal(variable.numpy(), old)

    for content in (b"", b"PK", b"text", good[:-1], good[: len(good) // 2], good.replace(b"float", b"float")[5:]):
        bad.write_bytes(content)
        refused("is damaged")
    n_refused = 0
    for position in rng.permutation(len(good))[:200]:
        content = bytearray(good)
        content[position] ^= 1 << rng.integers(8)
        bad.write_bytes(content)
        try:
            checkpoint.load(bad, variables)
        except FormatError:
            n_refused += 1
        else:
            for name, variable in variables.items():
                np.testing.assert_array_equal(variable.numpy(), expected[name])
    assert n_refused > 50
    for arrays, message in (
        ({"a": expected["a"]}, "of another network: it lacks b"),
        ({"a": expected["a"], "b": np.zeros(5, np.float32)}, r"b is float32\[5\], not float32\[4\]"),
        ({"a": expected["a"], "b": np.zeros(4)}, "b is float64"),
        ({"a": expected["a"], "b": np.full(4, "x")}, "b is <U1"),
    ):
        np.savez(bad, **arrays)
        refused(message)
    with pytest.raises(FormatError, match="is damaged"):
        checkpoint.load(tmp_path / "absent.npz", variables)


def test_the_newest_two_checkpoints_stay(tmp_path):
    variables = {"a": keras.Variable([1.0])}
    for step in (3, 20, 100):
        variables["a"].assign([float(step)])
        checkpoint.save(tmp_path, step, variables)
    assert checkpoint.steps(tmp_path) == [20, 100]
    assert checkpoint.load_newest(tmp_path, variables) == 100
    assert checkpoint.load_newest(tmp_path / "none", variables) == 0
    assert variables["a"].numpy().tolist() == [100.0]


# --- one step ---------------------------------------------------------------------------------------------------------


def numpy_loss(logits, labels, teacher_logits, kd_ratio, smoothing):
    """Hard cross-entropy plus `kd_ratio` times the soft one, image by image."""
    losses = []
    for row, label, teacher in zip(*(np.float64(a) for a in (logits, labels, teacher_logits)), strict=True):
        logs = row - np.log(np.exp(row - row.max()).sum()) - row.max()
        hard = [(1 - smoothing) * (c == label) + smoothing / len(row) for c in range(len(row))]
        soft = np.exp(teacher) / np.exp(teacher).sum()
        losses.append(-np.dot(hard, logs) - kd_ratio * np.dot(soft, logs))
    return np.mean(losses)


@pytest.mark.parametrize(("kd_ratio", "smoothing"), [(0.0, 0.0), (0.0, 0.1), (1.0, 0.1), (2.5, 0.3)])
def test_the_loss_is_the_hard_and_the_soft_cross_entropy(kd_ratio, smoothing):
    rng = np.random.default_rng(1)
    logits, teacher = rng.normal(0, 4, (2, 9, 5)).astype(np.float32)
    labels = rng.integers(5, size=9).astype(np.int32)
    loss = distillation_loss(tf.constant(logits), labels, tf.constant(teacher), tf.constant(kd_ratio), smoothing)
    assert loss.numpy() == pytest.approx(numpy_loss(logits, labels, teacher, kd_ratio, smoothing), rel=1e-5)


def test_no_gradient_goes_through_the_teacher():
    logits, teacher = (tf.constant(np.random.default_rng(seed).normal(size=(4, 3)), tf.float32) for seed in (0, 1))
    with tf.GradientTape() as tape:
        tape.watch([logits, teacher])
        loss = distillation_loss(logits, np.zeros(4, np.int32), teacher, tf.constant(1.0), 0.1)
    gradients = tape.gradient(loss, [logits, teacher])
    assert gradients[0] is not None
    assert gradients[1] is None


def plain_gradients(model, space, arch, loss_of):
    """Gradient of a plain subnet's loss, by the name of the supernet's weight, each with its place in it."""
    model.trainable = True
    weights = [weight for layer in model.layers for weight in layer.trainable_weights]
    with tf.GradientTape() as tape:
        loss = loss_of(model)
    gradients = iter(tape.gradient(loss, [weight.value for weight in weights]))
    found = {}
    for layer in model.layers:
        block = max((b.name for b in walk(space, arch, 3) if layer.name.startswith(b.name)), key=len, default="")
        inner = layer.name.removeprefix(block).removeprefix("_")
        for weight in layer.trainable_weights:
            name = weight.name
            if inner == "depthwise":
                name = "depthwise_kernel"
            found["/".join(part for part in (block, inner, name) if part)] = next(gradients).numpy()
    return found, loss


def test_accumulated_gradients_are_the_sum_of_the_plain_subnets(run):
    step, supernet = run.trainer.step, run.trainer.supernet
    randomize(supernet, seed=3)
    step.reset_optimizer()
    archs = [
        TINY.arch(28, [2, 1, 2], [7, 7, 7, 0, 7, 7], [4, 3, 6, 0, 3, 4]),
        TINY.arch(28, [2, 2, 1], [7, 3, 7, 7, 5, 0], [3, 4, 4, 6, 3, 0]),
    ]
    rng = np.random.default_rng(2)
    x, labels = rng.normal(size=(12, 28, 28, 3)).astype(np.float32), rng.integers(3, size=12).astype(np.int32)
    teacher = rng.normal(size=(12, 3)).astype(np.float32)
    expected = {variable.path: np.zeros(variable.shape) for variable in step.variables}
    for arch in archs:
        loss = step.accumulate(x, labels, teacher, 1.0, TINY.encode(arch))
        parts, plain_loss = plain_gradients(
            extract(supernet, arch),
            TINY,
            arch,
            lambda model: distillation_loss(model(x, training=True), labels, teacher, tf.constant(1.0), 0.1),
        )
        assert loss.numpy() == pytest.approx(plain_loss.numpy(), rel=1e-5)
        for name, gradient in parts.items():
            if gradient.shape[:2] in ((3, 3), (5, 5)) and "stage" in name:
                continue  # a transformed kernel; the layer's own tests follow the gradient further
            expected[name][tuple(slice(n) for n in gradient.shape)] += gradient
    compared, floor = 0, 1e-6 * max(np.abs(gradient).max() for gradient in expected.values())
    for variable, total in zip(step.variables, step.gradients, strict=True):
        if variable.path in ("stage1_block2/depthwise/depthwise_kernel", "stage3_block1/depthwise/depthwise_kernel"):
            continue  # of these the second arch has a smaller kernel
        if "transform" in variable.path:
            continue
        scale = np.abs(expected[variable.path]).max()
        compared += scale > floor  # an offset that a later batch norm takes away has no gradient
        np.testing.assert_allclose(
            total, expected[variable.path], rtol=0, atol=1e-4 * scale + floor, err_msg=variable.path
        )
    assert compared > 50


def test_one_step_applies_the_sum_once_and_clears_it(run):
    step, supernet = run.trainer.step, run.trainer.supernet
    randomize(supernet, seed=4)
    step.reset_optimizer()
    rng = np.random.default_rng(2)
    x, labels = rng.normal(size=(8, 24, 24, 3)).astype(np.float32), rng.integers(3, size=8).astype(np.int32)
    codes = TINY.sample(rng, 2)
    before = step.optimizer.iterations.numpy()
    losses = step.run(tf.constant(x), tf.constant(labels), codes, 0.1, distil=True)
    teacher = step.teach(x).numpy()
    assert losses.shape == (2,)
    assert step.optimizer.iterations.numpy() == before + 1
    assert not any(total.numpy().any() for total in step.gradients)
    randomize(supernet, seed=4)
    answers = [supernet(x, code, training=True) for code in codes]
    for loss, logits in zip(losses, answers, strict=True):
        assert loss == pytest.approx(numpy_loss(logits, labels, teacher, 1.0, 0.1), rel=1e-4)
    (alone,) = step.run(tf.constant(x), tf.constant(labels), codes[:1], 0.1, distil=False)
    assert alone == pytest.approx(numpy_loss(answers[0], labels, teacher, 0.0, 0.1), rel=1e-4)


def test_the_optimizer_is_nesterov_with_decay_on_kernels_alone(run):
    step = run.trainer.step
    randomize(run.trainer.supernet, seed=5)
    step.reset_optimizer()
    rng = np.random.default_rng(6)
    weights = [variable.numpy().astype(np.float64) for variable in step.variables]
    speeds = [np.zeros(weight.shape) for weight in weights]
    names = [variable.path.rsplit("/", 1)[-1] for variable in step.variables]
    kernels = {"kernel", "depthwise_kernel"}
    assert set(names) - kernels == {"gamma", "beta", "bias", "transform_7_to_5", "transform_5_to_3"}
    for learning_rate in (0.1, 0.2, 0.05):
        gradients = [rng.normal(0, 0.1, weight.shape) for weight in weights]
        for total, gradient in zip(step.gradients, gradients, strict=True):
            total.assign(gradient)
        step.apply(learning_rate)
        for name, weight, speed, gradient in zip(names, weights, speeds, gradients, strict=True):
            whole = gradient + RECIPE.weight_decay * weight if name in kernels else gradient
            speed *= RECIPE.momentum
            speed -= learning_rate * whole
            weight += RECIPE.momentum * speed - learning_rate * whole
    for variable, weight in zip(step.variables, weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), weight, rtol=1e-4, atol=1e-6, err_msg=variable.path)


# --- plans ------------------------------------------------------------------------------------------------------------


OPEN = {"full": (), "kernel": ("kernels",), "depth": ("kernels", "depths"), "width": ("kernels", "depths", "expands")}


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3], ids=lambda space: space.name)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_opens_its_own_dimension_and_those_before(space, stage):
    (span,) = spans(replace(RECIPE, phases=tuple(Phase(s, 100, 0, 0.1, 2) for s in STAGES)), stage, BATCH)
    plans = [plan_step(space, span, (0, 1), step) for step in range(100)]
    archs = [arch for plan in plans for arch in space.decode(plan.codes)]
    largest = space.largest()
    for name in ("kernels", "depths", "expands"):
        found = {value for arch in archs for value in getattr(arch, name) if value}
        choices = {s for stage in space.stages for s in stage.depths} if name == "depths" else set(getattr(space, name))
        assert found == (choices if name in OPEN[stage] else set(getattr(largest, name)))
    assert {plan.resolution for plan in plans} == set(space.resolutions)
    for plan in plans:
        assert plan.codes.shape == (2, space.n_genes)
        assert {arch.resolution for arch in space.decode(plan.codes)} == {plan.resolution}


@pytest.mark.parametrize(
    ("stage", "name", "expected"),
    [("kernel", "kernels", {5, 7}), ("depth", "depths", {3, 4}), ("width", "expands", {4, 6})],
)
def test_a_phase_can_open_a_part_of_its_dimension(stage, name, expected):
    phases = tuple(Phase(s, 100, 0, 0.1, 2, choices=2) for s in STAGES)
    (span,) = spans(replace(RECIPE, phases=phases), stage, BATCH)
    codes = np.concatenate([plan_step(MOBILENET_V3, span, (0, 1), step).codes for step in range(50)])
    assert {value for arch in MOBILENET_V3.decode(codes) for value in getattr(arch, name) if value} == expected


def test_a_plan_is_a_function_of_seed_stage_and_step():
    (span,) = spans(RECIPE, "kernel", N_TRAIN)
    plans = [plan_step(TINY, span, seed, step) for seed in ((0, 1), (0, 2), (1, 1)) for step in range(5)]
    again = plan_step(TINY, span, (0, 1), 3)
    assert np.array_equal(again.codes, plans[3].codes)
    assert len({tuple(plan.codes[0]) for plan in plans}) == len(plans)


def test_phases_are_laid_out_in_steps():
    layout = spans(RECIPE, "depth", N_TRAIN)
    assert [(span.start, span.warmup, span.stop) for span in layout] == [(0, 0, 2), (2, 1, 6)]
    assert [span_of(layout, step).phase.choices for step in range(6)] == [1, 1, 0, 0, 0, 0]
    assert {stage: spans(RECIPE, stage, N_TRAIN)[-1].stop for stage in STAGES} == N_STEPS
    assert [span.stop for span in spans(RECIPE, "width", 1)] == [1, 2]


def test_the_learning_rate_warms_up_and_falls_as_a_cosine():
    phases = tuple(Phase(stage, 8, 2, 0.1) for stage in STAGES)
    (span,) = spans(replace(RECIPE, phases=phases, batch=16), "kernel", 5 * 16)
    assert (span.start, span.warmup, span.stop) == (0, 10, 50)
    rates = [span.learning_rate(step, 16) for step in range(50)]
    assert rates[:10] == pytest.approx([0.025 * (step + 1) / 10 for step in range(10)])
    assert rates[10:] == pytest.approx([0.0125 * (1 + math.cos(math.pi * step / 40)) for step in range(40)])
    assert [span.learning_rate(step, 64) for step in range(50)] == pytest.approx([4 * rate for rate in rates])
    later = replace(span, start=7, stop=57)
    assert [later.learning_rate(step, 16) for step in range(7, 57)] == pytest.approx(rates)


# --- recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [*RECIPES.values(), RECIPE], ids=lambda recipe: recipe.name)
def test_a_recipe_is_the_same_after_its_document(recipe):
    assert Recipe.from_document(json.loads(json.dumps(recipe.to_document()))) == recipe


def test_the_published_recipe():
    recipe = RECIPES["imagenet"]
    assert [(p.stage, p.epochs, p.warmup_epochs, p.base_lr, p.subnets, p.choices) for p in recipe.phases] == [
        ("full", 180, 0, 0.08, 1, 0),
        ("kernel", 120, 5, 0.03, 1, 0),
        ("depth", 25, 0, 0.0025, 2, 2),
        ("depth", 120, 5, 0.0075, 2, 0),
        ("width", 25, 0, 0.0025, 4, 2),
        ("width", 120, 5, 0.0075, 4, 0),
    ]
    assert (recipe.momentum, recipe.weight_decay, recipe.label_smoothing, recipe.kd_ratio) == (0.9, 3e-5, 0.1, 1.0)
    assert [phase.distils for phase in recipe.phases] == [False] + [True] * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "`batch`"),
        ({"batch": True}, "`batch`"),
        ({"momentum": 1}, "`momentum`"),
        ({"weight_decay": -1}, "`weight_decay`"),
        ({"kd_ratio": float("nan")}, "`kd_ratio`"),
        ({"phases": RECIPE.phases[1:]}, "`phases`"),
        ({"phases": RECIPE.phases[::-1]}, "`phases`"),
    ],
)
def test_a_recipe_that_breaks_a_rule_is_refused(change, message):
    with pytest.raises(FormatError, match=message):
        replace(RECIPE, **change)


@pytest.mark.parametrize(
    "change",
    [{"stage": "all"}, {"epochs": -1}, {"epochs": "3"}, {"base_lr": float("inf")}, {"subnets": 0}, {"choices": -1}],
)
def test_a_phase_that_breaks_a_rule_is_refused(change):
    with pytest.raises(FormatError, match=f"`{next(iter(change))}`"):
        replace(RECIPE.phases[0], **change)
