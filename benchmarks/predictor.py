"""How good the accuracy predictor of a trained workdir is, and the choice that a search makes by it.

    python benchmarks/predictor.py --workdir W [--archs N] [--quick] [--json FILE]

W is a workdir with all stages trained and labelled validation images, such as one of the `cifar` recipe. The predictor
is fitted to N archs (300) evaluated on W's held-out training images. Figures:

- `archs_per_s`: calibration and evaluation.
- `predictor_rmse_points`, `predictor_worst_points`, `predictor_spearman`: on 100 random archs that it has not seen.
- `said_rmse_points`: what the fit itself says.
- `noise_points`: the part of these errors that is the evaluation's: the standard error of an accuracy among others on
  the same images, from two halves of them.
- `choice_over_best_random_points`: by how much the choice of a search for at most the median MACs of random archs is
  more accurate on the validation images than the best of 200 random archs within that budget is there;
  `choice_over_best_random_se_points`: the standard error of that difference. The validation images chose the random
  arch, luck included, and nothing else.
- `verified_over_best_random_points`: the same of the best of the search's first 8, evaluated on the tuning images, as
  `ofa-tf search --verify 8` does.
- `choice_over_tuned_random_points`, `verified_over_tuned_random_points`: over the best of the 200 on the tuning images,
  so that nothing was chosen by the images that judge.
- The same names with `_mean_`: the mean of three budgets, the quartiles of the MACs of random archs.

All accuracies go into journals in W, so that a run that was stopped goes on. `--quick`: 60, 30 and 40 archs.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import islice, product
from pathlib import Path

import numpy as np
from _common import report

from ofa_tf.accuracy.collect import balanced_archs, collect_pairs
from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.costs import arch_costs
from ofa_tf.data import Images
from ofa_tf.project.evaluator import make_evaluator
from ofa_tf.project.opened import OpenedWorkdir, open_existing
from ofa_tf.project.predictor import fit
from ofa_tf.search import Budget, search
from ofa_tf.space import Arch
from ofa_tf.statistics import spearman
from ofa_tf.terminal import TerminalProgress
from ofa_tf.training.evaluation import SubnetEvaluator

SEED = 77
FULL, QUICK = (300, 100, 200), (60, 30, 40)  # archs to fit to, to predict, to beat
TIMED = 20
VERIFIED = 8
QUARTILES = (25, 50, 75)


def right(evaluator: SubnetEvaluator, arch: Arch, images: Images) -> np.ndarray:
    """Which images a subnet puts into the right class."""
    evaluator.calibrate(arch)
    return evaluator.logits(arch, images).argmax(1) == images.labels


def accuracies(
    project: OpenedWorkdir, name: str, archs: Sequence[Arch], accuracy: Callable[[Arch], float]
) -> np.ndarray:
    """Accuracies of archs, each found once and then kept in a journal of that name."""
    journal = project.workdir.path / "benchmark" / f"{name}.jsonl"
    pairs = dict(collect_pairs(project.config.space, archs, accuracy, 0, journal))
    missing = [arch for arch in archs if arch not in pairs]
    title = f"evaluating subnets ({name})"
    pairs |= dict(
        collect_pairs(
            project.config.space, missing, accuracy, len(pairs) + len(missing), journal, project.progress, title
        )
    )
    return np.array([pairs[arch] for arch in archs])


def noise_points(evaluator: SubnetEvaluator, archs: Sequence[Arch], images: Images) -> float:
    """Standard error of the difference between an arch's accuracy and that of all, on so many images."""
    each = np.stack([right(evaluator, arch, images) for arch in archs])
    halves = [each[:, start::2].mean(1) for start in (0, 1)]
    return 100 * float(np.std(halves[0] - halves[1], ddof=1)) / 2


