"""Microcontrollers as a kind of device: bounded by memories, without latency tables, with files for a C++ program."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from ofa_tf.errors import DeviceError, ExportError
from ofa_tf.latency.backend import Exported, Finished, FixedBackend, Memories
from ofa_tf.latency.device import Device
from ofa_tf.latency.settings import DEFAULT, Settings, refuse_settings
from ofa_tf.micro.boards import get_board
from ofa_tf.micro.files import files_for_programs
from ofa_tf.micro.interpreter import PACKAGE, MicroRun, available, run_in_micro, run_reference
from ofa_tf.micro.plan import file_arena, with_plan
from ofa_tf.micro.rules import missing
from ofa_tf.space import SearchSpace
from ofa_tf.tflite.inspect import inspect_file

NAME = "mcu"
MOST_MACS = 5e9  # of all images together that the interpreter is run on: some minutes


class MicroBackend(FixedBackend):
    """A microcontroller that runs TensorFlow Lite Micro: `mcu`, or `mcu:NAME` for a board whose memories are known."""

    usage = f"{NAME}:BOARD"
    precisions = ("int8",)
    measurable = False
    tabulated = False

    def recognises(self, name: str) -> bool:
        """`mcu`, with or without a board."""
        return name == NAME or name.startswith(f"{NAME}:")

    def open(self, name: str, settings: Settings = DEFAULT, host: Device | None = None) -> Device:
        """There is nothing to measure times on.

        Raises:
            DeviceError: says so, or that there are settings.
        """
        refuse_settings(settings, f"The device {name!r}")
        raise DeviceError(f"The device {name!r} has no latencies: limit its memories, with --ram-kb and --flash-kb.")

    def require_legal(self, space: SearchSpace, precision: str) -> None:
        """Only full-integer files.

        Raises:
            DeviceError: it is another precision.
        """
        if precision != "int8":
            raise DeviceError(f"--precision {precision} is not for a microcontroller: its files are int8.")

    def memories(self, name: str) -> Memories | None:
        """Those of a known board that a program leaves free; None for `mcu` without one.

        Raises:
            DeviceError: the board is not known; says which names are near.
        """
        _, _, board = name.partition(":")
        if name == NAME:
            return None
        found = get_board(board)
        return Memories(found.free_ram_bytes, found.free_flash_bytes)

    def complete(self, content: bytes, about: Exported) -> Finished:
        """Plans the memory of the file, runs it as on a microcontroller where that is possible, and adds C++ files.

        It is compared with LiteRT's reference kernels, which round as those of TensorFlow Lite Micro do.

        Raises:
            ExportError: TensorFlow Lite Micro lacks an operator, or answers otherwise than LiteRT.
        """
        facts = inspect_file(content)
        if lacks := missing(facts.ops):
            raise ExportError(f"TensorFlow Lite Micro has no operator {', '.join(lacks)}, which the file needs.")
        content = with_plan(content)
        predicted = file_arena(content)
        document: dict[str, Any] = {
            "predicted_arena_bytes": None if predicted is None else predicted.total_bytes,
            "predicted_activation_bytes": None if predicted is None else predicted.activation_bytes,
            "arena_bytes": None,
        }
        notes: tuple[str, ...] = ()
        if available():
            inputs, expected = about.answers(int(max(1, MOST_MACS // max(facts.n_macs, 1))))
            run = run_in_micro(content, inputs)
            document |= _measured(run, run_reference(content, inputs), expected)
        elif predicted is None:
            raise ExportError(f"The arena of the file cannot be predicted: measure it, pip install {PACKAGE}.")
        else:
            notes = (
                f"The arena of {predicted.total_bytes / 1e3:.1f} kB is predicted, not measured: "
                f"pip install {PACKAGE} to measure it.",
            )
        arena_bytes = document["arena_bytes"] or document["predicted_arena_bytes"]
        files = files_for_programs(content, facts.ops, about, arena_bytes, document["arena_bytes"] is not None)
        return Finished(files, {"microcontroller": document}, notes, content)


def _measured(run: MicroRun, reference: np.ndarray, optimised: np.ndarray) -> dict[str, Any]:
    """What the interpreter's answers show, beside those of LiteRT's reference kernels and of its optimised ones.

    Raises:
        ExportError: they differ from those of the reference kernels by more than one step of quantisation.
    """
    found, expected = (outputs.reshape(len(optimised), -1).astype(np.int64) for outputs in (run.outputs, reference))
    steps = int(np.abs(found - expected).max())
    same, agreement = (float((found.argmax(1) == of.argmax(1)).mean()) for of in (expected, optimised))
    if steps > 1:
        raise ExportError(
            f"TensorFlow Lite Micro answers otherwise than LiteRT: outputs differ by up to {steps} steps of "
            f"quantisation, and {same:.1%} of {len(expected)} images are put into the same class."
        )
    return {
        "arena_bytes": run.arena_bytes,
        "activation_bytes": run.arena.activation_bytes,
        "images": len(expected),
        "same_class": same,
        "same_class_optimised": agreement,
        "largest_step": steps,
        "runtime": {"name": PACKAGE, "version": _version()},
    }


def _version() -> str:
    try:
        return version("tflite_micro")
    except PackageNotFoundError:
        return "unknown"
