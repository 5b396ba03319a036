"""Nothing is lost: commands that are killed again and again end as those that never were.

    python benchmarks/resume.py [--quick] [--kills N] [--only NAME,NAME] [--fixtures DIR] [--json FILE]

First a training: all four stages of the `tiny` space on the bundled digits, with dropout, in processes that are killed
(SIGKILL) at random moments, until one reaches the end; the next one goes on. Every third time the newest checkpoint is
cut short before it does. Then the other commands, in copies of a small workdir that is trained: `train --restart` of a
stage, `export --finetune`, `predictor fit`, `lut build`, `data pack`, `report`, and, with the folder of the published
project's reference numbers, `zoo import`. Every fsync and every rename of theirs takes a third of a second longer and
is where they are killed.

`kills`: how many processes died. `bit_identical`: 1 if all weights and momenta at the end of every stage, and what each
command made that does not depend on the time, are equal to the last bit to those of an undisturbed run. `left_behind`:
files that are there after the killed runs and not after the others.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from _common import report

from ofa_tf.spaces import TINY
from ofa_tf.training.recipe import RECIPES, STAGES

PROGRAM = """
import sys
from ofa_tf.training import trainer
from ofa_tf.cli.main import main
trainer.SECONDS_BETWEEN_CHECKPOINTS = 1
main()
"""


SLOW = """
import os, sys, time
def slowly(function):
    def call(*arguments, **options):
        print("WRITING", file=sys.stderr, flush=True)
        time.sleep(0.3)
        return function(*arguments, **options)
    return call
for name in ("fsync", "rename", "replace"):
    setattr(os, name, slowly(getattr(os, name)))
from ofa_tf.cli.main import main
main()
"""
PUBLISHED, N_CLASSES = "torch_parity/mbv3_w0.25.pth", 10  # of the reference numbers
DONE = "is already a workdir"  # says an import that was done before it was killed
W = ["--workdir", "work"]
ARCH = ["--arch", "work/arch.json"]
COMMANDS = {  # what is killed, and which of its files do not depend on the time
    "train": (["train", *W, "--stage", "width"], ["work/checkpoints/width/*.npz"]),
    "finetune": (
        ["export", *W, *ARCH, "--finetune", "2", "--precision", "fp32", "--name", "own", "--no-gate", "--force"],
        ["work/exports/own/model.tflite", "work/exports/own/labels.txt", "work/finetuned/*/*.npz"],
    ),
    "predictor": (["predictor", "fit", *W, "--archs", "12"], ["work/accuracy/*"]),
    "lut": (["lut", "build", *W, "--resolution", "24"], []),
    "pack": (["data", "pack", "--data", "digits", "--out", "packed", "--shards", "3", "--force"], ["packed/*"]),
    "report": (["report", *W], []),
    "import": (
        ["zoo", "import", "supernet", "../net.pth", "--workdir", "new", "--classes", "names.txt", "--resolution", "64"],
        ["new/checkpoints/*/*.npz", "new/*.json"],
    ),
}
TIMED = ("logs", "block-files", "report.html")  # names, or contents, that differ from run to run


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


def run_slowly(command: list[str], folder: Path, mark: int | None, rng: random.Random) -> tuple[int | None, int]:
    """Runs a command whose writes are slow; kills it in the write of that number.

    Returns:
        Its exit status, None if it was killed, and how many writes were begun.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    writes, said = 0, []
    for line in process.stderr:
        if line.strip() != "WRITING":
            said.append(line)
            continue
        writes += 1
        if writes == mark:
            time.sleep(rng.uniform(0, 0.35))
            process.kill()
            said += process.communicate()[1].splitlines()
            break
    status = process.wait()
    if status == -signal.SIGKILL:
        return None, writes
    if status and not (said and DONE in said[-1]):
        raise RuntimeError(f"{command} failed: {said[-1:]}")
    return 0, writes


