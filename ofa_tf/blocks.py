"""The one walk over an arch: from (space, arch) to the list of its blocks.

MACs, parameters, latency table keys and the plain Keras subnet all come from this list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ofa_tf.space import Arch, SearchSpace


def divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is at least 90 % of `value` (the MobileNet rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def mid_channels(in_channels: int, expand: int) -> int:
    """Middle channels of an inverted residual block."""
    return divisible(in_channels * expand)


def se_channels(mid: int) -> int:
    """Channels of the squeeze in squeeze-and-excite: a quarter of the middle."""
    return divisible(mid // 4)


@dataclass(frozen=True)
class Block:
    """What one block computes, in full.

    Args:
        name: unique within a network, such as `stage2_block1`.
        kind: "conv" (convolution, batch norm, activation), "mbconv" (inverted residual), "pool" (global average) or
            "linear" (dense, activation).
        in_size: height and width of the input, in pixels.
        in_channels: channels of the input.
        out_channels: channels of the output.
        mid_channels: channels between expansion and projection of an mbconv; equal to `in_channels` for none.
        kernel: kernel size.
        stride: stride.
        activation: an activation of the space, or "none".
        se_channels: channels of the squeeze, or 0 for no squeeze-and-excite.
        skip: whether the input is added to the output.
        bias: whether a linear has one.
        padding: the space's padding.
        slot: block slot of the space, or -1 for a block that is not elastic.
    """

    name: str
    kind: str
    in_size: int
    in_channels: int
    out_channels: int
    mid_channels: int = 0
    kernel: int = 1
    stride: int = 1
    activation: str = "none"
    se_channels: int = 0
    skip: bool = False
    bias: bool = False
    padding: str = "same"
    slot: int = -1

    @property
    def out_size(self) -> int:
        """Height and width of the output; the same for both paddings, since kernels are odd."""
        return 1 if self.kind == "pool" else -(-self.in_size // self.stride)

    @property
    def expanded(self) -> bool:
        """Whether an mbconv has an expansion convolution."""
        return self.mid_channels != self.in_channels

    @property
    def n_macs(self) -> int:
        """Multiply-accumulates of convolutions and dense layers, for one image."""
        if self.kind in ("conv", "linear"):
            return self.out_size**2 * self.kernel**2 * self.in_channels * self.out_channels
        if self.kind == "pool":
            return 0
        mid = self.mid_channels
        expansion = self.in_size**2 * self.in_channels * mid if self.expanded else 0
        return (
            expansion
            + self.out_size**2 * self.kernel**2 * mid
            + 2 * mid * self.se_channels
            + self.out_size**2 * mid * self.out_channels
        )

    @property
    def n_params(self) -> int:
        """Trainable parameters: weights, biases, scales and offsets of batch norm."""
        if self.kind == "conv":
            return self.kernel**2 * self.in_channels * self.out_channels + 2 * self.out_channels
        if self.kind == "linear":
            return self.in_channels * self.out_channels + self.bias * self.out_channels
        if self.kind == "pool":
            return 0
        mid, squeeze = self.mid_channels, self.se_channels
        expansion = self.in_channels * mid + 2 * mid if self.expanded else 0
        excite = 2 * mid * squeeze + squeeze + mid if squeeze else 0
        return expansion + self.kernel**2 * mid + 2 * mid + excite + mid * self.out_channels + 2 * self.out_channels

    @property
    def key(self) -> str:
        """Key in a latency table: the whole signature, and nothing of the space it stands in."""
        shapes = f"in={_shape(self.in_size, self.in_channels)} out={_shape(self.out_size, self.out_channels)}"
        if self.kind == "pool":
            return f"pool {shapes}"
        if self.kind == "linear":
            return f"linear {shapes} act={self.activation} bias={int(self.bias)}"
        padding = "" if self.padding == "same" or self.stride == 1 else f" pad={self.padding}"
        geometry = f"k={self.kernel} s={self.stride} act={self.activation}"
        if self.kind == "conv":
            return f"conv {shapes} {geometry}{padding}"
        return (
            f"mbconv {shapes} mid={self.mid_channels} {geometry} se={self.se_channels} skip={int(self.skip)}{padding}"
        )


def _shape(size: int, channels: int) -> str:
    return f"{size}x{size}x{channels}"


def walk(space: SearchSpace, arch: Arch, n_classes: int) -> tuple[Block, ...]:
    """The blocks of an arch, from stem to classifier.

    Args:
        space: the space of the arch.
        arch: one of its points.
        n_classes: outputs of the classifier.
    """
    blocks: list[Block] = []
    size, channels = arch.resolution, 3

    def add(kind: str, out_channels: int, **rest) -> None:
        nonlocal size, channels
        blocks.append(
            Block(
                kind=kind, in_size=size, in_channels=channels, out_channels=out_channels, padding=space.padding, **rest
            )
        )
        size, channels = blocks[-1].out_size, out_channels

    def width(base: int) -> int:
        return divisible(base * space.width_mult)

    add(
        "conv",
        width(space.stem_width),
        name="stem",
        kernel=3,
        stride=space.stem_stride,
        activation=space.stem_activation,
    )
    first = width(space.first_width)
    add(
        "mbconv", first, name="first", mid_channels=channels, kernel=3, activation=space.first_activation,
        skip=space.first_skip and channels == first,
    )  # fmt: skip
    for slot, (index, position) in enumerate(zip(space.block_stages, space.block_positions, strict=True)):
        if position >= arch.depths[index]:
            continue
        stage = space.stages[index]
        out, stride = width(stage.width), stage.stride if position == 0 else 1
        mid = mid_channels(channels, arch.expands[slot])
        add(
            "mbconv", out, name=f"stage{index + 1}_block{position + 1}", mid_channels=mid, kernel=arch.kernels[slot],
            stride=stride, activation=stage.activation, se_channels=se_channels(mid) if stage.se else 0,
            skip=stride == 1 and channels == out, slot=slot,
        )  # fmt: skip
    add("conv", width(space.head_width), name="head", activation=space.head_activation)
    add("pool", channels, name="pool")
    if space.feature_width:
        add("linear", width(space.feature_width), name="feature", activation=space.head_activation)
    add("linear", n_classes, name="classifier", bias=True)
    return tuple(blocks)


def count_macs(blocks: Sequence[Block]) -> int:
    """Multiply-accumulates of a network, for one image."""
    return sum(block.n_macs for block in blocks)


def count_params(blocks: Sequence[Block]) -> int:
    """Trainable parameters of a network."""
    return sum(block.n_params for block in blocks)


@dataclass(frozen=True)
class ArchCosts:
    """A quantity that adds up over blocks (MACs, parameters, milliseconds), for all archs of a space at once.

    Args:
        space: the space.
        fixed: cost of the blocks that are not elastic, shape (resolutions,); infinite where unknown.
        elastic: cost of each block slot, shape (blocks, resolutions, kernels, expands).
    """

    space: SearchSpace
    fixed: np.ndarray
    elastic: np.ndarray

    @cached_property
    def _flat(self) -> np.ndarray:
        """The costs of each block slot in a row, and at its end that of an unused one."""
        return np.pad(self.elastic.reshape(self.space.n_blocks, -1), ((0, 0), (0, 1)))

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Costs of codes of shape (archs, genes): float64 of shape (archs,).

        Blocks are added in order for every arch alike, so that a batch answers to the last bit what single calls do.
        """
        n_kernels, n_expands = len(self.space.kernels), len(self.space.expands)
        columns = codes.T
        kernels, expands = columns[self.space.kernel_genes], columns[self.space.expand_genes]
        choices = (columns[0] * n_kernels + kernels) * n_expands + expands
        choices = np.where(self.space.active(codes).T, choices, self._flat.shape[1] - 1)
        total = self.fixed[columns[0]]
        for costs, choice in zip(self._flat, choices, strict=True):
            total += costs.take(choice)
        return total

    def limited_to(self, resolutions: Sequence[int]) -> "ArchCosts":
        """The same costs at the given resolutions, infinite at all others."""
        known = np.isin(self.space.resolutions, resolutions)
        return ArchCosts(self.space, np.where(known, self.fixed, np.inf), self.elastic)

    def cheapest(self) -> np.ndarray:
        """Code of the arch with the lowest cost, exactly: block costs are independent of each other."""
        space = self.space
        best_code, best_cost = None, np.inf
        for resolution in np.flatnonzero(np.isfinite(self.fixed)):
            per_block = self.elastic[:, resolution].reshape(space.n_blocks, -1)
            choice, cost = per_block.argmin(1), per_block.min(1)
            code = np.zeros(space.n_genes, np.int32)
            code[0] = resolution
            code[space.kernel_genes], code[space.expand_genes] = np.divmod(choice, len(space.expands))
            start = 0
            for index, stage in enumerate(space.stages):
                sums = [cost[start : start + depth].sum() for depth in stage.depths]
                code[1 + index] = int(np.argmin(sums))
                start += stage.depths[-1]
            code = space.canonical(code[None])[0]
            total = self(code[None])[0]
            if total < best_cost:
                best_code, best_cost = code, total
        assert best_code is not None, "costs of at least one resolution are known"
        return best_code


