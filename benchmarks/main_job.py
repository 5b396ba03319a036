"""The main job as a user runs it: `ofa-tf demo` in a fresh folder, and how fast the command line answers.

    python benchmarks/main_job.py [--quick] [--json FILE]

Figures: `demo_s` and `demo_peak_mb` of the whole process; `traces` of the training step over all stages;
`int8_accuracy_largest` (0 to 1) of the largest of the three files on held-out digits; `prediction_error_worst`, the
largest of |predicted / measured - 1| over the three; `search_s`, what `ofa-tf search` takes in the demo's workdir from
the command to its answer, a median of 5; `help_cpu_s`, the CPU time of `ofa-tf --help` beyond that of the
bare interpreter, a median. `--quick` leaves the demo out.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile

from _common import COMMAND, report, run_timed


def cpu_seconds(*command: str) -> float:
    """CPU time of a process."""
    return run_timed(command, stdout=subprocess.DEVNULL)[1]


def help_seconds(rounds: int = 11) -> float:
    """Median over interleaved rounds of `--help` minus the bare interpreter."""
    return statistics.median(
        cpu_seconds(COMMAND, "--help") - cpu_seconds(sys.executable, "-c", "pass") for _ in range(rounds)
    )


def demo() -> dict[str, float]:
    """Runs the demo in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [COMMAND, "demo", "--json", "--workdir", f"{folder}/demo"]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        search = [COMMAND, "search", "--latency", "1000", "--workdir", f"{folder}/demo"]
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
