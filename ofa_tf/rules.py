"""The rules for the values of a space."""

import dataclasses
from typing import Any

import numpy as np

from ofa_tf.errors import SpaceError
from ofa_tf.formatting import shown

MAX_CHANNELS = 65536
MAX_CHOICES = 64  # in one list
MAX_STAGES = 32
MAX_BLOCKS = 256  # of the largest subnet, between its ends
MAX_VARIANTS = 200_000  # of these blocks, over all choices and resolutions; the published spaces have some thousands
Channels = int | tuple[int, ...]


def is_int(value: Any) -> bool:
    """Whether a value is an integer, of Python or of NumPy."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def require(condition: bool, name: str, value: Any, rule: str) -> None:
    """Raises a SpaceError that names what is wrong, its value and what it must be, unless the condition holds."""
    if not condition:
        raise SpaceError(f"`{name}` (={shown(list(value) if isinstance(value, tuple) else value)}) must be {rule}.")


def is_number(value: Any) -> bool:
    """Whether a value is an integer or a floating-point number."""
    return is_int(value) or isinstance(value, float)


def require_channels(name: str, value: Any, smallest: int = 1) -> None:
    """Refuses what is not one number of channels, or choices of it: ascending multiples of 8."""
    if isinstance(value, tuple):
        good = len(value) > 0 and all(is_int(item) and 8 <= item <= MAX_CHANNELS and item % 8 == 0 for item in value)
        rule = f"an ascending list of multiples of 8 up to {MAX_CHANNELS}, or one integer"
        require(good and list(value) == sorted(set(value)), name, value, rule)
        _require_few(name, value)
        return
    good = is_int(value) and smallest <= value <= MAX_CHANNELS
    require(good, name, value, f"an integer from {smallest} to {MAX_CHANNELS}")


def require_choices(name: str, value: Any, smallest: int, largest: int) -> None:
    """Refuses what is not an ascending tuple of integers within the bounds."""
    good = isinstance(value, tuple) and len(value) > 0
    good = good and all(is_int(item) and smallest <= item <= largest for item in value)
    rule = f"an ascending list of integers from {smallest} to {largest}"
    require(good and list(value) == sorted(set(value)), name, value, rule)
    _require_few(name, value)


def require_kernels(value: Any) -> None:
    """Refuses what are not kernel sizes to choose from."""
    require_choices("kernels", value, 3, 31)
    require(all(size % 2 for size in value), "kernels", value, "odd, such as [3, 5, 7]")


def require_expands(value: Any) -> None:
    """Refuses what are not expand ratios to choose from."""
    good = isinstance(value, tuple) and len(value) > 0 and all(is_number(item) and 0 < item <= 64 for item in value)
    rule = "an ascending list of numbers above 0, at most 64"
    require(good and list(value) == sorted(set(value)), "expands", value, rule)
    _require_few("expands", value)


def _require_few(name: str, value: tuple) -> None:
    if len(value) > MAX_CHOICES:
        raise SpaceError(f"`{name}` has {len(value)} choices, more than {MAX_CHOICES}.")


def require_bounded(space: Any) -> None:
    """Refuses a space with more blocks than anybody's time and memory would suffice for."""
    n_blocks = sum(stage.depths[-1] for stage in space.stages)
    if n_blocks > MAX_BLOCKS:
        raise SpaceError(f"The `depths` of the stages add up to {n_blocks} blocks, more than {MAX_BLOCKS}.")
    n_variants = 0
    for number, stage in enumerate(space.stages):
        place = space.first_stage_stream + number
        read, written = (len(space.streams[at].channels) for at in (place - 1, place))
        inner = len(space.stage_kernels[number]) * len(space.stage_expands[number])
        n_variants += (read * written + (stage.depths[-1] - 1) * written) * inner * len(space.resolutions)
    if n_variants > MAX_VARIANTS:
        raise SpaceError(
            f"The choices of this space make {n_variants} different blocks, more than {MAX_VARIANTS}: offer fewer "
            "resolutions, kernels, expands or channels."
        )


def values(described: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON values."""
    fields = {field.name: getattr(described, field.name) for field in dataclasses.fields(described)}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
