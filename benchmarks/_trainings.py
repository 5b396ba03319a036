"""What `headline.py` and `ablation.py` share: trainings as processes of their own, several at a time.

A job writes its result to `results/NAME.json` of the folder when it is done. A run that was killed goes on: what has a
result is not done again, and a supernet goes on from its newest checkpoint.
"""

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
QUICK_IMAGES = 700  # that count as an epoch
RANDOM_ARCHS = 8


@dataclass(frozen=True)
class Job:
    """A part of the work that runs in a separate process.

    Args:
        name: of its result.
        ready: whether it can begin.
    """

    name: str
    ready: Callable[[], bool] = lambda: True


class Folder:
    """Where the work is done, with a file for every result.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        (path / "results").mkdir(parents=True, exist_ok=True)

    def result_path(self, name: str) -> Path:
        """File of a job's result."""
        return self.path / "results" / f"{name}.json"

    def done(self, name: str) -> bool:
        """Whether a job is done."""
        return self.result_path(name).exists()

    def result(self, name: str) -> Any:
        """What a job found."""
        return json.loads(self.result_path(name).read_text())

    def keep(self, name: str, result: Mapping[str, Any]) -> None:
        """Writes what a job found, whole or not at all."""
        partial = self.result_path(name).with_suffix(".partial")
        partial.write_text(json.dumps(result, indent=1))
        partial.replace(self.result_path(name))

    @contextmanager
    def turn(self, name: str) -> Iterator[bool]:
        """Waits for another process with the same job; yields whether it is still to be done."""
        with open(self.path / "results" / f"{name}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield not self.done(name)


def run_jobs(jobs: Sequence[Job], folder: Folder, at_a_time: int) -> None:
    """Runs the jobs that have no result yet, each as soon as it is ready; each writes a log beside its result.

    On Linux, jobs that run at the same time have processors of their own, so that one takes none from another.

    Raises:
        SystemExit: some failed; the others were done all the same.
    """
    waiting, failed = [job for job in jobs if not folder.done(job.name)], []
    running: dict[str, subprocess.Popen] = {}
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    free = [processors[share::at_a_time] or processors for share in range(at_a_time)]
    shares: dict[str, list[int]] = {}
    while waiting or running:
        for job in [job for job in waiting if job.ready()][: len(free)]:
            waiting.remove(job)
            command = [sys.executable, *sys.argv, "--job", job.name]
            shares[job.name] = share = free.pop()
            with open(folder.result_path(job.name).with_suffix(".log"), "w") as log:
                process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            if share:
                os.sched_setaffinity(process.pid, share)  # long before TensorFlow is loaded and makes its threads
            running[job.name] = process
            print(f"{job.name} begins", file=sys.stderr)
        if not running:
            failed += [job.name for job in waiting]
            break
        time.sleep(0.5)
        for name in [name for name, process in running.items() if process.poll() is not None]:
            good = running.pop(name).returncode == 0
            free.append(shares.pop(name))
            print(f"{name} {'is done' if good else 'FAILED'}, {len(waiting)} jobs wait", file=sys.stderr)
            failed += [] if good else [name]
    if failed:
        raise SystemExit(f"Not done: {', '.join(failed)}; see {folder.path}/results/*.log. Run the command again.")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that both scripts have."""
    parser.add_argument("--data", help="a folder of images or a data set; default cifar10, with --quick digits")
    parser.add_argument("--workdir", type=Path, help="where to work, and to go on; default ofa-tf-benchmark[-quick]")
    parser.add_argument("--space", default="tiny", help="a registered space or a JSON file")
    parser.add_argument("--recipe", help="a recipe; default cifar, with --quick a short demo")
    parser.add_argument("--images", type=int, default=0, help="training images, drawn at random; default all")
    parser.add_argument("--epochs-scale", type=float, default=1.0, help="factor on all epochs of the recipe")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--quick", action="store_true", help="minutes on two cores, for a look at the script itself")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--job", help=argparse.SUPPRESS)


class Setting:
    """What all trainings of a run have in common.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace):
        from ofa_tf.jsonio import read_json
        from ofa_tf.spaces import get_space
        from ofa_tf.training.recipe import RECIPES, Recipe

        self.folder = Folder(options.workdir or Path(f"ofa-tf-benchmark{'-quick' if options.quick else ''}"))
        self.space = get_space(options.space)
        self.spec = options.data or ("digits" if options.quick else "cifar10")
        self.n_images = options.images
        if options.recipe or not options.quick:
            name = options.recipe or "cifar"
            recipe = RECIPES[name] if name in RECIPES else Recipe.from_document(read_json(name), name)
        else:
            recipe = replace(RECIPES["demo"], epoch_images=QUICK_IMAGES)
        scale = options.epochs_scale
        phases = tuple(
            replace(phase, epochs=phase.epochs * scale, warmup_epochs=phase.warmup_epochs * scale)
            for phase in recipe.phases
        )
        self.recipe = replace(recipe, phases=phases, evaluations=0)  # what is measured is measured afterwards
        self.epochs = sum(phase.epochs + phase.warmup_epochs for phase in phases)
        described = {"space": self.space.to_document(), "recipe": self.recipe.to_document()}
        self.document = {"images": self.n_images, **described}
        known = self.folder.path / "setting.json"
        wanted = json.dumps({"data": self.spec, **self.document})
        if not known.exists():
            known.write_text(wanted)
        if known.read_text() != wanted:
            raise SystemExit(f"{known.parent} was begun with other options: name another --workdir.")

    def data(self):
        """The images, decoded once for all jobs; the same training images for all of them."""
        from ofa_tf.data.source import load_data

        with self.folder.turn("data"):
            data = load_data(self.spec, self.space.resolutions[-1], cache=self.folder.path / "cache")
        if not self.n_images:
            return data
        chosen = np.sort(np.random.default_rng(2019).permutation(len(data.train))[: self.n_images])
        return replace(data, train=data.train.take(chosen))

    def workdir(self, name: str):
        """The workdir of a supernet."""
        from ofa_tf.project.workdir import Workdir

        return Workdir(self.folder.path / name)

    def probes(self) -> list:
        """The smallest arch, the largest and eight random ones, at the largest resolution."""
        codes = self.space.sample(np.random.default_rng(2020), RANDOM_ARCHS)
        codes[:, 0] = len(self.space.resolutions) - 1
        top = self.space.resolutions[-1]
        return [self.space.smallest(top), self.space.largest(top), *self.space.decode(codes)]

    def stage_done(self, name: str, stage: str) -> bool:
        """Whether a supernet has a stage behind it."""
        return self.workdir(name).ledger().done(stage)


