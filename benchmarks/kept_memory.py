"""What a training step gains where the C library keeps the memory that is freed.

    python benchmarks/kept_memory.py [--quick] [--json FILE]

Steps of the stage `width` (three subnets) of the space `photos` at its image sizes, 64 random images each, in processes
of their own, in turns: as ofa-tf sets glibc up, and as it is without that. `step_speedup`: the seconds of a step
without, over those with it, medians. `memory_share`: the most memory of a process with it over that without.
`page_faults_share`: likewise the page faults.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from _common import report

PROGRAM = """
import json, resource, sys, time
from ofa_tf.quiet import load_tensorflow
load_tensorflow()
import numpy as np
from ofa_tf.spaces import PHOTOS
from ofa_tf.supernet import Supernet
from ofa_tf.training.recipe import recipe_for, spans
from ofa_tf.training.sampling import plan_step
from ofa_tf.training.step import TrainingStep
recipe, steps = recipe_for(3000, 90), int(sys.argv[1])
span = spans(recipe, "width", 3000)[-1]
step = TrainingStep(Supernet(PHOTOS, 10), Supernet(PHOTOS, 10), recipe)
rng, times = np.random.default_rng(0), []
for number in range(steps + 2):
    plan = plan_step(PHOTOS, span, (0, 3), number)
    images = rng.normal(size=(64, plan.resolution, plan.resolution, 3)).astype(np.float32)
    labels = rng.integers(10, size=64).astype(np.int32)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    step.run(images, labels, 64, 64, plan.codes, 0.01, True)
    times.append((time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
seconds, faults = zip(*times[2:])
print(json.dumps([sum(seconds), sum(faults), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""
AS_IT_IS = {"MALLOC_PERTURB_": "0"}  # a variable of this kind switches our settings off; this one does nothing else


def run(steps: int, variables: dict[str, str]) -> tuple[float, ...]:
    """Seconds and page faults of some steps, and the most memory of the process."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM, str(steps)]
    out = subprocess.run(command, env=plain | variables, check=True, capture_output=True, text=True).stdout
    return tuple(json.loads(out))


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one turn of few steps")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args()
    turns, steps = (1, 4) if options.quick else (3, 10)
    pairs = [(run(steps, AS_IT_IS), run(steps, {})) for _ in range(turns)]
    shares = [[with_it / without for without, with_it in zip(*pair, strict=True)] for pair in pairs]
    time, faults, memory = (statistics.median(share) for share in zip(*shares, strict=True))
    figures = {"step_speedup": 1 / time, "page_faults_share": faults, "memory_share": memory}
    report(figures, seed=0, json_file=options.json)


if __name__ == "__main__":
    main()
