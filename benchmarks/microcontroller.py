"""How well the RAM of microcontrollers is predicted, and whether a search keeps to it.

    python benchmarks/microcontroller.py [--subnets N] [--spaces tiny,photos,edge] [--cache DIR] [--part PART]
                                         [--quick] [--json FILE]

Random subnets, as many at the smallest as at the largest resolution of each space, are converted with fresh weights,
get a plan of their memory as every export for a microcontroller does, and run in TensorFlow Lite Micro (`pip install
tflite-micro`), which says how large its arena is. DIR keeps the files from one run to the next.

`ram_worst_error` and `ram_mean_error` are shares of the true arena, `ram_below_truth_worst` how far a prediction lies
below it at most (0 where none does). `tflm_agreement_min` is the smallest share, over all files, of random images that
TensorFlow Lite Micro and LiteRT's reference kernels put into the same class, with outputs that differ by at most one
step of quantisation.
`ram_plan_saving_mean` and `_most` are what the plan saves of the activations against the interpreter's own planner.
`ram_predict_100k_s` is the time for the arenas of 100,000 archs of `edge`, the median of 5.
`mcu_enumerated_optimal_of_50` is how often in 50 a search finds the true optimum of 18,252 archs, under a random
network as predictor, within budgets of RAM, file size and latency together; latencies are random multiples of MACs.
"""

import argparse
import dataclasses
import time
from itertools import product
from pathlib import Path

import numpy as np
from _common import report

from ofa_tf.arena import arena_costs, arena_size
from ofa_tf.blocks import walk
from ofa_tf.costs import arch_costs
from ofa_tf.search import Budget, search
from ofa_tf.search.file_size import size_costs
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import get_space

N_CLASSES = 10
IMAGES = 4
SEEDS = 50


def arenas(names: list[str], subnets: int, cache: Path | None, seed: int) -> dict[str, float]:
    """Predicted arenas against those of TensorFlow Lite Micro."""
    from ofa_tf.export.block_files import BlockFiles

    errors, agreements, savings = [], [], []
    share = -(-subnets // (2 * len(names)))
    for name in names:
        space = get_space(name)
        for resolution in (space.resolutions[0], space.resolutions[-1]):
            rng = np.random.default_rng([seed, resolution])
            codes = space.sample(rng, share)
            codes[:, 0] = space.resolutions.index(resolution)
            archs = space.decode(space.canonical(codes))
            for arch, content in zip(archs, BlockFiles(space, N_CLASSES, "int8", cache).convert(archs), strict=True):
                predicted = arena_size(walk(space, arch, N_CLASSES)).total_bytes
                shape = (IMAGES, 1, resolution, resolution, 3)
                stored = rng.integers(-128, 128, shape, dtype=np.int8)
                arena_bytes, agreement, saving = run(content, stored)
                errors.append(predicted / arena_bytes - 1)
                agreements.append(agreement)
                savings.append(saving)
            print(f"{name} at {resolution} px: worst error {np.abs(errors[-share:]).max():.2%}", flush=True)
    return {
        "ram_subnets": len(errors),
        "ram_worst_error": float(np.abs(errors).max()),
        "ram_mean_error": float(np.abs(errors).mean()),
        "ram_below_truth_worst": float(max(0.0, -min(errors))),
        "tflm_agreement_min": min(agreements),
        "ram_plan_saving_mean": float(np.mean(savings)),
        "ram_plan_saving_most": max(savings),
    }


def run(content: bytes, stored: np.ndarray) -> tuple[int, float, float]:
    """The arena of a file with its plan, its agreement with LiteRT, and what the plan saves of the activations."""
    from ofa_tf.micro.interpreter import run_in_micro, run_reference
    from ofa_tf.micro.plan import greedy_peak, most_at_once, read_buffers, with_plan

    buffers = read_buffers(content)
    planned = with_plan(content)
    found = run_in_micro(planned, stored)
    expected = run_reference(planned, stored).reshape(len(stored), -1).astype(int)
    outputs = found.outputs.reshape(len(stored), -1).astype(int)
    same = (outputs.argmax(1) == expected.argmax(1)) & (np.abs(outputs - expected).max(1) <= 1)
    return found.arena_bytes, float(same.mean()), 1 - most_at_once(buffers) / greedy_peak(buffers)


def prediction_time(seed: int) -> dict[str, float]:
    """Seconds for the arenas of 100,000 archs."""
    space = get_space("edge")
    costs = arena_costs(space, N_CLASSES)
    codes = space.sample(np.random.default_rng(seed), 100_000)
    costs(codes[:100])
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        costs(codes)
        seconds.append(time.perf_counter() - start)
    return {"ram_predict_100k_s": float(np.median(seconds))}


def optima() -> dict[str, float]:
    """How often a search under three budgets finds the optimum of a space that can be enumerated."""
    tiny = get_space("tiny")
    space = dataclasses.replace(tiny, stages=tiny.stages[:2], kernels=(3, 5), resolutions=(24, 28, 32), name="small")
    ranges = [range(size) for size in space.gene_sizes]
    everything = np.unique(space.canonical(np.array(list(product(*ranges)), np.int32)), axis=0)
    ram, size = arena_costs(space, N_CLASSES), size_costs(space, N_CLASSES, "int8")
    found = sum(optimal(space, everything, ram, size, seed) for seed in range(SEEDS))
    return {"mcu_enumerated_archs": len(everything), "mcu_enumerated_optimal_of_50": found}


def optimal(space: SearchSpace, everything: np.ndarray, ram, size, seed: int) -> bool:
    """Whether a search finds the best of all archs within random budgets."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(space.n_genes, 24)) / np.sqrt(space.n_genes), rng.normal(size=24)

    def score(codes: np.ndarray) -> np.ndarray:
        genes = codes / np.maximum(space.gene_sizes - 1, 1) + 0.3 * space.active(codes).sum(1, keepdims=True)
        return np.tanh(genes @ first) @ second + 0.05 * genes.sum(1)

    speeds = dict(zip(("conv", "mbconv", "pool", "linear"), rng.uniform(0.5, 2, 4), strict=True))
    latency = arch_costs(space, lambda block: block.n_macs / 1e6 * speeds[block.kind] + 0.01, N_CLASSES)
    budgets = [
        Budget(name, unit, costs, float(np.quantile(costs(everything), rng.uniform(0.3, 0.7))))
        for name, unit, costs in (("peak RAM", "bytes", ram), ("file size", "bytes", size), ("latency", "ms", latency))
    ]
    within = np.logical_and.reduce([budget.costs(everything) <= budget.limit for budget in budgets])
    best = score(everything[within]).max()
    return bool(np.isclose(search(space, score, budgets, seed=seed).score, best, rtol=0, atol=1e-12))


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subnets", type=int, default=200)
    parser.add_argument("--spaces", default="tiny,photos,edge")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--part", choices=("all", "ram", "search"), default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="12 subnets")
    parser.add_argument("--json")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    if options.part != "ram":
        figures |= prediction_time(options.seed) | optima()
    if options.part != "search":
        subnets = 12 if options.quick else options.subnets
        figures |= arenas(options.spaces.split(","), subnets, options.cache, options.seed)
    report(figures, options.seed, options.json)


if __name__ == "__main__":
    main()
