"""How good and how fast the search is.

    python benchmarks/search.py [--tables DIR --predictor FILE] [--seeds N] [--quick] [--json FILE]

DIR holds published latency tables (`<resolution>_lookup_table.yaml`), FILE the published accuracy predictor; without
them only the enumerable part runs. All on one core. Figures: `note10_<budget>ms_worst`, the worst predicted accuracy of
all seeds at 20, 25 and 30 ms; `note10_spread`, the largest difference between two seeds at one budget; `search_s_max`,
the slowest of these searches; `front_50_s`, the time for a front at 50 budgets from 15 to 40 ms, of the slowest seed;
`front_max_regret`, by how much the best of a search for one of these budgets beats the front at most, both with seed 0;
`front_max_regret_median` and `front_max_regret_worst`, likewise over the fronts of all seeds, and
`front_regrets_above_0.0005` the share of their points that are beaten by more; `enumerated_optimal_of_50`, how often in
50 (with `--quick` too) the search finds the true optimum of 729,000 archs under a random network as predictor.
"""

import argparse
import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import dataclasses
import time
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from _common import report

from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.search import Budget, pareto, search
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import MOBILENET_V3, TINY

BUDGETS_MS = (20.0, 25.0, 30.0)
FRONT_MS = np.linspace(15.0, 40.0, 50)
N_CLASSES = 1000


def note10(tables: Path, predictor_file: Path, seeds: int) -> dict[str, float]:
    """Searches over published tables; each latency is from the table of its resolution."""
    from ofa_tf.zoo.note10 import read_note10
    from ofa_tf.zoo.published_predictor import read_published_predictor

    space = dataclasses.replace(MOBILENET_V3, width_mult=1.2)
    files = sorted(tables.glob("*_lookup_table.yaml"))
    if not files:
        raise SystemExit(f"{tables} holds no *_lookup_table.yaml.")
    each = [read_note10(file).costs(space, N_CLASSES) for file in files]
    costs = ArchCosts(space, *(np.minimum.reduce([getattr(c, name) for c in each]) for name in ("fixed", "elastic")))
    predictor = read_published_predictor(predictor_file, space)
    figures, spreads, seconds, cpu_seconds = {}, [], [], []
    for limit in BUDGETS_MS:
        scores = []
        for seed in range(seeds):
            start, cpu_start = time.perf_counter(), time.process_time()
            found = search(space, predictor, [Budget("latency", "ms", costs, limit)], seed=seed)
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
            scores.append(found.score)
        figures[f"note10_{limit:g}ms_worst"] = min(scores)
        figures[f"note10_{limit:g}ms_best"] = max(scores)
        spreads.append(max(scores) - min(scores))
    figures["note10_spread"] = max(spreads)
    figures["search_s_max"] = max(seconds)
    figures["search_s_median"] = float(np.median(seconds))
    figures["search_cpu_s_max"] = max(cpu_seconds)
    single = np.array(
        [search(space, predictor, [Budget("latency", "ms", costs, float(limit))]).score for limit in FRONT_MS]
    )
    regrets, seconds = [], []
    for seed in range(seeds):
        start = time.perf_counter()
        front = pareto(space, predictor, costs, FRONT_MS, seed=seed)
        seconds.append(time.perf_counter() - start)
        regrets.append(single - [front.scores[front.costs <= limit].max() for limit in FRONT_MS])
    worst = np.max(regrets, axis=1)
    figures["front_50_s"] = max(seconds)
    figures["front_50_s_median"] = float(np.median(seconds))
    figures["front_max_regret"] = float(worst[0])
    figures["front_max_regret_median"], figures["front_max_regret_worst"] = float(np.median(worst)), float(worst.max())
    figures["front_mean_regret"] = float(np.mean(regrets[0]))
    figures["front_regrets_above_0.0005"] = float(np.mean(np.array(regrets) > 0.0005))
    return figures


def all_codes(space: SearchSpace) -> np.ndarray:
    """Every arch of a space at its first resolution: codes of shape (archs, genes)."""
    n_expands = len(space.expands)
    codes = np.zeros((1, space.n_genes), np.int32)
    first = 0
    for index, stage in enumerate(space.stages):
        rows = []
        for depth, blocks in enumerate(stage.depths):
            for options in product(range(len(space.kernels) * n_expands), repeat=blocks):
                row = np.zeros(space.n_genes, np.int32)
                row[1 + index] = depth
                for block, option in enumerate(options, start=first):
                    row[space.kernel_genes.start + block], row[space.expand_genes.start + block] = divmod(
                        option, n_expands
                    )
                rows.append(row)
        codes = (codes[:, None] + np.array(rows)).reshape(-1, space.n_genes)
        first += stage.depths[-1]
    return codes


def random_predictor(space: SearchSpace, seed: int, width: int = 64) -> Predictor:
    """A predictor with three layers of random weights."""
    rng = np.random.default_rng(seed)
    n_inputs = space.n_blocks * (len(space.kernels) + len(space.expands)) + len(space.resolutions)
    sizes = (n_inputs, width, width, 1)
    layers = tuple(
        (
            rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out)).astype(np.float32),
            rng.normal(0, 0.1, n_out).astype(np.float32),
        )
        for n_in, n_out in pairwise(sizes)
    )
    return Predictor(space, space.resolutions, (layers,))


def enumerated(runs: int = 50) -> dict[str, float]:
    """How often the search finds the true optimum; seeds, predictors and budgets differ from run to run."""
    space = dataclasses.replace(TINY, resolutions=TINY.resolutions[-1:])
    everything = all_codes(space)
    macs = arch_costs(space, lambda block: block.n_macs / 1e6, 10)
    costs = macs(everything)
    optimal = 0
    for seed in range(runs):
        predictor = random_predictor(space, seed)
        limit = float(np.quantile(costs, (0.1, 0.3, 0.5, 0.7, 0.9)[seed % 5]))
        best = predictor(everything)[costs <= limit].max()
        found = search(space, predictor, [Budget("MACs", "M", macs, limit)], seed=seed)
        optimal += found.costs[0] <= limit and found.score >= best - 1e-6 * abs(best)
    return {"enumerated_optimal_of_50": optimal * 50 / runs, "enumerated_archs": len(everything)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, metavar="DIR", help="folder of published latency tables")
    parser.add_argument("--predictor", type=Path, metavar="FILE", help="published accuracy predictor")
    parser.add_argument("--seeds", type=int, default=10, help="searches per budget (default 10)")
    parser.add_argument("--quick", action="store_true", help="at most ten seeds")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    if options.tables and options.predictor:
        figures |= note10(options.tables, options.predictor, min(options.seeds, 10) if options.quick else options.seeds)
    else:
        print("Without --tables and --predictor only the enumerable part runs.")
    figures |= enumerated()
    report(figures, 0, options.json)


if __name__ == "__main__":
    main()
