"""What the Once-for-All project has published, and where (Cai et al., ICLR 2020).

The names and figures of the networks are those of the tables in the README of github.com/mit-han-lab/once-for-all:
top-1 on the 50,000 validation images of ImageNet, parameters and multiply-accumulates as rounded there. (Counting the
networks themselves gives the same, except for `note10_lat-8ms`, whose 79 M are 76 M; `zoo import` counts.) The
latencies are in the names: of a batch of 64 or 16 images on GPUs, of one image elsewhere. Addresses write "-" for "@".
The specialised ResNet50 networks of the same table are left out: their net configs cannot be read.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

ADDRESS = "https://raw.githubusercontent.com/han-cai/files/master/ofa/"
# Where `ofa/model_zoo.py` of that repository finds the supernet that is too large for the address above.
RESNET50_ADDRESS = "https://huggingface.co/han-cai/ofa/resolve/main/ofa_supernet_resnet50"

# Pixels of 0 to 255, as the networks were trained.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
# Not in a checkpoint; the net configs state it, and for ResNet50D the code of the network.
BN_EPSILON = {"mobilenet_v3": 1e-5, "proxyless": 1e-3, "resnet50d": 1e-5}


@dataclass(frozen=True)
class PublishedSupernet:
    """A published supernet.

    Args:
        name: its name, and that of its file unless it has a place of its own.
        space: the name of its space.
        width_mult: its width multiplier, or those to choose from.
        resolutions: the smallest and the largest of its space that are used with it, in pixels. The published README
            says 128 to 224 of ResNet50D, the published tutorial searches it up to 256, as its predictor can.
        place: the address of its file, if that is not among those of the other supernets.
    """

    name: str
    space: str
    width_mult: float | tuple[float, ...]
    resolutions: tuple[int, int]
    place: str = ""

    @property
    def address(self) -> str:
        """Where the checkpoint is."""
        return self.place or f"{ADDRESS}ofa_nets/{self.name}"


@dataclass(frozen=True)
class PublishedNetwork:
    """A published specialised network; figures as published.

    Args:
        name: its name, and that of its folder.
        device: what it was specialised for.
        batch: number of images per run behind the latency; 0 where MACs were the budget.
        latency_ms: latency on that device, or None.
        n_macs: multiply-accumulates, rounded.
        n_params: parameters, rounded.
        top1_percent: accuracy on ImageNet.
        finetune_epochs: how long it was trained on its own after it left the supernet.
    """

    name: str
    device: str
    batch: int
    latency_ms: int | None
    n_macs: int
    n_params: int
    top1_percent: float
    finetune_epochs: int

    @property
    def address(self) -> str:
        """The folder of `net.config`, `run.config` and `init`."""
        return f"{ADDRESS}ofa_specialized/{self.name}"


SUPERNETS = (
    PublishedSupernet("ofa_mbv3_d234_e346_k357_w1.0", "mobilenet_v3", 1.0, (128, 224)),
    PublishedSupernet("ofa_mbv3_d234_e346_k357_w1.2", "mobilenet_v3", 1.2, (160, 224)),
    PublishedSupernet("ofa_proxyless_d234_e346_k357_w1.3", "proxyless", 1.3, (128, 224)),
    PublishedSupernet("ofa_resnet50", "resnet50d", (0.65, 0.8, 1.0), (128, 256), RESNET50_ADDRESS),
)

# Millions of parameters and of multiply-accumulates, by name.
_NETWORKS: dict[str, dict[str, tuple[float, int]]] = {
    "any (MACs)": {
        "flops-595M_top1-80.0_finetune-75": (9.1, 595),
        "flops-482M_top1-79.6_finetune-75": (9.1, 482),
        "flops-389M_top1-79.1_finetune-75": (8.4, 389),
    },
    "LG G8": {
        "LG-G8_lat-24ms_top1-76.4_finetune-25": (5.8, 230),
        "LG-G8_lat-16ms_top1-74.7_finetune-25": (5.8, 151),
        "LG-G8_lat-11ms_top1-73.0_finetune-25": (5.0, 103),
        "LG-G8_lat-8ms_top1-71.1_finetune-25": (4.1, 74),
    },
    "Samsung S7 Edge": {
        "s7edge_lat-88ms_top1-76.3_finetune-25": (6.4, 219),
        "s7edge_lat-58ms_top1-74.7_finetune-25": (4.6, 145),
        "s7edge_lat-41ms_top1-73.1_finetune-25": (4.7, 96),
        "s7edge_lat-29ms_top1-70.5_finetune-25": (3.8, 66),
    },
    "Samsung Note8": {
        "note8_lat-65ms_top1-76.1_finetune-25": (5.3, 220),
        "note8_lat-49ms_top1-74.9_finetune-25": (6.0, 164),
        "note8_lat-31ms_top1-72.8_finetune-25": (4.6, 101),
        "note8_lat-22ms_top1-70.4_finetune-25": (4.3, 67),
    },
    "Samsung Note10": {
        "note10_lat-64ms_top1-80.2_finetune-75": (9.1, 743),
        "note10_lat-50ms_top1-79.7_finetune-75": (9.1, 554),
        "note10_lat-41ms_top1-79.3_finetune-75": (9.0, 457),
        "note10_lat-30ms_top1-78.4_finetune-75": (7.5, 339),
        "note10_lat-22ms_top1-76.6_finetune-25": (5.9, 237),
        "note10_lat-16ms_top1-75.5_finetune-25": (4.9, 163),
        "note10_lat-11ms_top1-73.6_finetune-25": (4.3, 110),
        "note10_lat-8ms_top1-71.4_finetune-25": (3.8, 79),
    },
    "Google Pixel1": {
        "pixel1_lat-143ms_top1-80.1_finetune-75": (9.2, 642),
        "pixel1_lat-132ms_top1-79.8_finetune-75": (9.2, 593),
        "pixel1_lat-79ms_top1-78.7_finetune-75": (8.2, 356),
        "pixel1_lat-58ms_top1-76.9_finetune-75": (5.8, 230),
        "pixel1_lat-40ms_top1-74.9_finetune-25": (6.0, 162),
        "pixel1_lat-28ms_top1-73.3_finetune-25": (5.2, 109),
        "pixel1_lat-20ms_top1-71.4_finetune-25": (4.3, 77),
    },
    "Google Pixel2": {
        "pixel2_lat-62ms_top1-75.8_finetune-25": (5.8, 208),
        "pixel2_lat-50ms_top1-74.7_finetune-25": (4.7, 166),
        "pixel2_lat-35ms_top1-73.4_finetune-25": (5.1, 113),
        "pixel2_lat-25ms_top1-71.5_finetune-25": (4.1, 79),
    },
    "NVIDIA 1080Ti": {
        "1080ti_gpu64-27ms_top1-76.4_finetune-25": (6.5, 397),
        "1080ti_gpu64-22ms_top1-75.3_finetune-25": (5.2, 313),
        "1080ti_gpu64-15ms_top1-73.8_finetune-25": (6.0, 226),
        "1080ti_gpu64-12ms_top1-72.6_finetune-25": (5.9, 165),
    },
    "NVIDIA V100": {
        "v100_gpu64-11ms_top1-76.1_finetune-25": (6.2, 352),
        "v100_gpu64-9ms_top1-75.3_finetune-25": (5.2, 313),
        "v100_gpu64-6ms_top1-73.0_finetune-25": (4.9, 179),
        "v100_gpu64-5ms_top1-71.6_finetune-25": (5.2, 141),
    },
    "NVIDIA Jetson TX2": {
        "tx2_gpu16-96ms_top1-75.8_finetune-25": (6.2, 349),
        "tx2_gpu16-80ms_top1-75.4_finetune-25": (5.2, 313),
        "tx2_gpu16-47ms_top1-72.9_finetune-25": (4.9, 179),
        "tx2_gpu16-35ms_top1-70.3_finetune-25": (4.3, 121),
    },
    "Intel Xeon, MKL-DNN": {
        "cpu_lat-17ms_top1-75.7_finetune-25": (4.9, 365),
        "cpu_lat-15ms_top1-74.6_finetune-25": (4.9, 301),
        "cpu_lat-11ms_top1-72.0_finetune-25": (4.4, 160),
        "cpu_lat-10ms_top1-71.1_finetune-25": (4.2, 143),
    },
}
_NAME = re.compile(
    r"(flops-|[^_]+_(lat|gpu(?P<batch>\d+))-(?P<ms>\d+)ms).*_top1-(?P<top1>[\d.]+)_finetune-(?P<epochs>\d+)"
)


def _network(device: str, name: str, n_params: float, n_macs: float) -> PublishedNetwork:
    match = _NAME.match(name)
    assert match is not None, name
    batch = 0 if match["ms"] is None else int(match["batch"] or 1)
    latency_ms = None if match["ms"] is None else int(match["ms"])
    return PublishedNetwork(
        name, device, batch, latency_ms, round(n_macs * 1e6), round(n_params * 1e6), float(match["top1"]),
        int(match["epochs"]),
    )  # fmt: skip


NETWORKS = tuple(
    _network(device, name, *figures) for device, networks in _NETWORKS.items() for name, figures in networks.items()
)


@dataclass(frozen=True)
class PublishedTables:
    """The latency tables of the Samsung Note10, for the MobileNetV3 network of width 1.2: one file per resolution.

    The paper mentions "TF-Lite, batch size 1" for all its phones (section 4.2) and 8 bit only for its FPGAs, so the
    tables are assumed to be fp32. Their number of threads is not known.

    Args:
        resolutions: those that the published tutorial searches, in pixels.
    """

    name: str = "note10"
    space: str = "mobilenet_v3"
    width_mult: float = 1.2
    precision: str = "fp32"
    resolutions: tuple[int, ...] = (160, 176, 192, 208, 224)

    def file_name(self, resolution: int) -> str:
        """Name of the file of one resolution."""
        return f"{resolution}_lookup_table.yaml"

    @property
    def address(self) -> str:
        """The folder of the files."""
        return f"{ADDRESS}note10"


@dataclass(frozen=True)
class PublishedPredictor:
    """An accuracy predictor for subnets of a published supernet, before any fine-tuning.

    What it predicts is the accuracy on 10,000 images held out of the training set, which is higher than on the
    validation set: the published tutorial finds a subnet of MobileNetV3 predicted at 81.7 % and measures 76.9 % of it
    there.

    Args:
        name: its name, and that of its file.
        space: the name of the supernet's space.
        width_mult: the supernet's width multiplier, or those to choose from.
        rmse_points: the error that the paper states for its predictor (section 3.4), in percentage points; None where
            none is published.
        pairs: the subnets that the paper says it was fitted to; likewise.
    """

    name: str
    space: str
    width_mult: float | tuple[float, ...]
    rmse_points: float | None = None
    pairs: int | None = None

    @property
    def address(self) -> str:
        """Where its weights are."""
        return f"{ADDRESS}{self.name}.pth"

    @property
    def errors(self) -> dict[str, float]:
        """What is published about its errors, by the names of the fields."""
        figures = {"rmse_points": self.rmse_points, "pairs": self.pairs}
        return {name: float(value) for name, value in figures.items() if value is not None}


NOTE10 = PublishedTables()
PREDICTORS = (
    PublishedPredictor("acc_predictor", "mobilenet_v3", 1.2, rmse_points=0.2, pairs=16_000),
    PublishedPredictor("ofa_resnet50_acc_predictor", "resnet50d", (0.65, 0.8, 1.0)),
)


def find_supernet(name: str) -> PublishedSupernet | None:
    """The published supernet of that name, or None."""
    return next((supernet for supernet in SUPERNETS if supernet.name == name), None)


def find_network(name: str) -> PublishedNetwork | None:
    """The published specialised network of that name, with "@" or "-", or None."""
    return next((network for network in NETWORKS if network.name == name.replace("@", "-")), None)


def find_predictor(space: str, width_mult: float | tuple[float, ...]) -> PublishedPredictor | None:
    """The published predictor for the supernet of that space and width multiplier, or None."""
    return next((known for known in PREDICTORS if (known.space, known.width_mult) == (space, width_mult)), None)


def catalog_document() -> dict[str, Any]:
    """All that is published, as JSON values: lists `supernets`, `specialized`, `predictors`, and an object `note10`."""

    def entry(published: Any) -> dict[str, Any]:
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(published).items()}
        return {**fields, "address": published.address}

    return {
        "supernets": [entry(supernet) for supernet in SUPERNETS],
        "specialized": [entry(network) for network in NETWORKS],
        "note10": entry(NOTE10),
        "predictors": [entry(predictor) for predictor in PREDICTORS],
    }
