"""The boards whose memories are known, and how much of these a program leaves to a network."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from ofa_tf.errors import DeviceError
from ofa_tf.jsonio import read_json

# What the rest of a program needs: stack, peripherals and buffers; code of the interpreter, kernels and application.
# An assumption, which `--ram-kb` and `--flash-kb` replace.
RAM_OF_PROGRAM, FLASH_OF_PROGRAM = 0.1, 0.25


@dataclass(frozen=True)
class Board:
    """A board of `boards.json`.

    Args:
        name: as in `mcu:NAME`.
        chip: its microcontroller.
        ram_bytes: the RAM that lies in one piece, as an arena must.
        flash_bytes: its flash.
        source: the maker's page.
        checked_with: a file of another project that gives the same memories, but for what its bootloader takes.
    """

    name: str
    chip: str
    ram_bytes: int
    flash_bytes: int
    source: str
    checked_with: str

    @property
    def free_ram_bytes(self) -> int:
        """RAM that is left for the arena."""
        return int(self.ram_bytes * (1 - RAM_OF_PROGRAM))

    @property
    def free_flash_bytes(self) -> int:
        """Flash that is left for the file."""
        return int(self.flash_bytes * (1 - FLASH_OF_PROGRAM))


@cache
def boards() -> dict[str, Board]:
    """The known boards by name."""
    document = read_json(Path(__file__).with_name("boards.json"), 1)
    return {name: Board(name, **facts) for name, facts in document["boards"].items()}


def get_board(name: str) -> Board:
    """A board by its name.

    Raises:
        DeviceError: it is not known; says which names are near.
    """
    known = boards()
    if name in known:
        return known[name]
    near = get_close_matches(name, known, 3, 0.4)
    suggested = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(sorted(known))}."
    raise DeviceError(
        f"There is no board {name!r}: {suggested} For any other give --device mcu with --ram-kb and --flash-kb."
    )
