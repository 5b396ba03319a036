"""Reading FlatBuffers that may be damaged or hostile: every offset is checked before it is followed.

The layout is that of https://flatbuffers.dev/internals: a table begins with the distance to its vtable, which holds the
size of the vtable, that of the table, and the place of each field; strings, vectors and tables are found by offsets.
"""

import struct
from dataclasses import dataclass, field

from ofa_tf.errors import DamagedError, FormatError


class FlatBuffer:
    """The bytes of a FlatBuffer, and how many elements may still be read from it.

    A file that is honest has more bytes than elements. One that refers to the same vector from many places could keep a
    reader busy for hours: it is refused once more elements were read than there are bytes.

    Args:
        content: the bytes; more may follow the FlatBuffer.
        name: what the bytes are, for errors.
    """

    def __init__(self, content: bytes, name: str):
        self.content = content
        self.name = name
        self._elements_left = len(content)

    def root(self, identifier: bytes, what: str) -> "Table":
        """The outermost table.

        Args:
            identifier: the four characters that identify the format.
            what: what bytes with this identifier are, for the error.

        Raises:
            FormatError: the identifier is not there.
        """
        if self.content[4:8] != identifier:
            characters = identifier.decode()
            raise FormatError(f"{self.name} is not {what}: it does not have the characters {characters} at byte 4.")
        return Table(self, int(self.number(0, "I")))

    def number(self, position: int, kind: str) -> int | float:
        """The number at a position; `kind` is a letter of the `struct` module."""
        return self.numbers(position, kind, 1)[0]

    def numbers(self, position: int, kind: str, count: int) -> tuple:
        """Several numbers in a row."""
        if position < 0 or position + count * struct.calcsize(kind) > len(self.content):
            raise self.damaged(f"it refers to byte {position} and has {len(self.content)} bytes")
        return struct.unpack_from(f"<{count}{kind}", self.content, position)

    def spend(self, elements: int) -> None:
        """Notes that elements of a vector are going to be read."""
        self._elements_left -= elements
        if self._elements_left < 0:
            raise self.damaged("it claims to hold more elements than it has bytes")

    def damaged(self, why: str) -> DamagedError:
        """The error to raise."""
        return DamagedError(f"{self.name} is damaged: {why}.")


def printable(text: str) -> str:
    """A text from a file, without characters that could control a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


@dataclass(frozen=True)
class Table:
    """A table; its fields are named by their numbers in the schema.

    Every method raises DamagedError where the field lies outside the file.
    """

    buffer: FlatBuffer = field(repr=False)
    position: int

    def scalar(self, index: int, kind: str, default: int = 0) -> int:
        """A number, by a letter of the `struct` module."""
        place = self._place(index)
        return default if place is None else int(self.buffer.number(place, kind))

    def text(self, index: int) -> str:
        """A string, with spaces for what cannot be printed; empty if it is absent."""
        data = self.data(index)
        self.buffer.spend(len(data))
        return printable(bytes(data).decode(errors="replace"))

    def data(self, index: int) -> memoryview:
        """A vector of bytes, not copied; empty if it is absent."""
        start, count = self._vector(index, 1)
        return memoryview(self.buffer.content)[start : start + count]

    def numbers(self, index: int, kind: str) -> tuple:
        """A vector of numbers, by a letter of the `struct` module; empty if it is absent."""
        start, count = self._vector(index, struct.calcsize(kind))
        self.buffer.spend(count)
        return self.buffer.numbers(start, kind, count)

    def span(self, index: int, size: int) -> tuple[int, int]:
        """Where the elements of a vector begin, and how many it has; `size` is that of an element in bytes."""
        return self._vector(index, size)

    def table(self, index: int) -> "Table | None":
        """A table; None if it is absent."""
        place = self._place(index)
        return None if place is None else self._follow(place)

    def tables(self, index: int) -> "list[Table]":
        """A vector of tables; empty if it is absent."""
        start, count = self._vector(index, 4)
        self.buffer.spend(count)
        return [self._follow(start + 4 * turn) for turn in range(count)]

    def _place(self, index: int) -> int | None:
        vtable = self.position - int(self.buffer.number(self.position, "i"))
        slot = 4 + 2 * index
        if slot + 2 > self.buffer.number(vtable, "H"):
            return None
        offset = int(self.buffer.number(vtable + slot, "H"))
        return self.position + offset if offset else None

    def _follow(self, place: int) -> "Table":
        return Table(self.buffer, place + int(self.buffer.number(place, "I")))

    def _vector(self, index: int, size: int) -> tuple[int, int]:
        place = self._place(index)
        if place is None:
            return 0, 0
        start = place + int(self.buffer.number(place, "I"))
        count = int(self.buffer.number(start, "I"))
        if start + 4 + count * size > len(self.buffer.content):
            raise self.buffer.damaged(f"the vector at byte {start} claims {count} elements")
        return start + 4, count
