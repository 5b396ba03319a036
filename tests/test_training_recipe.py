"""Recipes, the schedules that follow from them, and what is drawn for a step."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich_spaces import COUPLED, MIXED, RICH, RICH_SPACES
from small_project import BATCH, N_TRAIN, RECIPE

from ofa_tf.costs import arch_costs
from ofa_tf.errors import FormatError
from ofa_tf.project.opened import open_project
from ofa_tf.spaces import MOBILENET_V3, SPACES, TINY
from ofa_tf.training.recipe import DRAWS, OPENED, RECIPES, STAGES, Phase, Recipe, span_of, spans
from ofa_tf.training.sampling import draw, plan_step, probe_archs

N_STEPS = {"full": 3, "kernel": 2, "depth": 6, "width": 3}


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


@pytest.mark.parametrize("space", [*SPACES.values(), *RICH_SPACES.values()], ids=lambda space: space.name)
def test_every_dimension_but_the_resolution_is_opened_by_one_stage(space):
    opened = sorted(name for names in OPENED.values() for name in names)
    named = {dimension.name for dimension in space.dimensions[1:]} | {"channels"}
    assert opened == sorted(named)


@pytest.mark.parametrize(
    ("stage", "name", "expected"),
    [("kernel", "kernels", {5, 7}), ("depth", "depths", {3, 4}), ("width", "expands", {4, 6})],
)
def test_a_phase_can_open_a_part_of_its_dimension(stage, name, expected):
    phases = tuple(Phase(s, 100, 0, 0.1, 2, choices=2) for s in STAGES)
    (span,) = spans(replace(RECIPE, phases=phases), stage, BATCH)
    codes = np.concatenate([plan_step(MOBILENET_V3, span, (0, 1), step).codes for step in range(50)])
    assert {value for arch in MOBILENET_V3.decode(codes) for value in getattr(arch, name) if value} == expected


@pytest.mark.parametrize(("choices", "expected"), [(0, [{0, 1}, {0, 1, 2}]), (1, [{1}, {2}]), (2, [{0, 1}, {1, 2}])])
def test_the_width_stage_opens_channels_the_largest_first(choices, expected):
    phases = tuple(Phase(s, 100, 0, 0.1, 4, choices=choices if s == "width" else 0) for s in STAGES)
    for stage in STAGES:
        (span,) = spans(replace(RECIPE, phases=phases), stage, BATCH)
        codes = np.concatenate([plan_step(RICH, span, (0, 1), step).codes for step in range(50)])
        found = [set(column.tolist()) for column in codes[:, RICH.channel_genes].T[[0, 3]]]  # of the stem and stage 2
        assert found == (expected if stage == "width" else [{1}, {2}])


def test_a_sandwich_has_the_narrowest_of_what_is_open():
    phases = tuple(Phase(s, 100, 0, 0.1, 3, choices=2 if s == "width" else 0) for s in STAGES)
    recipe = replace(RECIPE, sampling="sandwich", phases=phases)
    narrowest = {"full": (1, 1, 1, 2, 1, 1), "depth": (1, 1, 1, 2, 1, 1), "width": (0, 0, 0, 1, 0, 0)}
    for stage, channels in narrowest.items():
        (span,) = spans(recipe, stage, BATCH)
        archs = MIXED.decode(plan_step(MIXED, replace(span, sandwich=True), (0, 1), 7).codes)
        assert archs[0] == MIXED.largest()
        assert archs[1].channels == channels
        assert archs[1].resolution == MIXED.resolutions[0]
        assert {arch.channels for arch in archs[2:]} != {MIXED.smallest().channels}


@pytest.mark.parametrize("space", [TINY, MOBILENET_V3, RICH], ids=lambda space: space.name)
def test_draws_by_macs_are_uniform_in_their_logarithm(space):
    macs = arch_costs(space, lambda block: block.n_macs, 10)
    least, most = np.log(macs(space.encode([space.smallest(), space.largest()])))
    distances = {}
    for draws in DRAWS:
        places = np.sort((np.log(macs(draw(space, np.random.default_rng(0), 400, draws))) - least) / (most - least))
        distances[draws] = np.abs(places - (np.arange(400) + 0.5) / 400).max()  # of Kolmogorov and Smirnov
    assert distances["macs"] < 0.08 < 0.1 < distances["choices"]


def test_draws_by_macs_keep_to_what_is_open():
    phases = tuple(Phase(s, 100, 0, 0.1, 3, choices=2 if s == "width" else 0) for s in STAGES)
    recipe = replace(RECIPE, sampling="sandwich", phases=phases, draws="macs")
    (span,) = spans(recipe, "depth", BATCH)
    archs = [
        arch for step in range(50) for arch in MOBILENET_V3.decode(plan_step(MOBILENET_V3, span, (0, 1), step).codes)
    ]
    assert {value for arch in archs for value in arch.expands if value} == {6}
    (span,) = spans(recipe, "width", BATCH)
    codes = np.concatenate([plan_step(MOBILENET_V3, span, (0, 1), step).codes for step in range(50)])
    assert {value for arch in MOBILENET_V3.decode(codes) for value in arch.expands if value} == {4, 6}
    assert np.array_equal(MOBILENET_V3.canonical(codes), codes)


def test_the_depth_stage_opens_what_is_coupled_to_it():
    phases = tuple(Phase(s, 100, 0, 0.1, 4) for s in STAGES)
    found = {}
    for stage in STAGES:
        (span,) = spans(replace(RECIPE, phases=phases), stage, BATCH)
        plans = [plan_step(COUPLED, span, (0, 1), step) for step in range(50)]
        archs = [arch for plan in plans for arch in COUPLED.decode(plan.codes)]
        found[stage] = {(arch.depths[0], arch.expands[0]) for arch in archs}
    both = {(1, 3), (2, 4), (3, 6)}
    assert found == {"full": {(3, 6)}, "kernel": {(3, 6)}, "depth": both, "width": both}


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


@pytest.mark.parametrize("name", ["best", "none.json", "x" * 5000])
def test_an_unknown_recipe_is_refused(tmp_path, name):
    with pytest.raises(FormatError, match=f"There is no recipe '{name}': give one of .*'demo'.* or a JSON file"):
        open_project(tmp_path / "work", recipe=name)
    assert not (tmp_path / "work").exists()


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
        ({"phases": RECIPE.phases[:-2]}, "`phases`"),
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


def test_the_rest_of_the_published_recipe():
    recipe = RECIPES["imagenet"]
    assert (recipe.batch, recipe.micro_batch, recipe.dropout, recipe.sampling) == (2048, 64, 0.1, "uniform")
    assert (recipe.augment.area, recipe.augment.flip) == ((0.08, 1.0), True)
    assert (recipe.augment.brightness, recipe.augment.saturation) == (32 / 255, 0.5)
    (full,) = spans(recipe, "full", 1_271_167)
    assert max(full.learning_rate(step, recipe.batch) for step in range(full.stop)) == pytest.approx(2.56)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"micro_batch": 5}, r"`batch` \(=16\) must be a multiple of `micro_batch` \(=5\)"),
        ({"dropout": 1.0}, "`dropout`"),
        ({"clip_norm": -1}, "`clip_norm`"),
        ({"sampling": "best"}, "`sampling`"),
        ({"sampling": "sandwich"}, r"`subnets` \(=1\) must be at least 3"),
        ({"mixed_precision": 1}, "`mixed_precision`"),
        ({"sort_channels": None}, "`sort_channels`"),
        ({"importance": "size"}, "`importance`"),
        ({"draws": "dice"}, "`draws`"),
        ({"draws": "macs"}, r"`draws` \(='macs'\) needs `sampling` 'sandwich'"),
        ({"evaluations": -1}, "`evaluations`"),
    ],
)
def test_an_option_that_breaks_a_rule_is_refused(change, message):
    with pytest.raises(FormatError, match=message):
        replace(RECIPE, **change)


def test_overrides_change_one_stage_in_its_proportions():
    changed = RECIPES["imagenet"].overridden("width", epochs=15, batch=128, base_lr=0.01)
    before = RECIPES["imagenet"].phases
    assert changed.phases[:4] == before[:4]
    assert [phase.epochs for phase in changed.phases[4:]] == pytest.approx([2.5, 12])
    assert [phase.warmup_epochs for phase in changed.phases[4:]] == pytest.approx([0, 0.5])
    assert [phase.base_lr for phase in changed.phases[4:]] == pytest.approx([0.01 / 3, 0.01])
    assert (changed.batch, changed.micro_batch) == (128, 64)
    assert RECIPES["imagenet"].overridden("width", batch=100).micro_batch == 0
    assert RECIPES["imagenet"].overridden("depth") == RECIPES["imagenet"]
    with pytest.raises(FormatError, match="`base_lr`"):
        RECIPE.overridden("full", base_lr=1e9)


@pytest.mark.parametrize("stage", STAGES)
def test_a_sandwich_has_the_largest_the_smallest_that_is_open_and_others(stage):
    phases = tuple(Phase(s, 100, 0, 0.1, 4, choices=2) for s in STAGES)
    (span,) = spans(replace(RECIPE, phases=phases, sampling="sandwich"), stage, BATCH)
    space, others = MOBILENET_V3, set()
    for step in range(20):
        plan = plan_step(space, span, (0, 1), step)
        archs = space.decode(plan.codes)
        if stage == "full":
            assert set(archs) == {space.largest(plan.resolution)}
            continue
        order = STAGES.index(stage)
        kernel = 5 if order == 1 else 3  # of an earlier stage every choice is open
        depth = [4, 4, 3, 2][order]
        expand = [6, 6, 6, 4][order]
        assert plan.resolution == 224
        assert archs[0] == space.largest(224)
        assert archs[1] == space.arch(128, [depth] * 5, [kernel] * 20, [expand] * 20)
        assert len(set(archs)) == 4
        others |= {arch.resolution for arch in archs[2:]}
    assert stage == "full" or len(others) > 15  # of 25


def test_the_watched_archs_stay_the_same_and_cover_the_ends():
    codes = probe_archs(MOBILENET_V3, 3)
    assert list(codes) == [
        "smallest", "largest", "random1", "random2", "random3", "random4", "largest_128px", "largest_176px",
    ]  # fmt: skip
    archs = {name: MOBILENET_V3.decode_one(code) for name, code in codes.items()}
    assert archs["smallest"] == MOBILENET_V3.smallest(224)
    assert archs["largest_176px"] == MOBILENET_V3.largest(176)
    assert len(set(archs.values())) == 8
    again = probe_archs(MOBILENET_V3, 3)
    assert all(np.array_equal(codes[name], again[name]) for name in codes)
    assert not np.array_equal(codes["random1"], probe_archs(MOBILENET_V3, 4)["random1"])
