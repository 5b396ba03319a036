"""TFLite metadata: what a `.tflite` file says about itself, for people and for the libraries of Android.

A FlatBuffer of the schema `metadata_schema.fbs` of https://github.com/tensorflow/tflite-support lies in a buffer of the
file; labels and arch are small files in a ZIP archive behind it. It is read here, and written by `metadata_writer`.
"""

import ast
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ofa_tf.errors import DamagedError
from ofa_tf.tflite.flatbuffer import FlatBuffer, Table, printable
from ofa_tf.tflite.inspect import read_root

LABELS, ARCH = "labels.txt", "arch.json"
FIELD, IDENTIFIER = "TFLITE_METADATA", b"M001"
NORMALIZATION, AXIS_LABELS = 1, 2  # numbers in the schema: a process unit of this kind, an associated file of this kind
LARGEST_DICT, MOST_BRACES = 1 << 20, 100  # number of characters, and of "{", in a dict with labels
LARGEST_FILE = 1 << 24  # bytes of a file in the archive; labels of 20,000 classes take less than 1 MB


@dataclass(frozen=True)
class Metadata:
    """What a classification file says about itself.

    Args:
        name: name of the network.
        description: one or two sentences.
        version: of the network, as its author counts.
        author: who made it.
        license: under which it may be used.
        labels: of the outputs, in their order.
        mean: `(pixel - mean) / std`, on pixels from 0 to 255, is what the input stands for, before it is quantised.
            One number, or one for each colour; empty if the file does not say.
        std: standard deviation in it, like `mean`.
        arch: the JSON document of the subnet, where ofa-tf made the file.
    """

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    labels: Sequence[str] = ()
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    arch: Mapping[str, Any] | None = None


def read_metadata(content: bytes, name: str = "The file") -> Metadata | None:
    """Reads the metadata of any `.tflite` file; None if it has none.

    Args:
        content: the bytes of the file.
        name: name of the file, for messages.

    Raises:
        FormatError: not a `.tflite` file.
        DamagedError: the file or its metadata is damaged.
    """
    model = read_root(content, name)
    buffers = model.tables(4)
    places = [entry.scalar(1, "I") for entry in model.tables(6) if entry.text(0) == FIELD]
    if not places:
        return None
    if places[0] >= len(buffers):
        raise model.buffer.damaged("its metadata is in a buffer that is not there")
    embedded = FlatBuffer(bytes(buffers[places[0]].data(0)), f"The metadata of {name}")
    document = embedded.root(IDENTIFIER, "TFLite metadata")
    inputs, outputs = _tensors(document, 2), _tensors(document, 3)
    files = [file for tensor in outputs for file in tensor.tables(6) if file.scalar(2, "b") == AXIS_LABELS]
    labels = _archived(content, files[0].text(0), name) if files else ""
    normalization = _normalization(inputs)
    mean, std = (normalization.numbers(field, "f") if normalization else () for field in (0, 1))
    if not all(map(isfinite, (*mean, *std))) or 0 in std or len(mean) != len(std):
        raise DamagedError(f"The metadata of {name} has the normalisation mean {mean}, std {std}.")
    arch = _archived(content, ARCH, name) if ARCH in [file.text(0) for file in document.tables(6)] else None
    return Metadata(
        name=document.text(0),
        description=document.text(1),
        version=document.text(2),
        author=document.text(4),
        license=document.text(5),
        labels=label_lines(labels),
        mean=mean,
        std=std,
        arch=None if arch is None else _parse_arch(arch, name),
    )


def label_lines(text: str) -> tuple[str, ...]:
    """The lines of a label file; an empty one in the middle is a label too, or the others would move up.

    If the file is a Python dict on one line, as Ultralytics writes it, the labels are its `names`.
    """
    lines = _names(text.strip()) or text.rstrip().split("\n") if text.strip() else ()
    return tuple(printable(line).strip() for line in lines)


def _names(line: str) -> list[str] | None:
    """The `names` of a dict: a list, or a dict whose keys are the numbers of the outputs; None if there are none."""
    # Without the limits the parser might take minutes.
    if not line.startswith("{") or "\n" in line or len(line) > LARGEST_DICT or line.count("{") > MOST_BRACES:
        return None
    try:
        names = ast.literal_eval(line)["names"]
        if isinstance(names, dict):
            numbered = {int(number): name for number, name in names.items()}
            names = [numbered[number] for number in range(len(names))]
    except (ValueError, SyntaxError, TypeError, KeyError, OverflowError, MemoryError, RecursionError):
        return None
    return list(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else None


def _tensors(document: Table, index: int) -> list[Table]:
    subgraphs = document.tables(3)
    return subgraphs[0].tables(index) if subgraphs else []


def _normalization(inputs: Sequence[Table]) -> Table | None:
    units = [unit for tensor in inputs[:1] for unit in tensor.tables(4) if unit.scalar(0, "B") == NORMALIZATION]
    return units[0].table(1) if units else None


def _archived(content: bytes, file: str, name: str) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(file) as stream:
            read = stream.read(LARGEST_FILE + 1)
    except Exception as error:  # zipfile raises some ten kinds for broken archives
        raise DamagedError(f"The metadata of {name} names {file!r}, which cannot be read: {error}.") from error
    if len(read) > LARGEST_FILE:
        raise DamagedError(f"The metadata of {name} has a file {file!r} of more than {LARGEST_FILE} bytes.")
    return read.decode(errors="replace")


def _parse_arch(text: str, name: str) -> Mapping[str, Any]:
    try:
        arch = json.loads(text)
        json.dumps(arch, allow_nan=False)
    except (ValueError, RecursionError):
        arch = None
    if not isinstance(arch, dict):
        raise DamagedError(f"The metadata of {name} has an {ARCH} that is not a JSON object.")
    return arch
