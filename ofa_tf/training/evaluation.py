"""The true accuracy of a subnet: its batch norm statistics recomputed, then real images through the supernet."""

import copy
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ofa_tf.data import Images, Preprocessing
from ofa_tf.space import Arch
from ofa_tf.supernet import Supernet

CALIBRATION_IMAGES = 2000
RANKING_IMAGES = 500  # where subnets are only compared
BATCH = 200
CACHE_BYTES = 1 << 29


class SubnetEvaluator:
    """Calibrates and runs subnets inside the supernet: one trace each for all archs and resolutions, or none.

    Calibration (Cai et al., ICLR 2020, section 3.3) writes the statistics of one subnet into the supernet's moving
    averages, over those of the one before; `extract` copies them from there.

    What is shared between archs: resized images, and, with `frozen`, what the blocks before the first elastic one make
    of them. These are the same for all archs of a resolution, in calibration and in evaluation; they are a fifth of the
    work on the `tiny` space. All of it is computed as for a single arch, so that accuracies are the same to the bit.

    Args:
        supernet: its weights are used as they are at each call.
        preprocessing: applied to the pixels.
        calibration: training images for batch norm statistics; at most 2,000 of them are used, evenly spread.
        frozen: whether the weights stay what they are at the first call.
        traced: whether to trace a graph that serves all archs; without, operators run one by one, which for a few archs
            of a large space saves half a minute of tracing.
    """

    def __init__(
        self,
        supernet: Supernet,
        preprocessing: Preprocessing,
        calibration: Images,
        frozen: bool = False,
        traced: bool = True,
    ):
        self.supernet = supernet
        self.preprocessing = preprocessing
        self.calibration = calibration.spread(CALIBRATION_IMAGES)
        self.frozen = frozen
        self.traces: Counter[str] = Counter()
        self._statistics = [variable for layer in supernet.shared_layers for variable in layer.non_trainable_variables]
        self._calibrated_at = 0  # the resolution that these are of
        self._resized, self._begun = _Cache(), _Cache()
        images = tf.TensorSpec((None, None, None, 3), tf.uint8)
        begun = tf.TensorSpec((None, None, None, supernet.shared_channels), tf.float32)
        code = tf.TensorSpec((supernet.space.n_genes,), tf.int32)
        momentum = tf.TensorSpec((), tf.float32)
        self._traced = traced

        def graph(function: Callable, *signature: tf.TensorSpec) -> Callable:
            return tf.function(function, input_signature=signature) if traced else function

        self._begin_observing = graph(self._begin_observing_batch, images, momentum)
        self._observe = graph(self._observe_batch, begun, code, momentum)
        self._begin = graph(self._begin_batch, images)
        self._predict = graph(self._predict_batch, begun, code)

    def ranking(self) -> "SubnetEvaluator":
        """An evaluator for comparing subnets, with the same weights and traces; it calibrates on at most 500 images.

        It takes about half the time, and accuracies differ by less than their own errors.
        """
        other = copy.copy(self)
        other.calibration = self.calibration.spread(RANKING_IMAGES)
        other._resized, other._begun = _Cache(), _Cache()
        return other

    def _begin_observing_batch(self, images, momentum):
        return self.supernet.begin(self.preprocessing(images), training=True, momentum=momentum)

    def _observe_batch(self, begun, code, momentum):
        self.traces["calibrate"] += 1
        self.supernet.finish(begun, code, training=True, momentum=momentum)

    def _begin_batch(self, images):
        return self.supernet.begin(self.preprocessing(images))

    def _predict_batch(self, begun, code):
        self.traces["predict"] += 1
        return self.supernet.finish(begun, code)

    def _code(self, arch: Arch) -> np.ndarray | tuple[int, ...]:
        code = self.supernet.space.encode(arch)
        return code if self._traced else tuple(int(gene) for gene in code)

    def calibrate(self, arch: Arch) -> None:
        """Recomputes the batch norm statistics at this arch and its resolution, as the mean over batches.

        A last batch that is smaller counts for as many images as it has.
        """
        code = self._code(arch)
        for begun, momentum in self._begin_calibration(arch.resolution):
            self._observe(begun, code, momentum)
        self._calibrated_at = arch.resolution

    def logits(self, arch: Arch, images: Images) -> np.ndarray:
        """Logits of a calibrated arch: float32 of shape (images, classes)."""
        code = self._code(arch)
        return np.concatenate(
            [self._predict(begun, code).numpy() for begun in self._begin_prediction(images, arch.resolution)]
        )

    def accuracy(self, arch: Arch, images: Images) -> float:
        """Top-1 accuracy (0 to 1) after calibration at this arch."""
        self.calibrate(arch)
        return float((self.logits(arch, images).argmax(1) == images.labels).mean())

    def _begin_calibration(self, resolution: int) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """The start of every calibration at a resolution: per batch what is behind the first block, and the momentum.

        The statistics up to there are set on the way.
        """
        images = self.calibration
        key = (id(images), resolution)
        kept = self._begun.get(key)
        if kept is not None:
            _, batches, statistics = kept
            for variable, value in zip(self._statistics, statistics, strict=True):
                variable.assign(value)
            yield from batches
            return
        batches, seen = [], 0
        for pixels, _ in self._batches(images, resolution):
            momentum = tf.constant(seen / (seen + len(pixels)), tf.float32)
            seen += len(pixels)
            begun = self._begin_observing(pixels, momentum)
            if self._keeps(begun, images):
                batches.append((begun, momentum))
            yield begun, momentum
        if batches:
            statistics = [variable.numpy() for variable in self._statistics]
            self._begun.put(key, (images, batches, statistics), sum(_n_bytes(begun) for begun, _ in batches))

    def _begin_prediction(self, images: Images, resolution: int) -> Iterator[tf.Tensor]:
        """The start of every evaluation at a resolution: what is behind the first block, batch by batch."""
        key = (id(images), resolution, id(self.calibration), self._calibrated_at)
        kept = self._begun.get(key)
        if kept is not None:
            yield from kept[-1]
            return
        batches = []
        for pixels, _ in self._batches(images, resolution):
            begun = self._begin(pixels)
            if self._keeps(begun, images):
                batches.append(begun)
            yield begun
        if batches:
            self._begun.put(key, (images, self.calibration, batches), sum(map(_n_bytes, batches)))

    def _keeps(self, begun: tf.Tensor, images: Images) -> bool:
        return self.frozen and _n_bytes(begun) * len(images) <= CACHE_BYTES * len(begun)

    def _batches(self, images: Images, resolution: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of centre squares; those of the sets used last are kept in memory."""
        n_bytes = len(images) * resolution * resolution * 3
        if n_bytes > CACHE_BYTES:
            return images.batches(BATCH, resolution)
        key = (id(images), resolution)
        kept = self._resized.get(key)
        if kept is None:
            kept = images, images.resized(resolution)
            self._resized.put(key, kept, n_bytes)
        return kept[1].batches(BATCH, resolution)


class _Cache:
    """Values used last, up to `CACHE_BYTES`. A value holds what its key has the `id` of, so that it stays its own."""

    def __init__(self):
        self._entries: OrderedDict[tuple, tuple[Any, int]] = OrderedDict()

    def get(self, key: tuple) -> Any:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: tuple, value: Any, n_bytes: int) -> None:
        self._entries[key] = value, n_bytes
        while sum(size for _, size in self._entries.values()) > CACHE_BYTES:
            self._entries.popitem(last=False)


def _n_bytes(tensor: tf.Tensor) -> int:
    return tensor.dtype.size * int(np.prod(tensor.shape))
