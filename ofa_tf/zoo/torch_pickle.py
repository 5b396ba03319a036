"""The pickle inside a PyTorch checkpoint, read without running it.

`pickletools.genops` splits it into instructions, and `Unpickler` knows those that plain containers, tensors and
parameters need; it looks up no name and calls nothing. Whatever it allocates is taken from a budget first.
"""

import pickletools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np

from ofa_tf.errors import FormatError

FIXED_BYTES = 24 << 20
_READ_LIMIT = 1 << 20  # of one read: a string, the directory of an archive, a piece of a storage
_CHUNK = 1 << 16  # values of a storage that are read at a time
_PER_INSTRUCTION = 100  # bytes that an instruction may leave behind besides its argument: a container, a slot
_PER_OBJECT = 800  # bytes of a tensor, of a storage without its values, of a container when the result is weighed
_MAX_VALUES, _MAX_DEPTH = 1_000_000, 64

# Storage class -> type in the file, type of the array. bfloat16 is the upper half of a float32.
_STORAGES = {
    "torch.DoubleStorage": ("<f8", "f8"),
    "torch.FloatStorage": ("<f4", "f4"),
    "torch.HalfStorage": ("<f2", "f2"),
    "torch.BFloat16Storage": ("<u2", "f4"),
    "torch.LongStorage": ("<i8", "i8"),
    "torch.IntStorage": ("<i4", "i4"),
    "torch.ShortStorage": ("<i2", "i2"),
    "torch.CharStorage": ("i1", "i1"),
    "torch.ByteStorage": ("u1", "u1"),
    "torch.BoolStorage": ("u1", "?"),
}
_GLOBALS = {
    *_STORAGES,
    "collections.OrderedDict",
    "torch.Size",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2",
}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_LITERALS |= {"BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_PLAIN = (str, int, float, bool, type(None), np.ndarray)


def short(text: str) -> str:
    """How a message shows a text that comes from a file."""
    return repr(text) if len(text) <= 120 else f"{text[:120]!r}..."


class Allowance:
    """Bytes that may still be allocated."""

    def __init__(self, limit: int):
        self.left = limit

    def take(self, n_bytes: int) -> None:
        self.left -= n_bytes
        if self.left < 0:
            raise FormatError("is refused: it unfolds to far more memory than its size")


class LimitedFile:
    """A file whose reads are limited, as what asks for them obeys lengths that the file claims."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, n: int = -1) -> bytes:
        if n > _READ_LIMIT:
            raise FormatError(f"is damaged: one of its parts claims {n} bytes")
        return self._file.read(_READ_LIMIT if n < 0 else n)

    def readline(self) -> bytes:
        return self._file.readline(_READ_LIMIT)


# --- storages and tensors --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Storage:
    """A flat array, filled when the pickle has been read; tensors are views of it.

    Args:
        kind: its class in PyTorch.
        values: the array, shape (values,).
        owner: the first tensor that uses it, for messages.
    """

    kind: str
    values: np.ndarray
    owner: str

    @property
    def stored(self) -> np.dtype:
        return np.dtype(_STORAGES[self.kind][0])

    def check_bytes(self, n_bytes: int) -> None:
        expected = self.values.size * self.stored.itemsize
        if n_bytes != expected:
            raise FormatError(f"is damaged: {self.owner} needs {expected} bytes, {n_bytes} are there")

    def fill(self, read: Callable[[int], bytes]) -> None:
        for start in range(0, self.values.size, _CHUNK):
            target = self.values[start : start + _CHUNK]
            content = read(target.size * self.stored.itemsize)
            if len(content) < target.size * self.stored.itemsize:
                raise FormatError(f"ends in the middle of {self.owner}")
            part = np.frombuffer(content, self.stored)
            target[:] = (part.astype("u4") << 16).view("f4") if self.kind == "torch.BFloat16Storage" else part


def _view(storage: Storage, offset: int, size: tuple, stride: tuple, name: str) -> np.ndarray:
    """The tensor as a view of its storage."""
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > 32 or not all(type(n) is int and 0 <= n < 1 << 60 for n in numbers):
        raise FormatError(f"is refused: {name} has a shape or strides that no tensor can have")
    count, stored = prod(size), storage.values
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    # More values than are stored: an expanded tensor, small in the file and of any size in memory.
    if (count > 0 and last >= stored.size) or count > stored.size or prod(max(n, 1) for n in size) >= 1 << 40:
        shape = f"shape {size}, strides {stride}, offset {offset}"
        raise FormatError(f"is refused: {name} ({shape}) does not fit the {stored.size} values that are stored for it")
    if count == 0:
        return np.empty(size, stored.dtype)
    steps = tuple(step * stored.itemsize if length > 1 else 0 for length, step in zip(size, stride, strict=True))
    return np.ndarray(size, stored.dtype, stored, offset * stored.itemsize, steps)


# --- the pickle ------------------------------------------------------------------------------------------------------


class _Global(str):
    """The name of a class or function that a pickle asked for; nothing is looked up."""

    __slots__ = ()


class Unpickler:
    """Reads pickles of tensors and plain containers.

    Args:
        file_bytes: size of the file; it bounds what may be allocated.

    Attributes:
        budget: what may still be allocated.
        storages: by key, those that the pickles read so far ask for, to be filled.
    """

    def __init__(self, file_bytes: int):
        self.file_bytes = file_bytes
        self.budget = Allowance(FIXED_BYTES + 2 * file_bytes)
        self.storages: dict[str, Storage] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def load(self, source: LimitedFile) -> Any:
        """Reads one pickle and stops right after it."""
        self._stack, self._marks, self._memo = [], [], {}
        for opcode, argument, _ in pickletools.genops(source):  # type: ignore[arg-type]
            self.budget.take(_PER_INSTRUCTION + sys.getsizeof(argument))
            if opcode.name != "STOP":
                self._step(opcode.name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        match name:
            case "PROTO" | "FRAME":
                pass
            case name if name in _LITERALS:
                stack.append(argument)
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self._pop_marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(name[-1]))))
            case "APPEND" | "APPENDS":
                items = self._pop(1) if name == "APPEND" else self._pop_marked()
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if name == "SETITEM" else self._pop_marked()
                self._set(self._top(dict), items)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_allowed(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                stack.append(_allowed(".".join(part for part in self._pop(2) if type(part) is str)))
            case "BINPERSID":
                stack.append(self._storage(*self._pop(1)))
            case "REDUCE":
                stack.append(self._call(*self._pop(2)))
            case "BUILD":  # an OrderedDict's attributes: PyTorch keeps version numbers there
                state = self._pop(1)[0]
                if type(self._top(dict)) is not type(state) or set(state) - {"_metadata"}:
                    raise FormatError("is refused: it sets attributes of an object")
            case _:
                asked = short(name if argument is None else f"{name} {argument}")
                raise FormatError(f"is refused: it asks for the pickle instruction {asked}, which no tensor needs")

    def _pop(self, n: int) -> list[Any]:
        if len(self._stack) < n:
            raise FormatError("is damaged: its pickle takes more values than it has")
        items = self._stack[-n:]
        del self._stack[-n:]
        return items

    def _pop_marked(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise FormatError(f"is damaged: its pickle takes a {type(self._stack[-1]).__name__} for a {kind.__name__}")
        return self._stack[-1]

    def _set(self, target: dict, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Keys whose hash an attacker can neither make slow nor collide.
            if type(key) is not str and not (type(key) is int and abs(key) < 1 << 60):
                raise FormatError(f"is refused: a dict has a {type(key).__name__} as key, not a name or a number")
            target[key] = value

    def _name(self) -> str:
        """The tensor in the making: the last string below it is its key in a dict."""
        keys = [item for item in self._stack[-8:] if type(item) is str]
        return f"the tensor {short(keys[-1])}" if keys else "a tensor without a name"

    def _storage(self, identity: Any) -> Storage:
        if type(identity) is tuple and len(identity) == 6 and identity[5] is None:  # the stream's: no view
            identity = identity[:5]
        match identity:
            case (str("storage"), _Global() as kind, str(key), str(), int(n_values)) if kind in _STORAGES:
                stored, result = (np.dtype(name) for name in _STORAGES[kind])
            case _:
                raise FormatError(f"is refused: {self._name()} asks for something other than a storage")
        if key in self.storages:
            storage = self.storages[key]
            if (storage.kind, storage.values.size) != (kind, n_values):
                raise FormatError(f"is damaged: {self._name()} and {storage.owner} differ about their storage")
            return storage
        if not 0 <= n_values * stored.itemsize <= self.file_bytes:
            raise FormatError(f"is damaged: {self._name()} claims {n_values} values, more than the file has")
        self.budget.take(_PER_OBJECT + n_values * result.itemsize)
        self.storages[key] = Storage(kind, np.empty(n_values, result), self._name())
        return self.storages[key]

    def _call(self, function: Any, arguments: Any) -> Any:
        if type(function) is not _Global or type(arguments) is not tuple:
            raise FormatError("is damaged: its pickle calls what is no function")
        match str(function), arguments:
            case "collections.OrderedDict", ():
                return {}
            case "torch.Size", (tuple(size),):
                return size
            case "torch._utils._rebuild_parameter", (np.ndarray() as tensor, bool(), dict()):
                return tensor
            case "torch._utils._rebuild_tensor_v2", (
                Storage() as storage,
                int(offset),
                tuple(size),
                tuple(stride),
                bool(),
                dict(),
            ):
                self.budget.take(_PER_OBJECT)
                return _view(storage, offset, size, stride, self._name())
        raise FormatError(f"is refused: {self._name()} calls {function} with arguments that it does not take")


def _allowed(name: str) -> _Global:
    if name not in _GLOBALS:
        raise FormatError(f"is refused: it asks for {short(name)}, and only tensors and plain containers are read")
    return _Global(name)


def weigh(value: Any, budget: Allowance, known: dict[int, tuple[int, int]], depth: int = 0) -> tuple[int, int]:
    """How many values a walk over `value` meets, and how deep; containers may be shared, so it can be exponential."""
    if type(value) in _PLAIN or (type(value) in (list, tuple, dict) and not value):
        return 1, 0
    if type(value) not in (list, tuple, dict):
        raise FormatError(f"is refused: it holds {short(getattr(value, 'kind', str(value)))} as a value")
    if id(value) not in known and depth <= _MAX_DEPTH:
        count, height = 1, 0
        budget.take(_PER_OBJECT)
        for child in value.values() if type(value) is dict else value:
            child_count, child_height = weigh(child, budget, known, depth + 1)
            count, height = count + child_count, max(height, child_height + 1)
        known[id(value)] = count, height
    count, height = known.get(id(value), (1, _MAX_DEPTH + 1))
    if count > _MAX_VALUES or height > _MAX_DEPTH:
        raise FormatError(f"is refused: it unfolds to more than {_MAX_VALUES} values or {_MAX_DEPTH} levels")
    return count, height