def files(folder: Path) -> set[str]:
    """Names of all files, but for those that differ from run to run."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if not any(name in path.parts for name in TIMED)}


def kill_command(name: str, base: Path, folder: Path, n_kills: int, rng: random.Random) -> tuple[bool, int]:
    """Kills one command a number of times; whether it ends as it should, and how many files are left."""
    command, stable = COMMANDS[name]
    undisturbed, killed = folder / f"{name}-undisturbed", folder / f"{name}-killed"
    for place in (undisturbed, killed):
        shutil.copytree(base, place)
    _, n_writes = run_slowly(command, undisturbed, None, rng)
    deaths = 0
    while deaths < n_kills:
        status, _ = run_slowly(command, killed, rng.randint(1, n_writes), rng)
        deaths += status is None
        if status == 0 and deaths < n_kills:  # it was done before its turn came: from the beginning
            shutil.rmtree(killed)
            shutil.copytree(base, killed)
    run_slowly(command, killed, None, rng)
    left = files(killed) - files(undisturbed)
    lost = files(undisturbed) - files(killed)
    made = [path.relative_to(undisturbed) for pattern in stable for path in undisturbed.glob(pattern)]
    good = not lost and all((undisturbed / path).read_bytes() == (killed / path).read_bytes() for path in made)
    print(f"  {name}: {deaths} kills, {n_writes} writes, same: {good}, left behind: {sorted(left)}", file=sys.stderr)
    return good, len(left)


def make_base(folder: Path, recipe: Path) -> Path:
    """A folder with a small workdir that is trained, and the file of an arch."""
    base = folder / "base"
    base.mkdir()
    command = [sys.executable, "-c", PROGRAM, "train", *W, "--recipe", str(recipe)]
    subprocess.run(command, cwd=base, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (base / "work" / "arch.json").write_text(json.dumps({"schema": 1, **TINY.smallest(24).to_document()}))
    (base / "names.txt").write_text("".join(f"class {number}\n" for number in range(N_CLASSES)))
    return base


def kill_commands(
    folder: Path, names: list[str], published: Path | None, n_kills: int, rng: random.Random
) -> tuple[int, bool, int]:
    """Kills, whether all of these commands ended as they should, and files left behind."""
    recipe = folder / "short.json"
    write_recipe(recipe, 0.5)
    base = make_base(folder, recipe)
    if published is not None:
        shutil.copyfile(published, folder / "net.pth")  # one for all copies: the ledger has its address
    untrained = folder / "untrained"
    shutil.copytree(base, untrained)
    ledger = json.loads((untrained / "work" / "ledger.json").read_text())
    del ledger["stages"]["width"]
    (untrained / "work" / "ledger.json").write_text(json.dumps(ledger))
    shutil.rmtree(untrained / "work" / "checkpoints" / "width")
    share = -(-n_kills // len(names))
    found = [kill_command(name, untrained if name == "train" else base, folder, share, rng) for name in names]
    return share * len(names), all(good for good, _ in found), sum(left for _, left in found)


def kill_training(folder: Path, quick: bool) -> tuple[int, bool]:
    """Kills, and whether the training ended as an undisturbed one."""
    recipe = folder / "recipe.json"
    write_recipe(recipe, 2 if quick else 8)
    began = time.monotonic()
    if start(folder / "undisturbed", recipe).wait() != 0:
        raise RuntimeError("the undisturbed training failed")
    longest_s = (time.monotonic() - began) / (2 if quick else 4)
    kills = kill_until_done(folder / "killed", recipe, 3 if quick else 20, longest_s, random.Random(0))
    return kills, same(ends(folder / "undisturbed"), ends(folder / "killed"))


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three kills of the training, one of each command")
    parser.add_argument("--kills", type=int, default=180, metavar="N", help="of the other commands together")
    parser.add_argument("--fixtures", metavar="DIR", help="the published reference numbers, for `zoo import`")
    parser.add_argument("--only", default="", metavar="NAME,NAME", help=f"of {', '.join(COMMANDS)}; no training")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args()
    published = None if options.fixtures is None else Path(options.fixtures, PUBLISHED)
    all_names = [name for name in COMMANDS if name != "import" or published is not None]
    names = list(filter(None, options.only.split(","))) or all_names
    if unknown := sorted(set(names) - set(COMMANDS)):
        parser.error(f"--only: there is no {', '.join(unknown)}, only {', '.join(COMMANDS)}")
    if not set(names) <= set(all_names):
        parser.error("--only import needs --fixtures DIR")
    with tempfile.TemporaryDirectory() as place:
        folder, kills, identical = Path(place), 0, True
        if not options.only:
            kills, identical = kill_training(folder, options.quick)
        more, good, left = kill_commands(
            folder, names, published, len(names) if options.quick else options.kills, random.Random(1)
        )
    figures = {"kills": kills + more, "bit_identical": int(identical and good), "left_behind": left}
    report(figures, seed=0, json_file=options.json)


if __name__ == "__main__":
    main()
