"""Nothing is lost: a training that is killed again and again ends as one that never was.

    python benchmarks/resume.py [--quick] [--json FILE]

Trains all four stages of the `tiny` space on the bundled digits, with dropout, in processes that are killed (SIGKILL)
at random moments, until one reaches the end; the next one goes on. Every third time the newest checkpoint is cut short
before it does. `kills`: how many processes died. `bit_identical`: 1 if all weights and momenta at the end of every
stage are those of a run that was left alone, to the last bit.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from _common import report

from ofa_tf.training.recipe import RECIPES, STAGES

PROGRAM = """
import sys
from ofa_tf.training import trainer
from ofa_tf.cli.main import main
trainer.SECONDS_BETWEEN_CHECKPOINTS = 1
main()
"""


def write_recipe(path: Path, epochs: float) -> None:
    """The demo's recipe, shorter, with dropout."""
    demo = RECIPES["demo"]
    phases = tuple(replace(phase, epochs=epochs, warmup_epochs=0.5) for phase in demo.phases)
    recipe = replace(demo, name="resume", phases=phases, dropout=0.2, evaluations=2)
    path.write_text(json.dumps({"schema": 1, **recipe.to_document()}))


def start(workdir: Path, recipe: Path) -> subprocess.Popen:
    """A training, in a separate process."""
    command = [sys.executable, "-c", PROGRAM, "train", "--workdir", str(workdir), "--recipe", str(recipe)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def ends(workdir: Path) -> dict[str, dict[str, np.ndarray]]:
    """The last checkpoint of every stage."""
    found = {}
    for stage in STAGES:
        with np.load(max((workdir / "checkpoints" / stage).glob("step-*.npz"))) as file:
            found[stage] = {name: file[name] for name in file.files}
    return found


def same(first: dict, second: dict) -> bool:
    """Whether all arrays are equal bit for bit."""
    return all(
        first[stage].keys() == second[stage].keys()
        and all(first[stage][name].tobytes() == second[stage][name].tobytes() for name in first[stage])
        for stage in STAGES
    )


def kill_until_done(workdir: Path, recipe: Path, n_kills: int, longest_s: float, rng: random.Random) -> int:
    """Kills so many processes at random moments and lets the last one finish; returns how many died."""
    killed = 0
    while True:
        process = start(workdir, recipe)
        try:
            process.wait(timeout=rng.uniform(1, longest_s) if killed < n_kills else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            checkpoints = sorted((workdir / "checkpoints").glob("*/step-*.npz"), key=lambda path: path.stat().st_mtime)
            if killed % 3 == 0 and len(checkpoints) > 1 and checkpoints[-1].parent == checkpoints[-2].parent:
                content = checkpoints[-1].read_bytes()
                checkpoints[-1].write_bytes(content[: rng.randrange(len(content))])
            print(f"  killed {killed} times, {checkpoints[-1] if checkpoints else 'no checkpoint'}", file=sys.stderr)
            continue
        if process.returncode != 0:
            raise RuntimeError(process.stderr.read() if process.stderr else "")
        return killed


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three kills")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.json"
        write_recipe(recipe, 2 if options.quick else 8)
        began = time.monotonic()
        if start(Path(folder) / "alone", recipe).wait() != 0:
            raise RuntimeError("the training that was left alone failed")
        longest_s = (time.monotonic() - began) / (2 if options.quick else 4)
        kills = kill_until_done(
            Path(folder) / "killed", recipe, 3 if options.quick else 20, longest_s, random.Random(0)
        )
        identical = same(ends(Path(folder) / "alone"), ends(Path(folder) / "killed"))
        shutil.rmtree(folder, ignore_errors=True)
    report({"kills": kills, "bit_identical": int(identical)}, seed=0, json_file=options.json)


if __name__ == "__main__":
    main()
