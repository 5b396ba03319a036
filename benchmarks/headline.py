"""The claim of the paper: one training serves every budget as well as a training for each.

    python benchmarks/headline.py --data FOLDER [--workdir DIR] [--jobs N] [--quick] [--json FILE]

A supernet is trained by progressive shrinking. Six of its subnets, the smallest, the largest and four searched for
latency budgets of this machine (`--budgets` for fewer), are compared with the same six archs trained alone, from
scratch, for as many epochs as all stages together had, with the same images, augmentation, loss and optimizer; their
batch norm statistics are computed in the same way. Top-1 accuracy of the validation images, by which this script
chooses nothing; the recipe was chosen on those of CIFAR-10 (benchmarks/README.md).

Figures: `headline_gap_points_mean`, `headline_gap_points_worst`: accuracy alone minus accuracy in the supernet, in
points; below 0 the supernet is better. `headline_time_ratio`: processor seconds of training the supernet over those of
the six trainings; `headline_wall_time_ratio`: the same of the seconds that passed, which on a GPU is the one to look
at. Both depend on what else was done at the same time; `headline_step_time_ratio` does less: steps of all of them in
turns, in one process, their medians times the numbers of steps, without reading images. `searched_over_fixed_points`: a
fixed network in the manner of MobileNetV3 (its kernels and expand ratios, no squeeze-and-excite) at several width
multipliers, each trained alone as the six were, against the subnets that the search finds: accuracy of the searched
ones at the latency of each fixed one, all measured on this machine in one run, minus that of the fixed one; a mean in
points, between neighbours on the front interpolated over the logarithm of the latency.

The default recipe takes hours on two cores; with `--space benchmarks/spaces/small.json --recipe
benchmarks/recipes/small.json --images 5000` it is half of one.
"""

import argparse
import time
from dataclasses import replace
from functools import partial

import numpy as np
from _common import report
from _trainings import Clock, Job, Setting, add_options, evaluator_of, run_jobs, train_supernet

MULTIPLIERS = (0.5, 0.75, 1.0)
FIXED_KERNELS, FIXED_EXPANDS = (3, 5, 3), (4, 3, 6)  # per stage, the last for all that follow
FRONT = 12
SUPERNET = "supernet-0"
STEPS_TIMED = 60