def arch_costs(
    space: SearchSpace,
    cost: Callable[[Block], float],
    n_classes: int,
    resolutions: Sequence[int] | None = None,
) -> ArchCosts:
    """Tabulates a cost per block over all choices of a space.

    Args:
        space: the space.
        cost: the cost of one block.
        n_classes: outputs of the classifier.
        resolutions: the resolutions to tabulate; at others every cost is infinite. None for all of the space.
    """
    shape = (space.n_blocks, len(space.resolutions), len(space.kernels), len(space.expands))
    fixed, elastic = np.full(len(space.resolutions), np.inf), np.full(shape, np.inf)
    depths = [stage.depths[-1] for stage in space.stages]
    for r, resolution in enumerate(space.resolutions):
        if resolutions is not None and resolution not in resolutions:
            continue
        for k, kernel in enumerate(space.kernels):
            for e, expand in enumerate(space.expands):
                arch = space.arch(resolution, depths, [kernel] * space.n_blocks, [expand] * space.n_blocks)
                blocks = walk(space, arch, n_classes)
                fixed[r] = sum(cost(block) for block in blocks if block.slot < 0)
                for block in blocks:
                    if block.slot >= 0:
                        elastic[block.slot, r, k, e] = cost(block)
    return ArchCosts(space, fixed, elastic)
