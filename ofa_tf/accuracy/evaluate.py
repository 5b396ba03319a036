"""The true accuracy of a subnet: its batch norm statistics recomputed, then real images through the supernet."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from ofa_tf.data import Images, ImageSet, Preprocessing
from ofa_tf.space import Arch
from ofa_tf.supernet import Supernet

CALIBRATION_IMAGES = 2000
BATCH = 200
CACHE_BYTES = 1 << 29


class SubnetEvaluator:
    """Calibrates and runs subnets inside the supernet: one trace each for all archs and resolutions, or none.

    Calibration (Cai et al., ICLR 2020, section 3.3) writes the statistics of one subnet into the supernet's moving
    averages, over those of the one before; `extract` copies them from there.

    Args:
        supernet: its weights are used as they are at each call.
        preprocessing: applied to the pixels.
        calibration: training images for batch norm statistics; the first 2,000 are used.
        traced: whether to trace a graph that serves all archs; without, operators run one by one, which for a few archs
            of a large space saves half a minute of tracing.
    """

    def __init__(self, supernet: Supernet, preprocessing: Preprocessing, calibration: Images, traced: bool = True):
        self.supernet = supernet
        self.preprocessing = preprocessing
        self.calibration = calibration.take(_spread(len(calibration), CALIBRATION_IMAGES))
        self.traces: Counter[str] = Counter()
        self._resized: OrderedDict[tuple[int, int], tuple[Images, ImageSet]] = OrderedDict()
        images = tf.TensorSpec((None, None, None, 3), tf.uint8)
        code = tf.TensorSpec((supernet.space.n_genes,), tf.int32)
        momentum = tf.TensorSpec((), tf.float32)
        self._traced = traced
        self._observe: Callable = self._observe_batch
        self._predict: Callable = self._predict_batch
        if traced:
            self._observe = tf.function(self._observe_batch, input_signature=[images, code, momentum])
            self._predict = tf.function(self._predict_batch, input_signature=[images, code])

    def _observe_batch(self, images, code, momentum):
        self.traces["calibrate"] += 1
        self.supernet(self.preprocessing(images), code=code, training=True, momentum=momentum)

    def _predict_batch(self, images, code):
        self.traces["predict"] += 1
        return self.supernet(self.preprocessing(images), code=code)

    def _code(self, arch: Arch) -> np.ndarray | tuple[int, ...]:
        code = self.supernet.space.encode(arch)
        return code if self._traced else tuple(int(gene) for gene in code)

    def calibrate(self, arch: Arch) -> None:
        """Recomputes the batch norm statistics at this arch and its resolution, as the mean over batches.

        A last batch that is smaller counts for as many images as it has.
        """
        code, seen = self._code(arch), 0
        for images, _ in self._batches(self.calibration, arch.resolution):
            self._observe(images, code, tf.constant(seen / (seen + len(images)), tf.float32))
            seen += len(images)

    def logits(self, arch: Arch, images: Images) -> np.ndarray:
        """Logits of a calibrated arch: float32 of shape (images, classes)."""
        code = self._code(arch)
        batches = self._batches(images, arch.resolution)
        return np.concatenate([self._predict(pixels, code).numpy() for pixels, _ in batches])

    def accuracy(self, arch: Arch, images: Images) -> float:
        """Top-1 accuracy (0 to 1) after calibration at this arch."""
        self.calibrate(arch)
        return float((self.logits(arch, images).argmax(1) == images.labels).mean())

    def _batches(self, images: Images, resolution: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of centre squares; those of the sets used last are kept in memory."""
        if len(images) * resolution * resolution * 3 > CACHE_BYTES:
            return images.batches(BATCH, resolution)
        key = (id(images), resolution)  # the entry keeps `images` alive, so that its id stays its own
        if key not in self._resized:
            self._resized[key] = images, images.resized(resolution)
        self._resized.move_to_end(key)
        while sum(kept.images.nbytes for _, kept in self._resized.values()) > CACHE_BYTES:
            self._resized.popitem(last=False)
        return self._resized[key][1].batches(BATCH, resolution)


def _spread(n: int, most: int) -> np.ndarray:
    """At most `most` indices, evenly spread over n."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))
