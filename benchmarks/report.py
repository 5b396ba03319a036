"""How fast the report's page opens.

    python benchmarks/report.py [--points N] [--rounds N] [--quick] [--json FILE]

A workdir of the 20-block `mobilenet_v3` space with N evaluated subnets, a predictor and two tables is made up: its
accuracies and latencies mean nothing, its page is as large as that of a long project. The page is opened from disk in
headless Chromium, each time in a fresh profile. Figures: `report_open_s`, the median time from asking for the page to
its charts drawn and a frame on the screen; `report_open_max_s`, the slowest; `report_write_s`, the time to write
the page, with the search of two fronts; `report_mb`, its size; `points`, those on the front's chart.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
from _common import report
from playwright.sync_api import sync_playwright

from ofa_tf.accuracy.collect import JOURNAL
from ofa_tf.accuracy.predictor import Predictor, features
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.data import Preprocessing
from ofa_tf.latency.table import LatencyTable, distinct_blocks
from ofa_tf.project.report import write_report
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.spaces import MOBILENET_V3
from ofa_tf.training.recipe import RECIPES

SEED = 0
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
POINTS = "Chart.getChart('front-chart').data.datasets.reduce((sum, set) => sum + set.data.length, 0)"
N_TABLES = 2


def make_workdir(folder: Path, n_points: int) -> None:
    """A workdir of `n_points` evaluated subnets in all tables together; nothing in it was measured."""
    rng, space = np.random.default_rng(SEED), MOBILENET_V3
    config = Config(space, None, tuple(f"class {n}" for n in range(10)), Preprocessing(), RECIPES["demo"], SEED)
    workdir = Workdir(folder)
    workdir.create(config)
    covered = space.resolutions[-N_TABLES:]
    codes = space.sample(rng, n_points // N_TABLES)
    codes[:, 0] = rng.integers(len(space.resolutions) - len(covered), len(space.resolutions), len(codes))
    lines = [
        json.dumps({**arch.to_document(), "accuracy": accuracy})
        for arch, accuracy in zip(space.decode(codes), rng.uniform(0.6, 0.8, len(codes)).tolist(), strict=True)
    ]
    workdir.accuracy.mkdir()
    (workdir.accuracy / JOURNAL).write_text("\n".join(lines) + "\n")
    n_inputs = features(space, codes[:1], space.resolutions).shape[1]
    widths = [n_inputs, 64, 1]
    layers = [
        (rng.normal(0, inputs**-0.5, (inputs, outputs)), np.full(outputs, 0.3)) for inputs, outputs in pairwise(widths)
    ]
    FittedPredictor(Predictor(space, space.resolutions, (layers,)), {"rmse_points": 0, "spearman": 0, "pairs": 0}).save(
        workdir.accuracy
    )
    workdir.tables.mkdir()
    blocks = distinct_blocks(space, covered, config.n_classes)
    for number in range(N_TABLES):
        entries = {key: {"median_ms": block.n_macs * 1e-8 * (number + 1), "runs": 1} for key, block in blocks.items()}
        runtime = {"name": "none", "version": "0", "threads": 1, "delegate": "none"}
        table = LatencyTable({"name": f"made-up-{number + 1}"}, runtime, "int8", "modelled", entries)
        table.save(workdir.tables / f"{number}.json")


def open_page(path: Path, rounds: int) -> tuple[list[float], int]:
    """Seconds of each opening, and the number of points on the chart."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("There is no Chromium: on Debian, `apt-get install chromium`.")
    seconds, points = [], 0
    with sync_playwright() as driver:
        for _ in range(rounds):
            browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page()
            start = time.perf_counter()
            page.goto(path.as_uri())
            page.evaluate(DRAWN)
            seconds.append(time.perf_counter() - start)
            points = page.evaluate(POINTS)
            browser.close()
    return seconds, points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_workdir(Path(folder, "work"), arguments.points)
        start = time.perf_counter()
        written = write_report(Path(folder, "work"))
        write_s = time.perf_counter() - start
        seconds, points = open_page(written.path, 3 if arguments.quick else arguments.rounds)
    figures = {
        "report_open_s": statistics.median(seconds),
        "report_open_max_s": max(seconds),
        "report_write_s": write_s,
        "report_mb": written.size_bytes / 1e6,
        "points": points,
    }
    report(figures, SEED, arguments.json)


if __name__ == "__main__":
    main()
