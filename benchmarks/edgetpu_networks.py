"""The published networks whose Edge TPU latencies are known, operator by operator.

Sources: Howard et al. 2017 (MobileNet), Sandler et al. 2018 (MobileNetV2), TensorFlow's model garden (MobileNet
EdgeTPU, EfficientNet-EdgeTPU), Szegedy et al. 2014, 2015 and 2016 (Inception v1, v3, v4), He et al. 2015 (ResNet-50),
Huang et al. 2016 (DenseNet-121), Iandola et al. 2016 (SqueezeNet 1.0), Simonyan and Zisserman 2014 (VGG). Batch norm
is folded where it follows a convolution; DenseNet's, which comes before, is a multiplication and an addition. Their
multiply-accumulates and parameters are close to the published ones (the figures `edgetpu_macs_worst` and
`edgetpu_params_worst` of `edgetpu_model.py`).
"""

from collections.abc import Callable, Iterable
from math import ceil

from ofa_tf.channels import divisible
from ofa_tf.ops import INPUT, Op

N_CLASSES = 1001  # of the MobileNets and EfficientNets; 1000 or 1001 elsewhere makes no difference


class Tape:
    """Appends layers one after another, and knows the shape it has come to."""

    def __init__(self, size: int, channels: int = 3):
        self.size, self.channels = size, channels
        self.layers: list[Op] = []

    def add(self, kind: str, out_channels: int, kernel: tuple[int, int] = (1, 1), out_size: int | None = None) -> None:
        out_size = self.size if out_size is None else out_size
        self.layers.append(Op("", kind, self.size, out_size, self.channels, out_channels, (INPUT,), kernel))
        self.size, self.channels = out_size, out_channels

    def conv(self, out_channels: int, kernel: int = 1, stride: int = 1, valid: bool = False, width: int = 0) -> None:
        """A convolution of kernel x kernel, or kernel x width; output size as TensorFlow's `same` or `valid`."""
        out_size = ceil((self.size - (kernel - 1) * valid) / stride)
        self.add("conv", out_channels, (kernel, width or kernel), out_size)

    def depthwise(self, kernel: int, stride: int = 1) -> None:
        self.add("depthwise", self.channels, (kernel, kernel), ceil(self.size / stride))

    def elementwise(self, times: int = 1) -> None:
        for _ in range(times):
            self.add("elementwise", self.channels)

    def pool(self, kernel: int = 3, stride: int = 2, valid: bool = False) -> None:
        self.add("elementwise", self.channels, (1, 1), ceil((self.size - (kernel - 1) * valid) / stride))

    def branches(self, *branches: Callable[["Tape"], None]) -> None:
        """Runs branches on the same input and concatenates their outputs."""
        ends = [Tape(self.size, self.channels) for _ in branches]
        for branch, end in zip(branches, ends, strict=True):
            branch(end)
            self.layers += end.layers
        self.size, self.channels = ends[0].size, sum(end.channels for end in ends)
        self.elementwise()

    def classify(self, *widths: int) -> list[Op]:
        """Global average and dense layers."""
        self.add("elementwise", self.channels, (1, 1), 1)
        for width in widths:
            self.add("dense", width)
        return self.layers


def mobilenet_v1(size: int, width: float) -> list[Op]:
    tape = Tape(size)
    tape.conv(int(32 * width), 3, 2)
    for channels, stride in (
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)
    ):  # fmt: skip
        tape.depthwise(3, stride)
        tape.conv(int(channels * width))
    return tape.classify(N_CLASSES)


def inverted_residual(tape: Tape, out: int, expand: int, kernel: int, stride: int, skip: bool = True) -> None:
    """Expansion, depthwise, projection."""
    residual = skip and stride == 1 and tape.channels == out
    if expand > 1:
        tape.conv(tape.channels * expand)
    tape.depthwise(kernel, stride)
    tape.conv(out)
    if residual:
        tape.elementwise()


def mobilenet_v2(size: int) -> list[Op]:
    tape = Tape(size)
    tape.conv(32, 3, 2)
    for expand, out, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    ):  # fmt: skip
        for index in range(repeats):
            inverted_residual(tape, out, expand, 3, stride if index == 0 else 1)
    tape.conv(1280)
    return tape.classify(N_CLASSES)


def mobilenet_edgetpu(size: int) -> list[Op]:
    tape = Tape(size)
    tape.conv(32, 3, 2)
    tape.conv(16)
    for out in (32, 48):
        for index in range(4):
            first = index == 0
            tape.conv(tape.channels * (8 if first else 4), 3, 2 if first else 1)
            tape.conv(out)
            if not first:
                tape.elementwise()
    for out, kernel, stride, repeats in ((96, 3, 2, 4), (96, 3, 1, 4), (160, 5, 2, 4), (192, 3, 1, 1)):
        for index in range(repeats):
            first = index == 0
            inverted_residual(tape, out, 8 if first else 4, kernel, stride if first else 1, skip=not first)
    tape.conv(1280)
    return tape.classify(N_CLASSES)


