"""Trains `full`, `kernel` and `depth` of the small project in one process of a cluster; keeps the loss of each step.

`cluster_program.py WORKDIR STRATEGY LOSSES [STAGE STEP]`: losses are added to the file LOSSES as JSON lines; at step
STEP of STAGE the process kills itself. With the strategy "mirrored" there are two logical CPUs.
"""

import json
import os
import signal
import sys
from dataclasses import replace

import tensorflow as tf
from small_project import CONFIG, RECIPE, Hook, make_data

from ofa_tf.errors import OfaError
from ofa_tf.project.workdir import Workdir
from ofa_tf.spaces import TINY
from ofa_tf.training import trainer as trainer_module
from ofa_tf.training.cluster import make_cluster
from ofa_tf.training.step import TrainingStep
from ofa_tf.training.trainer import Trainer

STAGES = ("full", "kernel", "depth")
SPACE = replace(TINY, name="small", stages=TINY.stages[:2], kernels=(3, 5), expands=(3, 4), resolutions=(24, 32))
# Rounding grows a hundredfold with each step at the small project's learning rate.
PHASES = tuple(replace(phase, base_lr=phase.base_lr / 10) for phase in RECIPE.phases)
CLUSTER_CONFIG = replace(CONFIG, space=SPACE, recipe=replace(RECIPE, phases=PHASES, micro_batch=8, dropout=0.1))


def main(path: str, strategy: str, losses: str, stage: str = "", last_step: str = "0") -> None:
    """Trains; ends with status 2 and the error's sentence where the library refuses."""
    trainer_module.SECONDS_BETWEEN_CHECKPOINTS = 0
    run = TrainingStep.run
    if strategy == "mirrored":
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

    def run_and_note(step, *arguments):
        number = int(step.iterations.numpy())
        found = run(step, *arguments)
        with open(losses, "a") as file:
            file.write(json.dumps([name, number, found.tolist(), arguments[4].tolist()]) + "\n")
        return found

    def die(step):
        if (name, step) == (stage, int(last_step)):
            os.kill(os.getpid(), signal.SIGKILL)

    TrainingStep.run = run_and_note
    cluster = make_cluster(strategy)
    trainer = Trainer(Workdir(path), CLUSTER_CONFIG, make_data(), Hook(die), cluster)
    try:
        for name in STAGES:
            if not trainer.ledger.done(name):
                trainer.train(name)
    except OfaError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    assert trainer.traces == {"teacher": 1, "accumulate": 1, "apply": 1}, trainer.traces


if __name__ == "__main__":
    main(*sys.argv[1:])
