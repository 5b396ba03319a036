"""The main job as a user runs it: `ofa-tf demo` in a fresh folder, and how fast the command line answers.

    python benchmarks/main_job.py [--quick] [--json FILE]

Figures of the demo, with three seeds, the worst of each: `demo_distinct_files` of its three;
`demo_accuracy_rise_points`, by how much the int8 accuracy on validation images rises from the smallest budget to the
largest, and `demo_accuracy_step_points`, from one budget to the next; `demo_predictor_spearman`, the rank correlation
of predicted accuracies with those of 30 subnets that the predictor was not fitted to, measured on the validation
images. Of the first seed: `demo_s` and `demo_peak_mb` of the whole process; `traces` of the training step over all
stages; `int8_accuracy_largest` (0 to 1) of the largest of the three files; `prediction_error_worst`, the largest of
|predicted / measured - 1| over the three; `search_s`, what `ofa-tf search` takes in the demo's workdir from the command
to its answer, a median of 5. Without the demo: `help_cpu_s`, the CPU time of `ofa-tf --help` beyond that of the bare
interpreter, a median. `--quick` leaves the demo out.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _common import COMMAND, report, run_timed

SEEDS = (0, 1, 2)
UNSEEN, UNSEEN_SEED = 30, 1000


def cpu_seconds(*command: str) -> float:
    """CPU time of a process."""
    return run_timed(command, stdout=subprocess.DEVNULL)[1]


def help_seconds(rounds: int = 11) -> float:
    """Median over interleaved rounds of `--help` minus the bare interpreter."""
    return statistics.median(
        cpu_seconds(COMMAND, "--help") - cpu_seconds(sys.executable, "-c", "pass") for _ in range(rounds)
    )


def run_demo(workdir: str, seed: int) -> dict[str, Any]:
    """Runs the demo in a fresh folder; returns what it prints."""
    command = [COMMAND, "demo", "--json", "--workdir", workdir, "--seed", str(seed)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def trade_off(workdir: str, seed: int, exports: list[dict[str, Any]]) -> dict[str, float]:
    """How much a larger budget buys, and how well the predictor ranks."""
    from ofa_tf.accuracy.collect import JOURNAL, balanced_archs, read_journal
    from ofa_tf.project.evaluator import make_evaluator
    from ofa_tf.project.opened import open_existing
    from ofa_tf.project.predictor import show
    from ofa_tf.statistics import spearman

    accuracies = [export["int8_accuracy"] for export in sorted(exports, key=lambda export: export["budget_ms"])]
    project = open_existing(workdir)
    space, evaluator = project.config.space, make_evaluator(project)
    seen = {arch for arch, _ in read_journal(project.workdir.accuracy / JOURNAL, space)}
    archs = list(islice((arch for arch in balanced_archs(space, UNSEEN_SEED + seed) if arch not in seen), UNSEEN))
    found = [evaluator.accuracy(arch, project.data.val) for arch in archs]
    return {
        "demo_distinct_files": float(len({Path(export["file"]).read_bytes() for export in exports})),
        "demo_accuracy_rise_points": 100 * (accuracies[-1] - accuracies[0]),
        "demo_accuracy_step_points": 100 * min(high - low for low, high in pairwise(accuracies)),
        "demo_predictor_spearman": spearman(show(project).predictor(space.encode(archs)), np.array(found)),
    }


def demo() -> dict[str, float]:
    """Runs the demo in fresh folders, with each seed."""
    found = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            answer = run_demo(f"{folder}/demo", seed)
            if seed == SEEDS[0]:
                first = of_first(f"{folder}/demo", answer)
            found.append(trade_off(f"{folder}/demo", seed, answer["exports"]))
    return first | {name: min(of_seed[name] for of_seed in found) for name in found[0]}


def of_first(workdir: str, answer: dict[str, Any]) -> dict[str, float]:
    """Time, memory and accuracies of one demo."""
    search = [COMMAND, "search", "--latency", "1000", "--workdir", workdir]
    search_s = statistics.median(run_timed(search, stdout=subprocess.DEVNULL)[0] for _ in range(5))
    exports = answer["exports"]
    return {
        "demo_s": answer["seconds"],
        "demo_peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3,
        "traces": answer["traces"],
        "int8_accuracy_largest": max(exports, key=lambda export: export["n_macs"])["int8_accuracy"],
        "prediction_error_worst": max(abs(e["predicted_ms"] / e["measured_ms"] - 1) for e in exports),
        "search_s": search_s,
    }


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave the demo out")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args()
    figures = {} if options.quick else demo()
    figures["help_cpu_s"] = help_seconds()
    report(figures, seed=0, json_file=options.json)


if __name__ == "__main__":
    main()
