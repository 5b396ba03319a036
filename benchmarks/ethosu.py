"""How well tables and linter of an Ethos-U agree with its compiler, Vela, which runs here.

    python benchmarks/ethosu.py [--device NAME] [--space NAME] [--tables] [--cache DIR] [--quick] [--json FILE]
                                [--only lint|table] [--converted] [--at-hand]

Nothing is measured: Vela estimates. Figures:

- `ethosu_mape` and `ethosu_spearman`: the table of a space (default `tiny`) against Vela's estimate for 40 held-out
  whole subnets (`--quick`: 6, and 8 instead of 24 to calibrate with, at the smallest resolution). Files of whole
  subnets are put together from those of their blocks, unless `--converted` has them converted as `lut build` does.
- `ethosu_stitched_worst`: the largest difference that this makes to Vela's estimate, of those subnets of the
  calibration whose converted files are in the cache (`--cache`); `ethosu_stitched_files`: how many those were.
- `ethosu_linter_agreement`: the share of 200 files (`--quick`: 40) for which the linter names the same kinds and
  numbers of operators on the CPU as Vela does. Three fifths are blocks of all spaces as they are converted, the others
  such blocks made illegal in the ways of `_illegal_files.py`; `ethosu_illegal_ways`: how many ways those were.

`--tables` writes the table in `lut/`. `--cache` keeps converted files for the next run, and `--at-hand` takes the legal
files only from there, so that none is converted.
"""

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np
from _common import report
from _illegal_files import WAYS, make_illegal
from _stitched import StitchedFiles, as_converted, with_classes

from ofa_tf.ethosu.device import EthosUDevice
from ofa_tf.ethosu.lint import lint
from ofa_tf.ethosu.targets import DEFAULT_NAME, parse_target
from ofa_tf.ethosu.vela import ABSENT, Vela, find_vela
from ofa_tf.export.block_files import BlockFiles
from ofa_tf.latency.device import Workload
from ofa_tf.latency.measure import build_table, entry, sample_subnets
from ofa_tf.latency.store import SHIPPED, table_name
from ofa_tf.latency.table import LatencyTable, distinct_blocks
from ofa_tf.progress import Progress
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import SPACES, get_space

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SEED = 0
N_CLASSES = 10
CLASSES = (*range(2, 33), 50, 100, 1000)  # of the classifiers in a table that comes with the package
LEGAL_SHARE = 0.6


class Printing(Progress):
    """Notes as they come."""

    def note(self, text: str) -> None:
        print(text, flush=True)


def make_table(
    device: EthosUDevice, space: SearchSpace, cache: Path, quick: bool, converted: bool
) -> tuple[LatencyTable, dict[str, float]]:
    """The table of a space with its error on held-out subnets, and how far off files that are put together are."""
    files = BlockFiles(space, N_CLASSES, "int8", cache)
    resolutions, n_calibration = space.resolutions[:1] if quick else space.resolutions, 8 if quick else 24
    table = build_table(
        space,
        N_CLASSES,
        "int8",
        device,
        files if converted else StitchedFiles(files),
        resolutions=resolutions,
        calibration_subnets=n_calibration,
        validation_subnets=6 if quick else 40,
        passes=1,
        seed=SEED,
        progress=Printing(),
        source="modelled",
    )
    rng = np.random.default_rng([SEED, 5])  # that of `build_table`
    archs = space.decode(sample_subnets(space, resolutions, n_calibration, rng))
    whole = {arch: content for arch in archs if (content := files.kept(arch)) is not None}
    if not whole:
        return table, {}
    stitched = StitchedFiles(files).convert(list(whole))
    timings = device.measure([Workload(content) for content in (*whole.values(), *stitched)])
    found_ms = np.array([timing.percentile_ms(50) for timing in timings]).reshape(2, -1)
    worst = float(np.abs(found_ms[1] / found_ms[0] - 1).max())
    return table, {"ethosu_stitched_worst": worst, "ethosu_stitched_files": len(whole)}


def add_classes(table: LatencyTable, device: EthosUDevice, space: SearchSpace, cache: Path) -> LatencyTable:
    """The table with classifiers of other numbers of classes."""
    files = BlockFiles(space, N_CLASSES, "int8", cache)
    more: dict[str, bytes] = {}
    for n_classes in CLASSES:
        for key, block in distinct_blocks(space, space.resolutions, n_classes).items():
            if key not in table.entries:  # a classifier, the only block that depends on the number of classes
                (content,) = files.convert([dataclasses.replace(block, out_channels=N_CLASSES)])
                more[key] = with_classes(content, n_classes)
    timings = device.measure([Workload(content) for content in more.values()])
    return dataclasses.replace(table, entries={**table.entries, **dict(zip(more, map(entry, timings), strict=True))})


