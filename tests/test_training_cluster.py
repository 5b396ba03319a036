"""Training on several devices and in several processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cluster_program
import numpy as np
import pytest
import tensorflow as tf
from cluster_program import CLUSTER_CONFIG
from small_project import make_data

from ofa_tf.errors import DeviceError, FormatError, TrainingError
from ofa_tf.project.workdir import Workdir
from ofa_tf.training import checkpoint
from ofa_tf.training.cluster import Cluster, make_cluster
from ofa_tf.training.trainer import Trainer

RECIPE = CLUSTER_CONFIG.recipe


def start(folder: Path, strategy: str, *rest, worker: int = 0, workers=()) -> subprocess.Popen:
    """One process of a cluster."""
    workdir, losses = folder / "work", folder / f"losses{worker}"
    Workdir(workdir).path.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    if workers:
        task = {"type": "worker", "index": worker}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": list(workers)}, "task": task})
    command = [sys.executable, cluster_program.__file__, workdir, strategy, losses, *rest]
    return subprocess.Popen(list(map(str, command)), env=environment, stderr=subprocess.PIPE, text=True)


def addresses(n: int) -> list[str]:
    """Addresses on loopback that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    found = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return found


def finish(process: subprocess.Popen, status: int = 0) -> str:
    """Waits for a process and tells what it said."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == status, said[-3000:]
    return said


def losses_of(path: Path) -> dict:
    """Losses and archs by stage and step; of a step that was done twice, the later ones."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {(stage, step): (losses, codes) for stage, step, losses, codes in lines}


def final_weights(folder: Path) -> dict:
    with np.load(checkpoint.checkpoint_path(folder / "work" / "checkpoints" / "depth", 6)) as file:
        return {name: file[name] for name in file.files}