class Headline(Setting):
    """What the parts of this benchmark have in common.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace):
        super().__init__(options)
        self.precision = options.precision
        self.n_archs = 20 if options.quick else options.archs
        self.multipliers = options.multipliers
        self.n_budgets = options.budgets
        self.table = self.folder.path / f"host-{self.precision}.json"


def fixed_network(space, multiplier: float):
    """Space and arch of the fixed network: of full depth, at the largest resolution."""
    wide = replace(space, name=f"{space.name}_{multiplier * 100:.0f}", width_mult=space.width_mult * multiplier)

    def per_block(values, choices):
        chosen = [values[min(stage, len(values) - 1)] for stage in space.block_stages]
        return [min(choices, key=lambda choice: abs(choice - value)) for value in chosen]

    depths = [stage.depths[-1] for stage in space.stages]
    kernels, expands = per_block(FIXED_KERNELS, space.kernels), per_block(FIXED_EXPANDS, space.expands)
    return wide, wide.arch(space.resolutions[-1], depths, kernels, expands)


def search_archs(setting: Headline) -> dict:
    """The predictor, the table, the six archs and the front, with the accuracies that they have in the supernet."""
    from ofa_tf.accuracy.collect import JOURNAL, balanced_archs, collect_pairs
    from ofa_tf.accuracy.fit import fit_predictor
    from ofa_tf.latency.table import LatencyTable
    from ofa_tf.search import Budget, pareto, search

    space, data = setting.space, setting.data()
    evaluator = evaluator_of(setting, setting.workdir(SUPERNET), data)
    journal = setting.folder.path / "accuracy" / JOURNAL
    journal.parent.mkdir(exist_ok=True)
    accuracy = partial(evaluator.accuracy, images=data.tune)
    pairs = collect_pairs(space, balanced_archs(space, 0), accuracy, setting.n_archs, journal)
    predictor, errors = fit_predictor(space, pairs, 0)
    costs = LatencyTable.load(setting.table).costs(space, len(data.classes))
    slowest_ms = float(costs(space.encode([space.largest()]))[0])
    limits = np.geomspace(float(costs(costs.cheapest()[None])[0]), slowest_ms, setting.n_budgets + 2)[1:-1]
    archs = {"smallest": space.smallest(), "largest": space.largest()}
    for number, limit in enumerate(limits, start=1):
        found = search(space, predictor, [Budget("latency", "ms", costs, float(limit))], seed=0)
        archs[f"searched {number}"] = space.decode_one(found.code)
    front = pareto(space, predictor, costs, np.geomspace(limits[0] * 0.8, slowest_ms, FRONT), seed=0)

    def described(arch) -> dict:
        predicted_ms = float(costs(space.encode([arch]))[0])
        accuracy = evaluator.accuracy(arch, data.val)
        return {"arch": arch.to_document(), "predicted_ms": predicted_ms, "accuracy": accuracy}

    return {
        "predictor": errors,
        "archs": {name: described(arch) for name, arch in archs.items()},
        "front": [described(arch) for arch in space.decode(front.codes)],
    }


def measure_table(setting: Headline) -> None:
    """The table of this machine, unless there is one."""
    if setting.table.exists():
        return
    from ofa_tf.export.block_files import BlockFiles
    from ofa_tf.latency.host import HostDevice
    from ofa_tf.latency.measure import build_table

    n_classes = len(setting.data().classes)
    converter = BlockFiles(setting.space, n_classes, setting.precision)
    build_table(setting.space, n_classes, setting.precision, HostDevice(), converter).save(setting.table)


def measure_networks(setting: Headline) -> dict:
    """Latency of the fixed networks and of the searched ones, in turns."""
    from ofa_tf.export.block_files import BlockFiles
    from ofa_tf.latency.device import Workload
    from ofa_tf.latency.host import HostDevice

    n_classes = len(setting.data().classes)
    networks = [fixed_network(setting.space, multiplier) for multiplier in setting.multipliers]
    for point in setting.folder.result("search")["front"]:
        networks.append((setting.space, setting.space.arch_from_document(point["arch"])))
    files = [BlockFiles(space, n_classes, setting.precision).convert([arch])[0] for space, arch in networks]
    timings = HostDevice(seconds=30).measure([Workload(file) for file in files])
    measured_ms = [timing.percentile_ms(10) for timing in timings]
    n_fixed = len(setting.multipliers)
    return {"fixed_ms": measured_ms[:n_fixed], "front_ms": measured_ms[n_fixed:]}


def measure_steps(setting: Headline) -> dict[str, float]:
    """Seconds that the supernet's and the six networks' steps take in all, from some of each, in turns."""
    from ofa_tf.supernet import Supernet
    from ofa_tf.training.recipe import STAGES, spans
    from ofa_tf.training.sampling import plan_step
    from ofa_tf.training.step import TrainingStep

    space, recipe, n_classes = setting.space, setting.recipe, len(setting.data().classes)
    rng = np.random.default_rng(0)
    labels = rng.integers(n_classes, size=recipe.batch).astype(np.int32)
    images = {size: rng.normal(size=(recipe.batch, size, size, 3)).astype(np.float32) for size in space.resolutions}

    def stepper(arch=None):
        network = Supernet(space, n_classes, arch=arch)
        step = TrainingStep(network, network, recipe)
        return lambda size, codes, distil: step.run(
            images[size], labels, recipe.batch, recipe.batch, codes, 1e-4, distil
        )

    whole = stepper()
    archs = [space.arch_from_document(of["arch"]) for of in setting.folder.result("search")["archs"].values()]
    alone = [(arch, stepper(arch)) for arch in archs]
    layout = [span for stage in STAGES for span in spans(recipe, stage, len(setting.data().train))]
    taken = np.empty((STEPS_TIMED, len(layout) + len(alone)))
    for turn in range(STEPS_TIMED):
        for column, span in enumerate(layout):
            plan = plan_step(space, span, (0, column), turn)
            start = time.perf_counter()
            whole(plan.resolution, plan.codes, span.phase.distils)
            taken[turn, column] = time.perf_counter() - start
        for column, (arch, run) in enumerate(alone, start=len(layout)):
            start = time.perf_counter()
            run(arch.resolution, space.encode(arch)[None], False)
            taken[turn, column] = time.perf_counter() - start
    seconds = np.median(taken[2:], axis=0)  # the first of each compile
    lengths = np.array([span.stop - span.start for span in layout])
    return {
        "supernet_s": float(seconds[: len(layout)] @ lengths),
        "alone_s": float(seconds[len(layout) :].sum() * lengths.sum()),
    }


def train_one(setting: Headline, space, arch) -> dict:
    """A network trained alone: its accuracy and the seconds that its training took."""
    from ofa_tf.blocks import count_macs, walk
    from ofa_tf.data import Preprocessing
    from ofa_tf.training.evaluation import SubnetEvaluator
    from ofa_tf.training.standalone import train_standalone

    data = setting.data()
    clock = Clock()
    network = train_standalone(space, arch, data, setting.recipe)
    spent = clock.read()
    accuracy = SubnetEvaluator(network, Preprocessing(), data.train).accuracy(arch, data.val)
    n_macs = count_macs(walk(space, arch, len(data.classes)))
    return {"arch": arch.to_document(), "accuracy": accuracy, "n_macs": n_macs, **spent}


def run_job(setting: Headline, name: str) -> dict:
    """One job, in this process."""
    kind, _, which = name.partition("-")
    if kind == "supernet":
        return train_supernet(setting, name, setting.recipe, int(which))
    if kind == "table":
        measure_table(setting)
        return {}
    if kind == "search":
        return search_archs(setting)
    if kind == "steps":
        return measure_steps(setting)
    if kind == "latency":
        return measure_networks(setting)
    if kind == "fixed":
        return train_one(setting, *fixed_network(setting.space, float(which)))
    arch = list(setting.folder.result("search")["archs"].values())[int(which)]["arch"]
    return train_one(setting, setting.space, setting.space.arch_from_document(arch))


def jobs(setting: Headline) -> list[Job]:
    """All but the last, each after those that it needs."""
    folder = setting.folder
    return [
        Job(SUPERNET),
        Job("table", lambda: setting.table.exists() or folder.done(SUPERNET)),
        Job("search", lambda: folder.done(SUPERNET) and folder.done("table")),
        *(Job(f"alone-{number}", lambda: folder.done("search")) for number in range(setting.n_budgets + 2)),
        *(Job(f"fixed-{multiplier:g}") for multiplier in setting.multipliers),
    ]


def compare_with_alone(setting: Headline) -> dict[str, float]:
    """The six archs in the supernet and alone: a table for people, and figures."""
    folder = setting.folder
    archs = folder.result("search")["archs"]
    alone = [folder.result(f"alone-{number}") for number in range(len(archs))]
    accuracies, gaps = {}, []
    print("arch          MMACs  supernet    alone  gap, points")
    for (name, found), single in zip(archs.items(), alone, strict=True):
        gaps.append((single["accuracy"] - found["accuracy"]) * 100)
        shown = f"{single['n_macs'] / 1e6:>6.2f} {found['accuracy']:>9.2%} {single['accuracy']:>8.2%} {gaps[-1]:>12.2f}"
        print(f"{name:<12} {shown}  {setting.space.arch_from_document(found['arch'])}")
        accuracies[f"supernet_{name.replace(' ', '_')}"] = found["accuracy"]
        accuracies[f"alone_{name.replace(' ', '_')}"] = single["accuracy"]
    trained, steps = folder.result(SUPERNET), folder.result("steps")
    supernet_s = {kind: sum(trained[kind].values()) for kind in ("cpu_seconds", "seconds")}
    alone_s = {kind: sum(single[kind] for single in alone) for kind in supernet_s}
    return {
        "headline_gap_points_mean": float(np.mean(gaps)),
        "headline_gap_points_worst": max(gaps),
        "headline_time_ratio": supernet_s["cpu_seconds"] / alone_s["cpu_seconds"],
        "headline_wall_time_ratio": supernet_s["seconds"] / alone_s["seconds"],
        "headline_step_time_ratio": steps["supernet_s"] / steps["alone_s"],
        "supernet_cpu_s": supernet_s["cpu_seconds"],
        "alone_cpu_s": alone_s["cpu_seconds"],
        **accuracies,
    }


def compare_with_fixed(setting: Headline) -> dict[str, float]:
    """The fixed network and the front that the search finds: a table for people, and figures."""
    latency, front = setting.folder.result("latency"), setting.folder.result("search")["front"]
    points = sorted(zip(latency["front_ms"], (point["accuracy"] for point in front), strict=True))
    front_ms, accuracies = np.array(points).T
    print("network            ms  accuracy")
    for milliseconds, accuracy in points:
        print(f"searched     {milliseconds:>8.3f} {accuracy:>9.2%}")
    found: dict[str, float] = {}
    differences = []
    for multiplier, milliseconds in zip(setting.multipliers, latency["fixed_ms"], strict=True):
        accuracy = setting.folder.result(f"fixed-{multiplier:g}")["accuracy"]
        difference = (np.interp(np.log(milliseconds), np.log(front_ms), accuracies) - accuracy) * 100
        inside = front_ms[0] <= milliseconds <= front_ms[-1]
        differences += [difference] if inside else []
        said = f"{difference:+.2f} points" if inside else "beyond the front, not counted"
        print(f"fixed x {multiplier:<4g} {milliseconds:>8.3f} {accuracy:>9.2%}  searched: {said}")
        found |= {f"fixed_{multiplier:g}": accuracy, f"fixed_{multiplier:g}_ms": milliseconds}
    if differences:
        found["searched_over_fixed_points"] = float(np.mean(differences))
    return found


def main() -> None:
    """Parses, trains, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8", help="of the files that are timed")
    parser.add_argument("--archs", type=int, default=100, help="subnets that the predictor learns from")
    parser.add_argument("--budgets", type=int, default=4, help="how many subnets are searched for the comparison")
    parser.add_argument(
        "--multipliers", type=float, nargs="*", default=list(MULTIPLIERS), help="widths of the fixed network"
    )
    options = parser.parse_args()
    setting = Headline(options)
    if options.job:
        with setting.folder.turn(options.job) as to_do:
            if to_do:
                setting.folder.keep(options.job, run_job(setting, options.job))
        return
    run_jobs(jobs(setting), setting.folder, options.jobs)
    for name in ("latency", "steps"):
        run_jobs([Job(name)], setting.folder, 1)
    figures = compare_with_alone(setting) | compare_with_fixed(setting) | {"epochs": setting.epochs}
    report(figures, seed=0, json_file=options.json, setting=setting.document)


if __name__ == "__main__":
    main()