def write_table(table: LatencyTable, space: SearchSpace) -> None:
    """Writes a table that comes with the package, under its name and that of its space."""
    path = SHIPPED / table_name(table.device, table.runtime, table.precision).replace("__int8", f"__int8-{space.name}")
    table.save(path)
    print(f"written to {path}")


def legal_files(n: int, cache: Path, at_hand: bool) -> list[bytes]:
    """Files of random blocks, as they are converted, from all registered spaces in turn."""
    rng, chosen = np.random.default_rng([SEED, 1]), []
    for space in SPACES.values():
        files = BlockFiles(space, N_CLASSES, "int8", cache)
        blocks = {
            block.key: block
            for block in map(as_converted, distinct_blocks(space, space.resolutions, N_CLASSES).values())
        }
        if at_hand:
            blocks = {key: block for key, block in blocks.items() if files.kept(block) is not None}
        turns = rng.permutation(len(blocks))
        chosen += [(turn, space, block) for turn, block in zip(turns, blocks.values(), strict=True)]
    chosen = sorted(chosen, key=lambda row: row[0])[:n]
    found = []
    for space in SPACES.values():
        ours = [block for _, of, block in chosen if of is space]
        found += BlockFiles(space, N_CLASSES, "int8", cache).convert(ours)
        print(f"{space.name}: {len(ours)} blocks", flush=True)
    return found


def agreement(device: EthosUDevice, n: int, cache: Path, at_hand: bool) -> tuple[float, int]:
    """The share of files on which linter and Vela agree, and the number of ways in which files were made illegal."""
    legal = legal_files(round(n * LEGAL_SHARE), cache, at_hand)
    ways = [list(WAYS)[index % len(WAYS)] for index in range(n - len(legal))]
    step = max(1, len(legal) // max(1, len(ways)))
    illegal = [make_illegal(legal[index * step % len(legal)], way) for index, way in enumerate(ways)]
    names = ["legal"] * len(legal) + ways
    files, agreed, wrongly_legal = [*legal, *illegal], 0, 0
    compiled = device.vela.compile_all(files, device.target, Printing())
    for name, content, item in zip(names, files, compiled, strict=True):
        ours, theirs = lint(content, device.target.name).on_cpu, item.report.on_cpu
        agreed += ours == theirs
        wrongly_legal += name != "legal" and not theirs
        if ours != theirs:
            print(f"{name}: the linter says {ours}, Vela {theirs}")
    print(f"{len(legal)} legal files, {len(illegal)} made illegal, {wrongly_legal} of them are legal for Vela")
    return agreed / len(files), len(set(ways))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=DEFAULT_NAME, metavar="NAME", help="an Ethos-U")
    parser.add_argument("--space", default="tiny", metavar="NAME", help="the space of the table")
    parser.add_argument("--tables", action="store_true", help="write the table that comes with the package")
    parser.add_argument("--converted", action="store_true", help="convert whole subnets, too")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep converted files there")
    parser.add_argument("--at-hand", action="store_true", help="lint only blocks whose files are in the cache")
    parser.add_argument("--only", choices=("lint", "table"), help="one half of the figures")
    parser.add_argument("--quick", action="store_true", help="fewer subnets and files")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    program = find_vela()
    if program is None:
        parser.error(ABSENT)
    device = EthosUDevice(parse_target(options.device), Vela(program))
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        if options.only != "lint":
            space = get_space(options.space)
            table, stitched = make_table(device, space, cache, options.quick, options.converted)
            assert table.validation is not None
            print(table.label)
            print(table.error_sentence)
            print(table.calibration)
            figures |= {"ethosu_mape": table.validation["mape"], "ethosu_spearman": table.validation["spearman"]}
            figures |= stitched
            if options.tables:
                write_table(add_classes(table, device, space, cache), space)
        if options.only != "table":
            share, ways = agreement(device, 40 if options.quick else 200, cache, options.at_hand)
            figures |= {"ethosu_linter_agreement": share, "ethosu_illegal_ways": ways}
    report(figures, SEED, options.json, {"modelled by": device.facts()["modelled_by"], "device": options.device})


if __name__ == "__main__":
    main()