def assert_same(folder: Path, other: Path, workers: int = 1) -> None:
    """The same archs, and losses and weights to 1e-4."""
    expected = losses_of(other / "losses0")
    assert len(expected) == 3 + 2 + 6
    for worker in range(workers):
        found = losses_of(folder / f"losses{worker}")
        assert found.keys() == expected.keys()
        for place, (losses, codes) in found.items():
            assert codes == expected[place][1]
            np.testing.assert_allclose(losses, expected[place][0], rtol=1e-4)
    weights, expected_weights = final_weights(folder), final_weights(other)
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        np.testing.assert_allclose(weight, expected_weights[name], rtol=0, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a run in one process."""
    folder = tmp_path_factory.mktemp("alone")
    finish(start(folder, "none"))
    return folder


def test_two_workers_of_which_one_is_killed_end_as_one_process_does(alone, tmp_path):
    workers = addresses(2)
    chief = start(tmp_path, "multiworker", worker=0, workers=workers)
    other = start(tmp_path, "multiworker", "depth", 3, worker=1, workers=workers)
    finish(other, -signal.SIGKILL)
    said = finish(chief, 2).splitlines()
    assert said[-1] == (
        "Worker 0 lost the others: start all workers again with the same command, and the run resumes from the newest "
        "checkpoint."
    )
    steps = checkpoint.steps(tmp_path / "work" / "checkpoints" / "depth")
    assert steps[-1] in (2, 3)
    workers = addresses(2)
    for process in [start(tmp_path, "multiworker", worker=index, workers=workers) for index in (0, 1)]:
        finish(process)
    assert_same(tmp_path, alone, workers=2)
    lines = (tmp_path / "losses1").read_text().splitlines()
    assert 11 <= len(lines) <= 12, "it went on where it was"


def test_two_devices_end_as_one_does(alone, tmp_path):
    finish(start(tmp_path, "mirrored"))
    assert_same(tmp_path, alone)


MIXED_RESOLUTIONS = """
import sys
from dataclasses import replace
import numpy as np, tensorflow as tf
from cluster_program import SPACE, RECIPE
from ofa_tf.supernet import Supernet
from ofa_tf.training.cluster import make_cluster
from ofa_tf.training.step import IMAGES, LABELS, TrainingStep

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
cluster = make_cluster(sys.argv[1])
phases = tuple(replace(phase, subnets=3) for phase in RECIPE.phases)
recipe = replace(RECIPE, sampling="sandwich", batch=8, micro_batch=4, phases=phases)
rng = np.random.default_rng(0)
images, labels = rng.normal(size=(8, 32, 32, 3)).astype(np.float32), rng.integers(3, size=8).astype(np.int32)
dataset = tf.data.Dataset.from_generator(lambda: [(images, labels)], output_signature=(IMAGES, LABELS))
dataset = cluster.distribute(dataset)
codes = SPACE.sample(rng, 3)
codes[:, 0] = 1, 0, 0
with cluster.strategy.scope():
    step = TrainingStep(Supernet(SPACE, 3), Supernet(SPACE, 3), recipe, cluster.strategy, dataset.element_spec)
    for images, labels in dataset:
        for _ in range(2):
            print(*step.run(images, labels, cluster.shares(recipe)[0], 4, codes, 0.01, True))
    assert step.traces == {"resize": 1, "accumulate": 1, "apply": 1}, step.traces
"""


def test_two_devices_resize_their_images_as_one_does(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(MIXED_RESOLUTIONS)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parent)}
    losses = []
    for strategy in ("none", "mirrored"):
        command = [sys.executable, str(program), strategy]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        losses.append(np.array([line.split() for line in done.stdout.splitlines()], float))
    assert losses[0].shape == (2, 3)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_ctrl_c_ends_a_worker_that_waits_for_others(tmp_path):
    ours, absent = addresses(2)
    config = {"cluster": {"worker": [ours, absent]}, "task": {"type": "worker", "index": 0}}
    process = subprocess.Popen(
        [sys.executable, "-m", "ofa_tf.cli", "train", "--workdir", tmp_path / "work", "--strategy", "multiworker"],
        env={**os.environ, "TF_CONFIG": json.dumps(config)}, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        assert process.stderr.readline() == "Worker 0 of 2 waits for the others; Ctrl-C ends it.\n"
        time.sleep(3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) in (-signal.SIGINT, 130)
    finally:
        process.kill()
    assert not (tmp_path / "work").exists()


# --- what cannot work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        {"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}},
        {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": True}},
        {"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}},
    ],
)
def test_a_cluster_that_is_not_described_is_refused(monkeypatch, config):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(DeviceError, match="TF_CONFIG") as error:
        make_cluster("multiworker")
    assert '"task": {"type": "worker", "index": 0}}' in str(error.value)


def test_without_a_tpu_there_is_one_sentence():
    with pytest.raises(DeviceError, match="`--strategy tpu` finds no TPU"):
        make_cluster("tpu")


def test_a_strategy_that_does_not_exist_is_refused():
    with pytest.raises(DeviceError, match="no strategy 'all'"):
        make_cluster("all")


class FakeStrategy:
    """As many replicas as there are not here."""

    num_replicas_in_sync = 8


@pytest.mark.parametrize(
    ("batch", "micro", "good"),
    [(64, 0, 8), (60, 0, None), (64, 8, 8), (128, 16, 16), (64, 16, None), (96, 8, None), (4, 0, None)],
)
def test_a_batch_is_shared_out_evenly_or_refused(batch, micro, good):
    cluster, recipe = Cluster(FakeStrategy(), 1, 4), replace(RECIPE, batch=batch, micro_batch=micro)
    if good is None:
        with pytest.raises(FormatError, match=rf"`batch` \(={batch}\) must be a multiple of"):
            cluster.shares(recipe)
    else:
        assert cluster.shares(recipe) == (good, micro or good)
        assert cluster.rows(recipe) == range(batch // 4, batch // 2)


class Disagreeing(Cluster):
    """Two workers, of which the other always has 0."""

    def sum(self, value):
        return value


def test_workers_that_see_different_workdirs_are_refused():
    cluster = Disagreeing(tf.distribute.get_strategy(), 1, 2)
    with pytest.raises(TrainingError, match=r"do not agree on the step \(worker 1 has 3\).*disk that they share"):
        cluster.require_same(3, "the step")
    cluster.require_same(0, "the step")


def test_a_trainer_refuses_a_batch_before_it_builds_anything(tmp_path):
    config = replace(CLUSTER_CONFIG, recipe=replace(RECIPE, batch=24))
    with pytest.raises(FormatError, match="multiple of 64, for 8 replicas that compute 8 images at a time"):
        Trainer(Workdir(tmp_path), config, make_data(), cluster=Cluster(FakeStrategy()))
