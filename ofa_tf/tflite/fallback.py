"""What the linters of accelerators share: why an operator would run on the CPU, and what their rules ask of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ofa_tf.tflite.operators import Operator

Rule = Callable[[Operator], str | None]  # why an operator does not run there; None if it does


@dataclass(frozen=True)
class Fallback:
    """An operator that an accelerator does not run.

    Args:
        index: its place in the order in which operators run, from 0.
        operator: its kind.
        reason: why.
    """

    index: int
    operator: str
    reason: str


def find_fallbacks(operators: Sequence[Operator], rule: Rule) -> tuple[Fallback, ...]:
    """The operators that a rule gives a reason for."""
    reasons = map(rule, operators)
    return tuple(
        Fallback(index, op.name, reason)
        for index, (op, reason) in enumerate(zip(operators, reasons, strict=True))
        if reason is not None
    )


def kernel(op: Operator) -> tuple[int, ...]:
    """Height and width of a convolution's kernel."""
    weights = op.inputs[1] if len(op.inputs) > 1 else None
    return () if weights is None else weights.shape[1:3]


def integers(op: Operator, index: int) -> list[int]:
    """The values of an input that is a short constant, such as axes."""
    tensor = op.inputs[index] if index < len(op.inputs) else None
    return [] if tensor is None else tensor.integers()


def axes(op: Operator) -> tuple[set[int], int, int]:
    """Axes that are reduced, the rank and the channels of the input."""
    shape = op.inputs[0].shape if op.inputs and op.inputs[0] is not None else ()
    found = {axis % len(shape) for axis in integers(op, 1)} if shape else set()
    return found, len(shape), shape[-1] if shape else 0
