"""Writes PyTorch's two containers without PyTorch, well-formed or not."""

import io
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C


@dataclass
class Tensor:
    """A tensor as a checkpoint describes it; `values` is the whole storage, under `key`."""

    values: np.ndarray
    size: tuple
    stride: tuple
    offset: int = 0
    key: str = "0"
    kind: str = "FloatStorage"
    n_values: int | None = None
    parameter: bool = False


class Raw(bytes):
    """Instructions to put into a pickle as they are."""


def instructions(value) -> bytes:
    """The instructions that leave a value on the stack, in protocol 2."""
    match value:
        case Raw():
            return bytes(value)
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            if -(1 << 31) <= value < 1 << 31:
                return b"J" + struct.pack("<i", value)
            content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a%c" % len(content) + content
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(instructions, value)) + b"t"
        case list():
            return b"](" + b"".join(map(instructions, value)) + b"e"
        case dict():
            items = b"".join(instructions(key) + instructions(item) for key, item in value.items())
            return b"ccollections\nOrderedDict\n)R(" + items + b"u"
        case Tensor():
            n_values = len(value.values) if value.n_values is None else value.n_values
            identity = ("storage", Raw(f"ctorch\n{value.kind}\n".encode()), value.key, "cpu", n_values)
            fields: tuple = (Raw(instructions(identity) + b"Q"), value.offset, value.size, value.stride, False, {})
            rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n" + instructions(fields) + b"R"
            if value.parameter:
                return b"ctorch._utils\n_rebuild_parameter\n" + instructions((Raw(rebuilt), True, {})) + b"R"
            return rebuilt
    raise TypeError(value)


def pickled(value) -> bytes:
    return b"\x80\x02" + instructions(value) + b"."


def storages_of(value) -> dict[str, np.ndarray]:
    if isinstance(value, Tensor):
        return {value.key: value.values}
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return {key: values for child in children for key, values in storages_of(child).items()}


def as_zip(pickle_bytes: bytes, storages: dict[str, np.ndarray], extra=(), order="little") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", pickle_bytes)
        archive.writestr("net/byteorder", order)
        for key, values in storages.items():
            archive.writestr(f"net/data/{key}", values.tobytes())
        for entry, content in extra:
            archive.writestr(entry, content)
    return file.getvalue()


def patched(content: bytes, offset: int, value: bytes) -> bytes:
    """Overwrites a field of the first entry in the directory of an archive."""
    start = content.index(b"PK\x01\x02") + offset
    return content[:start] + value + content[start + len(value) :]


def deflated(n_bytes: int) -> bytes:
    """An archive whose pickle of so many instructions is compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"\x80\x02" + b"N" * n_bytes + b".")
    return file.getvalue()


def overlapping(n_entries: int) -> bytes:
    """An archive whose directory has many entries for the same bytes, a tensor for each."""
    values = np.zeros(100_000, "<f4")
    tensors = {f"t{i}": Tensor(values, (100_000,), (1,), key=str(i)) for i in range(n_entries)}
    content = as_zip(pickled(tensors), {"0": values})
    start = content.index(b"PK\x01\x02")
    *entries, entry = content[start : content.index(b"PK\x05\x06")].split(b"PK\x01\x02")[1:]
    for name in (f"net/data/{i}".encode() for i in range(n_entries)):
        entries.append(entry[:24] + struct.pack("<H", len(name)) + entry[26:42] + name)
    directory = b"".join(b"PK\x01\x02" + item for item in entries)
    counts = (len(entries), len(entries), len(directory), start)
    return content[:start] + directory + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, *counts, 0)


def as_stream(pickle_bytes: bytes, storages: dict[str, np.ndarray], little: bool = True) -> bytes:
    head = pickled(MAGIC) + pickled(1001) + pickled({"protocol_version": 1001, "little_endian": little})
    tail = b"".join(struct.pack("<q", len(values)) + values.tobytes() for values in storages.values())
    # The older container's storage identities have a sixth field, the view.
    return head + pickle_bytes.replace(b"tQ", b"NtQ") + pickled(list(storages)) + tail


CONTAINERS = {"zip": as_zip, "stream": as_stream}


def plain(values: np.ndarray, key: str) -> Tensor:
    """An array as the tensor that `torch.save` would write."""
    kind = {"float32": "FloatStorage", "int64": "LongStorage"}[values.dtype.name]
    strides = tuple(stride // values.itemsize for stride in values.strides)
    return Tensor(values.ravel(), values.shape, strides, key=key, kind=kind)


def checkpoint(tensors: dict[str, np.ndarray]) -> bytes:
    """The file of `torch.save({"state_dict": tensors})`, in the newer container."""
    arrays = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    root = {"state_dict": {name: plain(values, str(key)) for key, (name, values) in enumerate(arrays.items())}}
    return as_zip(pickled(root), storages_of(root))
