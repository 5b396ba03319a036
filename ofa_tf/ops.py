"""The operations that blocks consist of, as data: what each computes, and what it costs."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

INPUT = "input"  # stands among the inputs of an operation for what the block reads


@dataclass(frozen=True)
class Op:
    """One operation, with the batch norm and the activation after it.

    Args:
        suffix: its name within the block, such as "expand"; "" where the block is only this operation.
        kind: with weights "conv", "depthwise" or "dense"; without "mean" (of each channel, an image of one pixel),
            "flatten" (an image of one pixel as a vector), "max_pool" and "average_pool" (of each window), "add" or
            "multiply" (of two inputs). Others can be counted, not built.
        in_size: height and width of the input, in pixels.
        out_size: height and width of the output.
        in_channels: channels of the input.
        out_channels: channels of the output.
        inputs: suffixes of the operations that it reads; `INPUT` for what the block reads.
        kernel: height and width of the window.
        stride: stride.
        padding: "same" or "symmetric".
        norm: whether batch norm follows.
        bias: whether it has a bias.
        activation: what comes last: the name of a Keras activation, or "none".
    """

    suffix: str
    kind: str
    in_size: int
    out_size: int
    in_channels: int
    out_channels: int
    inputs: tuple[str, ...] = (INPUT,)
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "same"
    norm: bool = False
    bias: bool = False
    activation: str = "none"

    @property
    def depthwise(self) -> bool:
        """Whether it convolves each channel on its own."""
        return self.kind == "depthwise"

    @property
    def takes_images(self) -> bool:
        """Whether its inputs are images, of whatever size, and not vectors."""
        return self.kind != "dense"

    @property
    def summarises(self) -> bool:
        """Whether it gives one number for each channel in the place of an image."""
        return self.kind == "mean"

    @property
    def keeps_range(self) -> bool:
        """Whether what it gives lies between the smallest and the largest value of its input."""
        return self.kind in ("max_pool", "average_pool", "flatten")

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights of the plain Keras layer, without bias and batch norm; `()` for none."""
        if self.kind == "conv":
            return (*self.kernel, self.in_channels, self.out_channels)
        if self.kind == "depthwise":
            return (*self.kernel, self.in_channels, 1)
        return (self.in_channels, self.out_channels) if self.kind == "dense" else ()

    @cached_property
    def n_weights(self) -> int:
        """Weights, without bias and batch norm."""
        return prod(shape) if (shape := self.weight_shape) else 0

    @property
    def n_macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.out_size**2 * self.n_weights

    @property
    def n_params(self) -> int:
        """Trainable parameters: weights, bias, scale and offset of the batch norm."""
        return self.n_weights + (2 * self.norm + self.bias) * self.out_channels

    @property
    def margins(self) -> tuple[int, int]:
        """Zeros above and below, left and right of the input where TensorFlow's padding is not meant; else (0, 0)."""
        if self.padding == "same" or self.stride == 1 or self.kind == "average_pool":
            return 0, 0
        return self.kernel[0] // 2, self.kernel[1] // 2


class Expansion:
    """Collects the operations of a block. Each reads what the one before gives, the first what the block reads.

    Args:
        size: height and width of the block's input, in pixels.
        channels: its channels.
        padding: "same" or "symmetric", for all operations.

    The `rest` of a method are `norm`, `bias` and `activation` of `Op`.
    """

    def __init__(self, size: int, channels: int, padding: str):
        self.size, self.channels, self.padding = size, channels, padding
        self.ops: list[Op] = []
        self._from_input = True

    def conv(self, suffix: str, channels: int, kernel: int = 1, stride: int = 1, **rest: Any) -> Op:
        """A convolution."""
        return self._append("conv", suffix, channels, kernel, stride, **rest)

    def depthwise(self, suffix: str, kernel: int, stride: int = 1, **rest: Any) -> Op:
        """A depthwise convolution."""
        return self._append("depthwise", suffix, None, kernel, stride, **rest)

    def dense(self, suffix: str, channels: int, **rest: Any) -> Op:
        """A dense layer."""
        return self._append("dense", suffix, channels, **rest)

    def mean(self, suffix: str) -> Op:
        """The mean of each channel, as an image of one pixel."""
        return self._append("mean", suffix, out_size=1)

    def flatten(self, suffix: str) -> Op:
        """An image of one pixel as a vector."""
        return self._append("flatten", suffix)

    def multiply(self, suffix: str, scaled: Op) -> Op:
        """What an earlier operation gave, each channel times the one pixel that the last gives for it."""
        size, channels, last = scaled.out_size, scaled.out_channels, self.ops[-1]
        return self._put(Op(suffix, "multiply", size, size, channels, channels, (scaled.suffix, last.suffix)))

    def max_pool(self, suffix: str, kernel: int, stride: int) -> Op:
        """The largest value of each window."""
        return self._append("max_pool", suffix, None, kernel, stride)

    def average_pool(self, suffix: str, size: int) -> Op:
        """The mean of each of the windows side by side; of what there is of it at the end of an odd size."""
        return self._append("average_pool", suffix, None, size, size)

    def restart(self) -> None:
        """The next operation reads what the block reads, not what the last one gives."""
        self._from_input = True

    def add(self, suffix: str, other: str, activation: str = "none") -> Op:
        """What the last operation gives, plus what an earlier one gives or, as `INPUT`, what the block reads."""
        last = self.ops[-1]
        size, channels = last.out_size, last.out_channels
        op = Op(suffix, "add", size, size, channels, channels, (last.suffix, other), activation=activation)
        return self._put(op)

    def _append(
        self, kind: str, suffix: str, channels: int | None = None, kernel: int = 1, stride: int = 1, **rest: Any
    ) -> Op:
        size, width, source = self.size, self.channels, INPUT
        if not self._from_input:
            size, width, source = self.ops[-1].out_size, self.ops[-1].out_channels, self.ops[-1].suffix
        out_size = rest.pop("out_size", -(-size // stride))
        out_channels = width if channels is None else channels
        window = (kernel, kernel)
        return self._put(
            Op(suffix, kind, size, out_size, width, out_channels, (source,), window, stride, self.padding, **rest)
        )

    def _put(self, op: Op) -> Op:
        self.ops.append(op)
        self._from_input = False
        return op