class Clock:
    """Time since it was made."""

    def __init__(self):
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def read(self) -> dict[str, float]:
        """Seconds of all processors that this process used, and those that passed."""
        return {"cpu_seconds": time.process_time() - self.cpu, "seconds": time.perf_counter() - self.wall}


def train_supernet(setting: Setting, name: str, recipe, seed: int, start: tuple[str, Sequence[str]] = ("", ())) -> dict:
    """Trains a supernet to its end, or goes on with it.

    Args:
        setting: space, images and folder.
        name: of its workdir.
        recipe: the hyper-parameters.
        seed: of everything random.
        start: another supernet and the stages of it to begin with, instead of training them.

    Returns:
        `cpu_seconds` and `seconds` by stage, of those trained here, an interrupted one as if it had not been; and the
        `accuracies` of `Setting.probes` on images that nothing was chosen by.
    """
    from ofa_tf.data import Preprocessing
    from ofa_tf.project.workdir import Config
    from ofa_tf.training.recipe import STAGES
    from ofa_tf.training.trainer import Trainer

    data, workdir = setting.data(), setting.workdir(name)
    config = Config(setting.space, setting.spec, data.classes, Preprocessing(), recipe, seed)
    workdir.create(config)
    other, stages = start
    for stage in stages:
        shutil.copytree(setting.workdir(other).checkpoints(stage), workdir.checkpoints(stage), dirs_exist_ok=True)
        workdir.ledger().record(stage, setting.workdir(other).ledger().stages[stage])
    trainer = Trainer(workdir, config, data)
    spent_file = workdir.path / "spent.json"
    spent = json.loads(spent_file.read_text()) if spent_file.exists() else {"cpu_seconds": {}, "seconds": {}}
    for stage in [stage for stage in STAGES if not trainer.ledger.done(stage)]:
        before = trainer.ledger.stages[stage].step if stage in trainer.ledger.stages else 0
        clock = Clock()
        steps = trainer.train(stage).steps
        for name, seconds in clock.read().items():
            spent[name][stage] = seconds * steps / max(1, steps - before)
        spent_file.write_text(json.dumps(spent))
    evaluator = evaluator_of(setting, workdir, data)
    return spent | {"accuracies": [evaluator.accuracy(arch, data.val) for arch in setting.probes()]}


def evaluator_of(setting: Setting, workdir, data):
    """An evaluator of a trained supernet's subnets."""
    from ofa_tf.data import Preprocessing
    from ofa_tf.supernet import Supernet
    from ofa_tf.training.evaluation import SubnetEvaluator
    from ofa_tf.training.trainer import load_stage

    supernet = Supernet(setting.space, len(data.classes))
    load_stage(workdir, "width", supernet)
    return SubnetEvaluator(supernet, Preprocessing(), data.train)