def efficientnet_edgetpu(size: int, width: float, depth: float) -> list[Op]:
    def scaled(channels: int) -> int:
        return divisible(channels * width)

    tape = Tape(size)
    tape.conv(scaled(32), 3, 2)
    # In the first three stages a 3x3 expansion at stride 1 and a projection that carries the stride.
    for _ in range(ceil(depth)):
        tape.conv(scaled(24) * 4, 3)
        tape.conv(scaled(24))
    for out, repeats in ((32, 2), (48, 4)):
        for index in range(ceil(repeats * depth)):
            tape.conv(tape.channels * 8, 3)
            tape.conv(scaled(out), 1, 1 if index else 2)
            if index:
                tape.elementwise()
    for out, repeats, kernel, stride in ((96, 5, 5, 2), (144, 4, 5, 1), (192, 2, 5, 2)):
        for index in range(ceil(repeats * depth)):
            inverted_residual(tape, scaled(out), 8, kernel, 1 if index else stride)
    tape.conv(scaled(1280))
    return tape.classify(N_CLASSES)


def inception_v1(size: int) -> list[Op]:
    tape = Tape(size)
    tape.conv(64, 7, 2)
    tape.pool()
    tape.conv(64)
    tape.conv(192, 3)
    tape.pool()
    for widths in (
        (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), (), (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128), (), (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
    ):  # fmt: skip
        if not widths:
            tape.pool()
            continue
        one, reduce3, three, reduce5, five, pooled = widths
        tape.branches(
            chain((one, 1)), chain((reduce3, 1), (three, 3)), chain((reduce5, 1), (five, 3)), chain("pool", (pooled, 1))
        )
    return tape.classify(N_CLASSES)


def chain(*steps) -> Callable[[Tape], None]:
    """A branch: `(channels, kernel[, stride, valid, width])` is a convolution, "pool" and "halve" are poolings."""

    def run(tape: Tape) -> None:
        for step in steps:
            if step == "pool":
                tape.pool(3, 1)
            elif step == "halve":
                tape.pool(3, 2, valid=True)
            else:
                tape.conv(*step)

    return run


def row(channels: int, kernel: int) -> tuple:
    """A convolution of 1 x kernel, or kernel x 1, which costs the same."""
    return (channels, kernel, 1, False, 1)


def fork(*steps, channels: int) -> Callable[[Tape], None]:
    """A branch that ends in a 1x3 and a 3x1 convolution side by side."""

    def run(tape: Tape) -> None:
        chain(*steps)(tape)
        tape.branches(chain(row(channels, 3)), chain(row(channels, 3)))
        tape.layers.pop()  # both are joined by the concatenation of the module

    return run


def inception_v3(size: int) -> list[Op]:
    tape = Tape(size)
    chain((32, 3, 2, True), (32, 3, 1, True), (64, 3), "halve", (80, 1), (192, 3, 1, True), "halve")(tape)
    for pooled in (32, 64, 64):
        tape.branches(
            chain((64, 1)), chain((48, 1), (64, 5)), chain((64, 1), (96, 3), (96, 3)), chain("pool", (pooled, 1))
        )
    tape.branches(chain((384, 3, 2, True)), chain((64, 1), (96, 3), (96, 3, 2, True)), chain("halve"))
    for mid in (128, 160, 160, 192):
        tape.branches(
            chain((192, 1)),
            chain((mid, 1), row(mid, 7), row(192, 7)),
            chain((mid, 1), row(mid, 7), row(mid, 7), row(mid, 7), row(192, 7)),
            chain("pool", (192, 1)),
        )
    tape.branches(
        chain((192, 1), (320, 3, 2, True)),
        chain((192, 1), row(192, 7), row(192, 7), (192, 3, 2, True)),
        chain("halve"),
    )
    for _ in range(2):
        tape.branches(
            chain((320, 1)),
            fork((384, 1), channels=384),
            fork((448, 1), (384, 3), channels=384),
            chain("pool", (192, 1)),
        )
    return tape.classify(N_CLASSES)


def inception_v4(size: int) -> list[Op]:
    tape = Tape(size)
    chain((32, 3, 2, True), (32, 3, 1, True), (64, 3))(tape)
    tape.branches(chain("halve"), chain((96, 3, 2, True)))
    tape.branches(chain((64, 1), (96, 3, 1, True)), chain((64, 1), row(64, 7), row(64, 7), (96, 3, 1, True)))
    tape.branches(chain((192, 3, 2, True)), chain("halve"))
    for _ in range(4):
        tape.branches(chain((96, 1)), chain((64, 1), (96, 3)), chain((64, 1), (96, 3), (96, 3)), chain("pool", (96, 1)))
    tape.branches(chain((384, 3, 2, True)), chain((192, 1), (224, 3), (256, 3, 2, True)), chain("halve"))
    for _ in range(7):
        tape.branches(
            chain((384, 1)),
            chain((192, 1), row(224, 7), row(256, 7)),
            chain((192, 1), row(192, 7), row(224, 7), row(224, 7), row(256, 7)),
            chain("pool", (128, 1)),
        )
    tape.branches(
        chain((192, 1), (192, 3, 2, True)),
        chain((256, 1), row(256, 7), row(320, 7), (320, 3, 2, True)),
        chain("halve"),
    )
    for _ in range(3):
        tape.branches(
            chain((256, 1)),
            fork((384, 1), channels=256),
            fork((384, 1), row(448, 3), row(512, 3), channels=256),
            chain("pool", (256, 1)),
        )
    return tape.classify(N_CLASSES)


def resnet50(size: int) -> list[Op]:
    tape = Tape(size)
    tape.conv(64, 7, 2)
    tape.pool()
    for mid, repeats, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(repeats):
            step = stride if index == 0 else 1
            if index == 0:
                shortcut = Tape(tape.size, tape.channels)
                shortcut.conv(4 * mid, 1, step)
                tape.layers += shortcut.layers
            tape.conv(mid)
            tape.conv(mid, 3, step)
            tape.conv(4 * mid)
            tape.elementwise()
    return tape.classify(N_CLASSES)


def densenet121(size: int) -> list[Op]:
    tape = Tape(size)
    tape.conv(64, 7, 2)
    tape.pool()
    for index, repeats in enumerate((6, 12, 24, 16)):
        for _ in range(repeats):
            new = Tape(tape.size, tape.channels)
            new.elementwise(2)
            new.conv(128)
            new.conv(32, 3)
            tape.layers += new.layers
            tape.channels += 32
            tape.elementwise()  # concatenation
        tape.elementwise(2)
        if index < 3:
            tape.conv(tape.channels // 2)
            tape.pool(2)
    return tape.classify(N_CLASSES)


def squeezenet(size: int) -> list[Op]:
    tape = Tape(size)
    tape.conv(96, 7, 2, valid=True)
    tape.pool(valid=True)
    for squeeze in (16, 16, 32, 0, 32, 48, 48, 64, 0, 64):
        if not squeeze:
            tape.pool(valid=True)
            continue
        tape.conv(squeeze)
        tape.branches(chain((4 * squeeze, 1)), chain((4 * squeeze, 3)))
    tape.conv(N_CLASSES)
    return tape.classify()


def vgg(size: int, repeats: Iterable[int]) -> list[Op]:
    tape = Tape(size)
    for channels, times in zip((64, 128, 256, 512, 512), repeats, strict=True):
        for _ in range(times):
            tape.conv(channels, 3)
        tape.pool(2)
    tape.add("conv", 4096, (tape.size, tape.size), 1)  # the first dense layer, on the flattened image
    tape.add("dense", 4096)
    tape.add("dense", N_CLASSES)
    return tape.layers


NETWORKS: dict[str, list[Op]] = {
    "mobilenet_v1_0.25_128": mobilenet_v1(128, 0.25),
    "mobilenet_v1_0.5_160": mobilenet_v1(160, 0.5),
    "mobilenet_v1_0.75_192": mobilenet_v1(192, 0.75),
    "mobilenet_v1_1.0_224": mobilenet_v1(224, 1.0),
    "mobilenet_v2_1.0_224": mobilenet_v2(224),
    "mobilenet_edgetpu_1.0_224": mobilenet_edgetpu(224),
    "efficientnet_edgetpu_s_224": efficientnet_edgetpu(224, 1.0, 1.0),
    "efficientnet_edgetpu_m_240": efficientnet_edgetpu(240, 1.0, 1.1),
    "efficientnet_edgetpu_l_300": efficientnet_edgetpu(300, 1.2, 1.4),
    "inception_v1_224": inception_v1(224),
    "inception_v3_299": inception_v3(299),
    "inception_v4_299": inception_v4(299),
    "resnet50_224": resnet50(224),
    "densenet_224": densenet121(224),
    "squeezenet_224": squeezenet(224),
    "vgg16_224": vgg(224, (2, 2, 3, 3, 3)),
    "vgg19_224": vgg(224, (2, 2, 4, 4, 4)),
}