def contest(
    project: OpenedWorkdir,
    evaluator: SubnetEvaluator,
    predictor: Predictor,
    budget: Budget,
    drawn: Sequence[Arch],
    n_random: int,
) -> dict[str, float]:
    """The choice of a search within a budget, and the best of its candidates, against random archs within it."""
    space, data = project.config.space, project.data
    within = [arch for arch in drawn if budget.costs(space.encode([arch]))[0] <= budget.limit][:n_random]
    found = search(space, predictor, [budget], seed=project.config.seed, top=VERIFIED)
    candidates = space.decode(found.candidates)

    def tune(archs: Sequence[Arch]) -> np.ndarray:
        return accuracies(project, "chosen-tune", archs, lambda arch: evaluator.accuracy(arch, data.tune))

    rivals = accuracies(project, "random-val", within, lambda arch: evaluator.accuracy(arch, data.val))
    verified, tuned = candidates[tune(candidates).argmax()], within[tune(within).argmax()]
    entrants = {"choice": candidates[0], "verified": verified}
    rival_archs = {"best_random": within[rivals.argmax()], "tuned_random": tuned}
    rights = {arch: right(evaluator, arch, data.val) for arch in {*entrants.values(), *rival_archs.values()}}
    figures = {"budget_macs": budget.limit, "random_archs": len(within), "choice_predicted": found.score}
    for name, arch in (entrants | rival_archs).items():
        print(f"at most {budget.limit:,.0f} MACs, {name}: {arch}")
        figures[f"{name}_accuracy"] = float(rights[arch].mean())
    for (entrant, arch), (rival, other) in product(entrants.items(), rival_archs.items()):
        difference = rights[arch].astype(float) - rights[other]
        figures[f"{entrant}_over_{rival}_points"] = 100 * float(difference.mean())
        figures[f"{entrant}_over_{rival}_se_points"] = 100 * float(difference.std() / np.sqrt(len(difference)))
    return figures


def measure(project: OpenedWorkdir, n_fit: int, n_unseen: int, n_random: int) -> dict[str, float]:
    """All figures."""
    space, data = project.config.space, project.data
    evaluator = make_evaluator(project)
    fitted = fit(project, n_fit, evaluator)
    predictor, known = fitted.predictor, set(islice(balanced_archs(space, project.config.seed), n_fit))
    codes = space.sample(np.random.default_rng(SEED), 10 * n_random + n_unseen)
    drawn = [arch for arch in dict.fromkeys(space.decode(codes)) if arch not in known]

    for resolution in space.resolutions:  # tracing, and what all archs of a resolution share
        evaluator.accuracy(space.smallest(resolution), data.tune)
    start = time.perf_counter()
    noise = noise_points(evaluator, drawn[:TIMED], data.tune)
    archs_per_s = TIMED / (time.perf_counter() - start)
    unseen = drawn[:n_unseen]
    truth = accuracies(project, "unseen-tune", unseen, lambda arch: evaluator.accuracy(arch, data.tune))
    errors = predictor(space.encode(unseen)) - truth

    macs = arch_costs(space, lambda block: block.n_macs, project.config.n_classes)
    limits = np.percentile(macs(codes), QUARTILES)
    contests = [
        contest(project, evaluator, predictor, Budget("MACs", "", macs, limit), drawn, n_random) for limit in limits
    ]
    means = {
        name.replace("_points", "_mean_points"): float(np.mean([figures[name] for figures in contests]))
        for name in contests[0]
        if "_over_" in name and "_se_" not in name
    }
    return {
        "archs_per_s": archs_per_s,
        "fitted_archs": fitted.errors["pairs"],
        "predictor_rmse_points": 100 * float(np.sqrt(np.mean(errors**2))),
        "predictor_spearman": spearman(errors + truth, truth),
        "predictor_worst_points": 100 * float(np.abs(errors).max()),
        "said_rmse_points": fitted.errors["rmse_points"],
        "noise_points": noise,
        **contests[QUARTILES.index(50)],
        **means,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, metavar="W", help="a trained workdir")
    parser.add_argument("--archs", type=int, metavar="N", help="archs to fit to (default 300)")
    parser.add_argument("--quick", action="store_true", help="fewer archs")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    n_fit, n_unseen, n_random = QUICK if options.quick else FULL
    with TerminalProgress() as progress:
        project = open_existing(options.workdir, progress)
        figures = measure(project, options.archs or n_fit, n_unseen, n_random)
    report(figures, project.config.seed, options.json)


if __name__ == "__main__":
    main()
