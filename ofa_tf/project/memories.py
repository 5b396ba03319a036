"""Budgets of RAM and flash, given by the user or by the board that a subnet is for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ofa_tf.arena import image_bytes
from ofa_tf.errors import ArgumentError, InfeasibleError
from ofa_tf.latency.backends import backend_of
from ofa_tf.precision import get_precision, integer_precisions
from ofa_tf.project.arguments import optional, positive, required
from ofa_tf.project.choice import Budgets, Choice
from ofa_tf.space import SearchSpace


def make_budgets(
    latency_ms: float | Mapping[str, float] | None = None,
    device: str = "host",
    macs_millions: float | None = None,
    params_thousands: float | None = None,
    size_kb: float | None = None,
    ram_kb: float | None = None,
    flash_kb: float | None = None,
) -> Budgets:
    """The arguments of `Project.search` as budgets.

    Raises:
        ArgumentError: one of them is no positive number, or the file's size is limited twice.
    """
    if size_kb is not None and flash_kb is not None:
        raise ArgumentError("Give --size-kb or --flash-kb, not both: they are two names of one budget.")
    limits: Mapping[str, Any] = {}
    if isinstance(latency_ms, Mapping):
        limits = latency_ms
    elif latency_ms is not None or not backend_of(device).tabulated:
        limits = {device: latency_ms}
    open_ended = latency_ms is None  # a device that only has memories
    return Budgets(
        {
            name: None if open_ended else required("latency_ms", positive, limit, "milliseconds")
            for name, limit in limits.items()
        },
        _scaled("macs_millions", macs_millions, 1e6),
        _scaled("params_thousands", params_thousands, 1e3),
        _scaled("size_kb", size_kb, 1e3) if flash_kb is None else _scaled("flash_kb", flash_kb, 1e3),
        _scaled("ram_kb", ram_kb, 1e3),
    )


def _scaled(name: str, value: Any, unit: float) -> float | None:
    number = optional(name, positive, value)
    return None if number is None else number * unit


def with_memories(budgets: Budgets, space: SearchSpace, precision: str, both: bool = True) -> Budgets:
    """Budgets in which a device without latency tables is replaced by the limits of its memories.

    Args:
        budgets: as the user gave them, such a device among those of `latency_ms`.
        space: what is searched.
        precision: of the files.
        both: whether such a device must have limits of both RAM and flash.

    Raises:
        DeviceError: the board is not known, or the precision is not for it.
        ArgumentError: a latency on such a device, such a device beside others, RAM without flash, or RAM of a file
            that is not full-integer.
        InfeasibleError: less RAM than the smallest input image takes.
    """
    for device, limit_ms in budgets.latency_ms.items():
        backend = backend_of(device)
        if backend.tabulated:
            continue
        if limit_ms is not None:
            raise ArgumentError(f"--latency is not for {device}, which has no latency table: leave it out.")
        if len(budgets.latency_ms) > 1:
            raise ArgumentError(
                f"--device {device} has no latency table: name no other device with it, or give --ram-kb instead."
            )
        backend.require_legal(space, precision)
        memories = backend.memories(device)
        ram_bytes, size_bytes = budgets.ram_bytes, budgets.size_bytes
        if memories is not None:
            ram_bytes = min(ram_bytes or memories.ram_bytes, memories.ram_bytes)
            size_bytes = min(size_bytes or memories.flash_bytes, memories.flash_bytes)
        if both and (ram_bytes is None or size_bytes is None):
            raise ArgumentError(
                f"--device {device} needs both --ram-kb and --flash-kb: how large are its memories? "
                f"`{device}:NAME` knows those of a board."
            )
        budgets = replace(budgets, latency_ms={}, ram_bytes=ram_bytes, size_bytes=size_bytes, target=device)
    if budgets.ram_bytes is None:
        return budgets
    if not get_precision(precision).integer:
        raise ArgumentError(f"--ram-kb is for {integer_precisions()} files, not for {precision}.")
    if budgets.ram_bytes < image_bytes(space):
        raise InfeasibleError(
            f"The budget for peak RAM of {budgets.ram_bytes / 1e3:g} kB is less than the smallest input image of "
            f"`{space.name}` takes: {image_bytes(space) / 1e3:.1f} kB at {min(space.resolutions)} px."
        )
    return budgets


def own_limits(choice: Choice) -> tuple[float | None, float | None]:
    """Budgets of RAM and file size of a choice, in bytes, but for those that its board brings anyway."""
    board = backend_of(choice.device).memories(choice.device) if choice.device else None
    ram_bytes, size_bytes = choice.budget_ram_bytes, choice.budget_size_bytes
    if board is None:
        return ram_bytes, size_bytes
    return (
        None if ram_bytes == board.ram_bytes else ram_bytes,
        None if size_bytes == board.flash_bytes else size_bytes,
    )


def excess(budgets: Budgets, ram_bytes: int | None, size_bytes: int) -> str | None:
    """A sentence, if an exported file needs more than it may; None if it fits.

    Args:
        budgets: of the export.
        ram_bytes: the arena; None if it is not known.
        size_bytes: the file.
    """
    memories = [backend_of(device).memories(device) for device in budgets.latency_ms]
    rams = [budgets.ram_bytes, *(of.ram_bytes for of in memories if of)]
    sizes = [budgets.size_bytes, *(of.flash_bytes for of in memories if of)]
    for what, needed, limits in (("RAM", ram_bytes, rams), ("flash", size_bytes, sizes)):
        least = min((limit for limit in limits if limit is not None), default=None)
        if needed is not None and least is not None and needed > least:
            return f"The file needs {needed / 1e3:.1f} kB of {what}, more than the budget of {least / 1e3:.1f} kB."
    return None
