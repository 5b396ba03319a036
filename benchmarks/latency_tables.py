"""How far off latency tables of this machine are, and how long they take.

    python benchmarks/latency_tables.py [--quick | --channels] [--core N] [--json FILE]

For every `<space>_<precision>_<resolution>`, on 40 random subnets that neither entries nor calibration come from,
predicted and measured in the same run: `mape_…`, the mean absolute error as a share of the measured latency;
`within_10pct_…`, the share of the subnets within 10 %; `spearman_…`, the rank correlation; `bias_…`, the mean error,
positive where predicted too slow. `build_s` and `rebuild_s`: `ofa-tf lut build` of the `edge` space at one resolution,
in a workdir that has no converted files yet, and again. `predict_100k_s`: predicting 100,000 archs (median of 5), and
`predict_differences`, how many of 1,000 of them differ in any bit when they are predicted one by one.

With `--channels` only: `channels_build_s` and `channels_rebuild_s`, the same of `edge` with two choices of channels for
each stage; `channels_mape_along` and `channels_spearman_along`, the error on held-out subnets that the second build
measures along with the blocks; and `channels_mape` and `channels_spearman`, the error that `ofa-tf lut validate` finds
afterwards, when the machine may have another speed. `plain_…` is the same of `edge` as it is, in turns with the other.
"""

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from _common import report

from ofa_tf.data import Preprocessing
from ofa_tf.export.block_files import BlockFiles
from ofa_tf.latency.host import HostDevice
from ofa_tf.latency.measure import CALIBRATION_SUBNETS, build_table
from ofa_tf.latency.table import LatencyTable
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import EDGE, MOBILENET_V3
from ofa_tf.training.recipe import RECIPES

N_CLASSES = 1000
HELD_OUT = 40
BUILT_RESOLUTION = 160
CHANNELS = ((16, 24), (32, 40), (64, 80), (88, 112), (120, 160))  # of the stages of `edge`


def errors(space, precision: str, resolution: int, seed: int, host: HostDevice) -> dict[str, float]:
    """Builds and judges one table in one run."""
    table = build_table(
        space,
        N_CLASSES,
        precision,
        host,
        BlockFiles(space, N_CLASSES, precision),
        [resolution],
        CALIBRATION_SUBNETS,
        HELD_OUT,
        passes=1,
        seed=seed,
    )
    name, found = f"{space.name}_{precision}_{resolution}", table.validation
    assert found is not None, "there are held-out subnets"
    print(f"{name}: {table.statistic}, {table.calibration}, {found}", file=sys.stderr)
    return {f"{key}_{name}": found[key] for key in ("mape", "within_10pct", "spearman", "bias")}


def building(folder: Path, space: SearchSpace, *more: str) -> tuple[dict[str, float], LatencyTable]:
    """Seconds of the command, first without and then with converted files, then with `more` options."""
    workdir = Workdir(folder)
    classes = tuple(f"class{n}" for n in range(N_CLASSES))
    workdir.create(Config(space, None, classes, Preprocessing(), RECIPES["demo"], 0))
    seconds = []
    for options in ((), more):
        start = time.perf_counter()
        run_lut(folder, "build", "--resolution", str(BUILT_RESOLUTION), *options)
        seconds.append(time.perf_counter() - start)
    (path,) = workdir.tables.glob("*.json")
    return {"build_s": seconds[0], "rebuild_s": seconds[1]}, LatencyTable.load(path)


def run_lut(folder: Path, *arguments: str) -> None:
    """Runs `ofa-tf lut` in a workdir."""
    command = [sys.executable, "-m", "ofa_tf.cli", "lut", *arguments, "--workdir", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def with_channels() -> dict[str, float]:
    """The figures of `edge` as it is, and with two choices of channels for each stage."""
    stages = tuple(
        dataclasses.replace(stage, channels=channels) for stage, channels in zip(EDGE.stages, CHANNELS, strict=True)
    )
    space = dataclasses.replace(EDGE, name="edge_channels", stages=stages)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = {"plain": Path(name, "plain"), "channels": Path(name, "channels")}
        for which, of in (("plain", EDGE), ("channels", space)):
            seconds, table = building(folders[which], of, "--validate", str(HELD_OUT))
            figures |= {f"{which}_{key}": value for key, value in seconds.items()} | errors_of(which, table, "_along")
        for which, folder in folders.items():
            run_lut(folder, "validate", "--subnets", str(HELD_OUT))
            (path,) = Workdir(folder).tables.glob("*.json")
            figures |= errors_of(which, LatencyTable.load(path))
    return figures


def errors_of(which: str, table: LatencyTable, end: str = "") -> dict[str, float]:
    """The errors that a table was found to have."""
    found = table.validation
    assert found is not None, "it was validated"
    return {f"{which}_{key}{end}": found[key] for key in ("mape", "spearman")}


def predicting(table: LatencyTable) -> dict[str, float]:
    """Seconds for 100,000 archs, and whether they are what single predictions are."""
    costs = table.costs(EDGE, N_CLASSES)
    codes = EDGE.sample(np.random.default_rng(0), 100_000)
    codes[:, 0] = EDGE.resolutions.index(BUILT_RESOLUTION)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        together = costs(codes)
        seconds.append(time.perf_counter() - start)
    alone = np.concatenate([costs(code[None]) for code in codes[:1000]])
    differing = int((alone.view(np.int64) != together[:1000].view(np.int64)).sum())
    return {"predict_100k_s": median(seconds), "predict_differences": differing}


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one table instead of eight")
    parser.add_argument("--channels", action="store_true", help="only the space with choices of channels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of measuring per table")
    parser.add_argument("--core", type=int, help="the processor core to measure on; any, if it is not given")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if options.channels:
        report(with_channels(), options.seed, options.json)
        return
    with tempfile.TemporaryDirectory() as folder:
        figures, table = building(Path(folder, "workdir"), EDGE)
    figures |= predicting(table)
    cores = () if options.core is None else (options.core,)
    host = HostDevice(seconds=options.seconds, cores=cores)
    for space in (EDGE,) if options.quick else (EDGE, MOBILENET_V3):
        for precision in ("int8",) if options.quick else ("int8", "fp32"):
            for resolution in (128,) if options.quick else (128, 192):
                figures |= errors(space, precision, resolution, options.seed, host)
    report(figures, options.seed, options.json)


if __name__ == "__main__":
    main()
