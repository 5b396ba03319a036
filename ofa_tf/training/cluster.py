"""The devices that train one network together, all through `tf.distribute`."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import tensorflow as tf

from ofa_tf.errors import DeviceError, FormatError, TrainingError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.training.recipe import Recipe

STRATEGIES = ("none", "mirrored", "multiworker", "tpu")
EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'
LEAST_COMPUTE_CAPABILITY = (8, 0)  # of a GPU that computes in bfloat16

T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    """Replicas that compute the same archs on different images, and add up their gradients.

    Args:
        strategy: how their variables and sums are kept together.
        worker: number of this process; worker 0, the chief, writes to the workdir.
        n_workers: number of processes.
        static: whether shapes must be known when a function is traced, as on a TPU.
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    n_workers: int = 1
    static: bool = False

    @property
    def chief(self) -> bool:
        """Whether this process writes to the workdir."""
        return self.worker == 0

    @property
    def n_replicas(self) -> int:
        """Replicas in all."""
        return self.strategy.num_replicas_in_sync

    @property
    def n_local(self) -> int:
        """Replicas of this process."""
        return self.n_replicas // self.n_workers

    @property
    def formulation(self) -> str:
        """Formulation of the supernet that the devices can compute."""
        return "masked" if self.static else "sliced"

    def shares(self, recipe: Recipe) -> tuple[int, int]:
        """How many images of a step each replica computes, and how many of these at once.

        Raises:
            FormatError: the batch cannot be shared out evenly.
        """
        share, rest = divmod(recipe.batch, self.n_replicas)
        micro_batch = recipe.micro_batch or share
        if rest or not share or share % micro_batch:
            unit = (recipe.micro_batch or 1) * self.n_replicas
            raise FormatError(
                f"Recipe: `batch` (={recipe.batch}) must be a multiple of {unit}, for {self.n_replicas} replicas"
                + (f" that compute {recipe.micro_batch} images at a time." if recipe.micro_batch else ".")
            )
        return share, micro_batch

    def rows(self, recipe: Recipe) -> range:
        """Which rows of every batch this process prepares."""
        share = recipe.batch // self.n_workers
        return range(self.worker * share, (self.worker + 1) * share)

    def distribute(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Shares out a dataset of this process's batches over its replicas."""

        def split(*arrays):
            return tuple(tf.reshape(a, tf.concat([[self.n_local, -1], tf.shape(a)[1:]], 0)) for a in arrays)

        def make(_: tf.distribute.InputContext) -> tf.data.Dataset:
            if self.n_local == 1:
                return dataset
            shapes = [tf.TensorShape([None, *spec.shape[1:]]) for spec in dataset.element_spec]
            parts = dataset.map(split).unbatch()
            return parts.map(lambda *arrays: tuple(map(tf.ensure_shape, arrays, shapes)))

        return self.strategy.distribute_datasets_from_function(make)

    def supports_bfloat16(self) -> bool:
        """Whether the devices compute in bfloat16 faster than in float32."""
        details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
        capable = [detail.get("compute_capability", (0, 0)) >= LEAST_COMPUTE_CAPABILITY for detail in details]
        return self.static or (bool(capable) and all(capable))

    def chief_first(self, function: Callable[[], T]) -> T:
        """Calls a function in the chief, and once it has returned there in the others, which see what it wrote."""
        if self.chief:
            result = function()
            self.sum(0)
            return result
        self.sum(0)
        return function()

    def sum(self, value: int) -> int:
        """The sum over all processes; waits for them."""
        if self.n_workers == 1:
            return value
        per_replica = self.strategy.run(lambda: tf.constant(value, tf.int64))
        return int(self.strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)) // self.n_local

    def require_same(self, value: int, what: str) -> None:
        """Checks that all processes have the same number.

        Raises:
            TrainingError: they have not.
        """
        if self.sum(value) != value * self.n_workers or self.sum(value**2) != value**2 * self.n_workers:
            raise TrainingError(
                f"The workers do not agree on {what} (worker {self.worker} has {value}): the workdir and the images "
                "must lie on a disk that they share."
            )

    @contextmanager
    def noticing_lost_workers(self) -> Iterator[None]:
        """Turns the error that TensorFlow raises when another worker is gone into one sentence."""
        try:
            yield
        except (tf.errors.OpError, RuntimeError) as error:
            if self.n_workers == 1 or isinstance(
                error, tf.errors.InvalidArgumentError | tf.errors.ResourceExhaustedError
            ):
                raise
            raise TrainingError(
                f"Worker {self.worker} lost the others: start all workers again with the same command, and the run "
                "resumes from the newest checkpoint."
            ) from error


def make_cluster(name: str, progress: Progress = SILENT) -> Cluster:
    """Finds the devices; for several workers, before TensorFlow has been used for anything else.

    Args:
        name: "none" (one device), "mirrored" (all GPUs of this machine), "multiworker" (the machines in `TF_CONFIG`) or
            "tpu".
        progress: where to report that it waits for other workers.

    Raises:
        DeviceError: there are no such devices, or `TF_CONFIG` is not valid.
    """
    if name == "none":
        return Cluster(tf.distribute.get_strategy())
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return Cluster(tf.distribute.MirroredStrategy([device.name for device in devices]))
    if name == "multiworker":
        worker, n_workers = _read_tf_config(os.environ.get("TF_CONFIG"))
        if n_workers > 1:
            progress.note(f"Worker {worker} of {n_workers} waits for the others; Ctrl-C ends it.")
        try:
            with _heard_at_once():
                return Cluster(tf.distribute.MultiWorkerMirroredStrategy(), worker, n_workers)
        except (tf.errors.OpError, RuntimeError) as error:
            raise DeviceError(f"The cluster of TF_CONFIG cannot be joined: {str(error).splitlines()[0]}") from error
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (ValueError, tf.errors.OpError, RuntimeError) as error:
            raise DeviceError(f"`--strategy tpu` finds no TPU: {str(error).splitlines()[0]}") from error
        return Cluster(tf.distribute.TPUStrategy(resolver), static=True)
    raise DeviceError(f"There is no strategy {name!r}: give one of {list(STRATEGIES)}.")


@contextmanager
def _heard_at_once() -> Iterator[None]:
    """Lets Ctrl-C end the process while TensorFlow waits in C++, where Python would not notice it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _read_tf_config(text: str | None) -> tuple[int, int]:
    """Number of this worker, and of all."""
    if not text:
        raise DeviceError(f"`--strategy multiworker` needs the variable TF_CONFIG in every worker, such as {EXAMPLE}")
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        good = set(config["cluster"]) == {"worker"} and task["type"] == "worker"
        good = good and isinstance(workers, list) and all(isinstance(w, str) and ":" in w for w in workers)
        good = good and len(set(workers)) == len(workers)
        good = good and type(task["index"]) is int and 0 <= task["index"] < len(workers)
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise DeviceError(f"TF_CONFIG (={text!r}) must name all workers and this one, such as {EXAMPLE}")
    return task["index"], len(workers)
