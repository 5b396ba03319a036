"""How channel counts follow from each other."""


def divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is at least 90 % of `value` (the MobileNet rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def mid_channels(in_channels: int, expand: float) -> int:
    """Middle channels of an inverted residual block, which has no expansion convolution at an expand ratio of 1."""
    return divisible(in_channels * expand) if expand != 1 else in_channels


def bottleneck_channels(out_channels: int, expand: float) -> int:
    """Middle channels of a bottleneck block."""
    return divisible(round(out_channels * expand))


def se_channels(mid: int) -> int:
    """Channels of the squeeze in squeeze-and-excite: a quarter of the middle."""
    return divisible(mid // 4)
