"""What progressive shrinking, distillation and sorted channels each are worth.

    python benchmarks/ablation.py --data FOLDER [--workdir DIR] [--jobs N] [--seeds N] [--quick] [--json FILE]

Four trainings for each seed: the recipe as it is; the same number of steps with all choices open from the first one
(`at_once`: as many subnets a step as the recipe has on average, so that both compute about as much; no frozen teacher,
since there is none before training, but in a sandwich the largest network as it is; its learning rate is the one of
`--rates` that does best for the first seed, on the images that are reported, in its favour); without a teacher
(`no_kd`); and without sorting the channels before the stage `width` (`no_sorting`). The last two begin where they first
differ from the recipe's own run: at the end of `full` and of `depth`. Accuracy of the smallest arch, the largest and
eight random ones, at the largest resolution.

Figures: `ps_over_all_at_once_points`, `kd_points`, `sorting_points`: mean accuracy of the ten archs with the recipe as
it is minus that without, in points, a mean over the seeds; `…_spread`: the largest difference minus the smallest over
the seeds; `…_smallest`: the same for the smallest arch alone. Works in the folder that `headline.py` uses, and shares
its supernet.
"""

import argparse
from dataclasses import replace

import numpy as np
from _common import report
from _trainings import Job, Setting, add_options, run_jobs, train_supernet

EARLIER = ("full", "kernel", "depth")
VARIANTS = {"ps_over_all_at_once_points": "at_once", "kd_points": "no_kd", "sorting_points": "no_sorting"}


def at_once(recipe, rate: float):
    """The recipe with all choices open in all steps; each earlier stage has a single one, at a learning rate of 0."""
    lengths = [phase.epochs + phase.warmup_epochs for phase in recipe.phases]
    subnets = round(np.average([phase.subnets for phase in recipe.phases], weights=lengths))
    last = replace(recipe.phases[-1], subnets=max(subnets, 3 if recipe.sandwich else 1))
    none = [replace(last, stage=stage, epochs=0, warmup_epochs=0, base_lr=0, choices=0) for stage in EARLIER]
    all_of_it = replace(last, epochs=sum(lengths) - last.warmup_epochs, base_lr=rate, choices=0)
    kd_ratio = recipe.kd_ratio if recipe.sandwich else 0.0
    return replace(recipe, phases=(*none, all_of_it), kd_ratio=kd_ratio, sort_channels=False)


def train_variant(setting: Setting, name: str) -> dict:
    """Trains what a job names: `supernet-SEED`, `no_kd-SEED`, `no_sorting-SEED` or `at_once-SEED-RATE`."""
    variant, seed, *rate = name.split("-")
    recipe, whole = setting.recipe, f"supernet-{seed}"
    if variant == "at_once":
        return train_supernet(setting, name, at_once(recipe, float(rate[0])), int(seed))
    if variant == "no_kd":
        return train_supernet(setting, name, replace(recipe, kd_ratio=0.0), int(seed), (whole, EARLIER[:1]))
    if variant == "no_sorting":
        return train_supernet(setting, name, replace(recipe, sort_channels=False), int(seed), (whole, EARLIER))
    return train_supernet(setting, name, recipe, int(seed))


def trainings(setting: Setting, seeds: int, rates: list[float]) -> list[Job]:
    """All trainings, those that others begin from first."""

    def ready(seed: int, stage: str):
        return lambda: setting.stage_done(f"supernet-{seed}", stage)

    return [
        *(Job(f"supernet-{seed}") for seed in range(seeds)),
        *(Job(f"at_once-{seed}-{rate:g}") for seed in range(seeds) for rate in rates),
        *(Job(f"no_kd-{seed}", ready(seed, "full")) for seed in range(seeds)),
        *(Job(f"no_sorting-{seed}", ready(seed, "depth")) for seed in range(seeds)),
    ]


def figures(setting: Setting, seeds: int, rates: list[float]) -> dict[str, float]:
    """What the accuracies amount to, and a table of them for people."""

    def accuracies(name: str) -> np.ndarray:
        return np.array(setting.folder.result(name)["accuracies"]) * 100

    best = max(rates, key=lambda rate: accuracies(f"at_once-0-{rate:g}").mean())
    print(f"at_once: learning rate {best:g} of {rates}")
    found = {}
    print(f"{'training':<14} seed    mean  smallest  largest")
    for variant in ("supernet", *VARIANTS.values()):
        for seed in range(seeds):
            name = f"{variant}-{seed}" + (f"-{best:g}" if variant == "at_once" else "")
            found[variant, seed] = accuracies(name)
            smallest, largest = found[variant, seed][:2]
            print(f"{variant:<14} {seed:>4} {found[variant, seed].mean():>7.2f} {smallest:>9.2f} {largest:>8.2f}")
    result = {}
    for figure, variant in VARIANTS.items():
        gains = np.array([found["supernet", seed] - found[variant, seed] for seed in range(seeds)])
        means = gains.mean(axis=1)
        result[figure] = float(means.mean())
        result[f"{figure}_spread"] = float(np.ptp(means))
        result[f"{figure}_smallest"] = float(gains[:, 0].mean())
    for variant in ("supernet", *VARIANTS.values()):
        result[f"{variant}_mean_accuracy"] = float(np.mean([found[variant, seed] for seed in range(seeds)]) / 100)
    return result | {"seeds": seeds, "at_once_rate": best, "epochs": setting.epochs}


def main() -> None:
    """Parses, trains, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each kind")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.03], help="base learning rates of at_once")
    options = parser.parse_args()
    setting = Setting(options)
    if options.job:
        with setting.folder.turn(options.job) as to_do:
            if to_do:
                setting.folder.keep(options.job, train_variant(setting, options.job))
        return
    run_jobs(trainings(setting, options.seeds, options.rates), setting.folder, options.jobs)
    found = figures(setting, options.seeds, options.rates)
    report(found, seed=0, json_file=options.json, setting=setting.document)


if __name__ == "__main__":
    main()
