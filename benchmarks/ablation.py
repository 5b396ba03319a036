"""What progressive shrinking, distillation and sorted channels each are worth.

    python benchmarks/ablation.py --data FOLDER [--workdir DIR] [--jobs N] [--seeds N] [--variants …] [--json FILE]

Five trainings for each seed: the recipe as it is; the same number of steps with all choices open from the first one
(`at_once`: as many subnets a step as the recipe has on average, so that both compute about as much; no frozen
teacher, since there is none before training, but in a sandwich the largest network as it is; a warm-up as long as
that of the recipe's first phase; its learning rate is the one of `--rates` that does best for the first seed, on the
images that are reported, in its favour); the same without any teacher (`plain`; with `uniform` sampling that is
`at_once` again); the recipe without a teacher (`no_kd`); and without sorting the channels before the stage `width`
(`no_sorting`). The last two begin where they first differ from the recipe's own run: at the end of `full` and of
`depth`. Accuracy of the smallest arch, the largest and eight random ones, at the largest resolution.

Figures: `ps_over_all_at_once_points`, `ps_over_plain_at_once_points`, `kd_points`, `sorting_points`: mean accuracy of
the ten archs with the recipe as it is minus that of the variant, in points, a mean over the seeds;
`ps_without_teacher_points`: likewise `no_kd` minus `plain`, neither of which has a teacher. `…_spread`: the largest
difference minus the smallest over the seeds; `…_error`: the standard error of the mean; `…_smallest`: the mean for the
smallest arch alone. Works in the folder that `headline.py` uses, and shares its supernet.
"""

import argparse
from dataclasses import replace

import numpy as np
from _common import report
from _trainings import Job, Setting, add_options, run_jobs, train_supernet

EARLIER = ("full", "kernel", "depth")
FIGURES = {
    "ps_over_all_at_once_points": ("supernet", "at_once"),
    "ps_over_plain_at_once_points": ("supernet", "plain"),
    "ps_without_teacher_points": ("no_kd", "plain"),
    "kd_points": ("supernet", "no_kd"),
    "sorting_points": ("supernet", "no_sorting"),
}
AT_ONCE = ("at_once", "plain")
FORKS = {"no_kd": "full", "no_sorting": "depth"}  # the last stage that each shares with the recipe's own run
VARIANTS = (*AT_ONCE, *FORKS)


def at_once(recipe, rate: float, teacher: bool):
    """The recipe with all choices open in all steps; each earlier stage has a single one, at a learning rate of 0."""
    lengths = [phase.epochs + phase.warmup_epochs for phase in recipe.phases]
    subnets = round(np.average([phase.subnets for phase in recipe.phases], weights=lengths))
    warmup = recipe.phases[0].warmup_epochs  # which begins with fresh weights, too
    last = replace(recipe.phases[-1], warmup_epochs=warmup, subnets=max(subnets, 3 if recipe.sandwich else 1))
    none = [replace(last, stage=stage, epochs=0, warmup_epochs=0, base_lr=0, choices=0) for stage in EARLIER]
    all_of_it = replace(last, epochs=sum(lengths) - last.warmup_epochs, base_lr=rate, choices=0)
    kd_ratio = recipe.kd_ratio if recipe.sandwich and teacher else 0.0
    return replace(recipe, phases=(*none, all_of_it), kd_ratio=kd_ratio, sort_channels=False)


def train_variant(setting: Setting, name: str) -> dict:
    """Trains what a job names: VARIANT-SEED, with a learning rate after it for `at_once` and `plain`."""
    variant, seed, *rate = name.split("-")
    recipe, whole = setting.recipe, f"supernet-{seed}"
    if variant in AT_ONCE:
        return train_supernet(setting, name, at_once(recipe, float(rate[0]), variant == "at_once"), int(seed))
    if variant == "no_kd":
        return train_supernet(setting, name, replace(recipe, kd_ratio=0.0), int(seed), (whole, EARLIER[:1]))
    if variant == "no_sorting":
        return train_supernet(setting, name, replace(recipe, sort_channels=False), int(seed), (whole, EARLIER))
    return train_supernet(setting, name, recipe, int(seed))


def trainings(setting: Setting, variants: list[str], seeds: int, rates: list[float]) -> list[Job]:
    """All trainings, those that others begin from first."""

    def ready(seed: int, stage: str):
        return lambda: setting.stage_done(f"supernet-{seed}", stage)

    jobs = {name: [Job(f"{name}-{seed}-{rate:g}") for seed in range(seeds) for rate in rates] for name in AT_ONCE}
    for name, stage in FORKS.items():
        jobs[name] = [Job(f"{name}-{seed}", ready(seed, stage)) for seed in range(seeds)]
    return [*(Job(f"supernet-{seed}") for seed in range(seeds)), *(job for name in variants for job in jobs[name])]


def figures(setting: Setting, variants: list[str], seeds: int, rates: list[float]) -> dict[str, float]:
    """What the accuracies amount to, and a table of them for people."""

    def accuracies(name: str) -> np.ndarray:
        return np.array(setting.folder.result(name)["accuracies"]) * 100

    best = {
        variant: max(rates, key=lambda rate: accuracies(f"{variant}-0-{rate:g}").mean())
        for variant in variants
        if variant in AT_ONCE
    }
    found = {}
    print(f"{'training':<14} seed    mean  smallest  largest  learning rate")
    for variant in ("supernet", *variants):
        for seed in range(seeds):
            rate = f"-{best[variant]:g}" if variant in best else ""
            found[variant, seed] = accuracies(f"{variant}-{seed}{rate}")
            mean, (smallest, largest) = found[variant, seed].mean(), found[variant, seed][:2]
            print(f"{variant:<14} {seed:>4} {mean:>7.2f} {smallest:>9.2f} {largest:>8.2f}  {rate[1:]}")
    result = {
        f"{variant}_mean_accuracy": float(np.mean([found[variant, seed] for seed in range(seeds)]) / 100)
        for variant in ("supernet", *variants)
    }
    for figure, (one, other) in FIGURES.items():
        if not {one, other} <= {"supernet", *variants}:
            continue
        gains = np.array([found[one, seed] - found[other, seed] for seed in range(seeds)])
        means = gains.mean(axis=1)
        result[figure] = float(means.mean())
        result[f"{figure}_spread"] = float(np.ptp(means))
        if seeds > 1:
            result[f"{figure}_error"] = float(means.std(ddof=1) / np.sqrt(seeds))
        result[f"{figure}_smallest"] = float(gains[:, 0].mean())
    result |= {f"{variant}_rate": rate for variant, rate in best.items()}
    return result | {"seeds": seeds, "epochs": setting.epochs}


def main() -> None:
    """Parses, trains, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each kind")
    parser.add_argument(
        "--rates", type=float, nargs="+", help="base learning rates of at_once and plain; default: width's"
    )
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, help="what to compare with")
    options = parser.parse_args()
    setting = Setting(options)
    if options.job:
        with setting.folder.turn(options.job) as to_do:
            if to_do:
                setting.folder.keep(options.job, train_variant(setting, options.job))
        return
    rates = options.rates or [setting.recipe.phases[-1].base_lr]
    what = options.variants, options.seeds, rates
    run_jobs(trainings(setting, *what), setting.folder, options.jobs)
    found = figures(setting, *what)
    report(found, seed=0, json_file=options.json, setting=setting.document)


if __name__ == "__main__":
    main()
