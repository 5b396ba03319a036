"""Writing TFLite metadata: the FlatBuffer, its place in the model, and the archive behind it.

The same arguments give the same bytes on every Python. Tables and fields are those of `metadata_schema.fbs` of
https://github.com/tensorflow/tflite-support.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ofa_tf.errors import DamagedError, ExportError
from ofa_tf.tflite.inspect import IDENTIFIER as MODEL_IDENTIFIER
from ofa_tf.tflite.inspect import inspect_file
from ofa_tf.tflite.metadata import ARCH, AXIS_LABELS, FIELD, IDENTIFIER, LABELS, NORMALIZATION, Metadata

if TYPE_CHECKING:
    from flatbuffers import Builder

# The fields of each table, at their numbers, as far as they are written here.
FIELDS = {
    "ModelMetadata": (
        "name",
        "description",
        "version",
        "subgraph_metadata",
        "author",
        "license",
        "associated_files",
        "min_parser_version",
    ),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        "name",
        "description",
        "dimension_names",
        "content",
        "process_units",
        "stats",
        "associated_files",
    ),
    "Content": ("content_properties_type", "content_properties"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space",),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "Stats": ("max", "min"),
    "AssociatedFile": ("name", "description", "type"),
}
FEATURE, IMAGE = 1, 2  # what a tensor holds
RGB = 1  # a colour space
DESCRIPTIONS = 1  # an associated file that a person may read
PARSER_VERSION = "1.0.0"  # the first parser knows all of this
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a ZIP archive can tell; the time of writing would make every file another one


@dataclass(frozen=True)
class _Table:
    """A table to be written.

    Args:
        kind: its name in the schema.
        fields: by name: a text, a number of one byte, another table, or a sequence of floats or of tables. Empty texts
            and sequences are left out.
    """

    kind: str
    fields: Mapping[str, Any]


def add_metadata(content: bytes, metadata: Metadata) -> bytes:
    """Puts metadata into a file of one image input and one output; equal arguments give equal bytes.

    Args:
        content: a `.tflite` file; metadata that it has are replaced.
        metadata: what to say.

    Raises:
        ExportError: the file has several inputs or outputs, or weights outside its FlatBuffer.
        FormatError: not a `.tflite` file.
        DamagedError: the file is damaged.
    """
    facts = inspect_file(content)
    if (len(facts.inputs), len(facts.outputs)) != (1, 1):
        raise ExportError(
            "Metadata can be put only into a file of one input and one output; "
            f"this one has {len(facts.inputs)} and {len(facts.outputs)}."
        )
    files = {LABELS: "".join(f"{label}\n" for label in metadata.labels).encode()} if metadata.labels else {}
    if metadata.arch is not None:
        files[ARCH] = json.dumps(metadata.arch).encode()
    return _with_archive(_with_buffer(_without_archive(content), pack(metadata)), files)


def add_entry(content: bytes, name: str, data: bytes) -> bytes:
    """Puts a named piece of metadata into a file, beside what it has; one of that name is replaced.

    Args:
        content: a `.tflite` file.
        name: name of the entry in the model's list of metadata.
        data: its bytes.

    Raises:
        ExportError: the file has weights outside its FlatBuffer.
        DamagedError: what lies behind the FlatBuffer cannot be read.
    """
    bare = _without_archive(content)
    return _with_archive(_with_buffer(bare, data, name), _archived_files(content) if bare != content else {})


def _archived_files(content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {info.filename: archive.read(info) for info in archive.infolist()}
    except Exception as error:  # zipfile raises some ten kinds for broken archives
        raise DamagedError(f"The archive behind the file cannot be read: {error}.") from error


def pack(metadata: Metadata) -> bytes:
    """The metadata as a FlatBuffer; labels and arch are named in it only."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, _document(metadata)), IDENTIFIER)
    return bytes(builder.Output())


def _document(metadata: Metadata) -> _Table:
    units, stats = [], None
    if metadata.mean:
        options = _Table("NormalizationOptions", {"mean": metadata.mean, "std": metadata.std})
        units = [_Table("ProcessUnit", {"options_type": NORMALIZATION, "options": options})]
        pairs = list(zip(metadata.mean, metadata.std, strict=True))
        ends = ([(pixel - mean) / std for mean, std in pairs] for pixel in (255, 0))
        stats = _Table("Stats", dict(zip(FIELDS["Stats"], ends, strict=True)))
    image = _Table(
        "TensorMetadata",
        {
            "name": "image",
            "description": "An RGB image.",
            "content": _content(IMAGE, _Table("ImageProperties", {"color_space": RGB})),
            "process_units": units,
            "stats": stats,
        },
    )
    labels = [_file(LABELS, "Labels, one a line.", AXIS_LABELS)] if metadata.labels else []
    score = _Table(
        "TensorMetadata",
        {
            "name": "score",
            "description": "One number for each label; the largest is the answer.",
            "content": _content(FEATURE, _Table("FeatureProperties", {})),
            "associated_files": labels,
        },
    )
    graph = _Table("SubGraphMetadata", {"input_tensor_metadata": [image], "output_tensor_metadata": [score]})
    arch = [_file(ARCH, "The arch, as ofa-tf reads it.", DESCRIPTIONS)] if metadata.arch is not None else []
    texts = {name: getattr(metadata, name) for name in ("name", "description", "version", "author", "license")}
    others = {"subgraph_metadata": [graph], "associated_files": arch, "min_parser_version": PARSER_VERSION}
    return _Table("ModelMetadata", {**texts, **others})


def _content(kind: int, properties: _Table) -> _Table:
    return _Table("Content", {"content_properties_type": kind, "content_properties": properties})


def _file(name: str, description: str, kind: int) -> _Table:
    return _Table("AssociatedFile", {"name": name, "description": description, "type": kind})


def _write(builder: "Builder", table: _Table) -> int:
    """Writes a table and all that it holds, in the order of the schema; where it is."""
    names = FIELDS[table.kind]
    values = [(number, table.fields[name]) for number, name in enumerate(names) if table.fields.get(name)]
    # What a table refers to must be written before it is begun.
    places = {number: _place(builder, value) for number, value in values if not isinstance(value, int)}
    builder.StartObject(len(names))
    for number, value in values:
        if isinstance(value, int):
            builder.PrependUint8Slot(number, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, places[number], 0)
    return builder.EndObject()


def _place(builder: "Builder", value: Any) -> int:
    """Writes a text, a table or a sequence; where it is. A FlatBuffer is written from its end."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, _Table):
        return _write(builder, value)
    tables = isinstance(value[0], _Table)
    elements = [_write(builder, element) for element in value] if tables else value
    put = builder.PrependUOffsetTRelative if tables else builder.PrependFloat32
    builder.StartVector(4, len(elements), 4)
    for element in reversed(elements):
        put(element)
    return builder.EndVector()


def _with_buffer(content: bytes, data: bytes, name: str = FIELD) -> bytes:
    """The model with metadata of a name in a buffer of their own, or in that of those it had.

    The rest is written as TensorFlow's converter writes it: what the converter made does not change.
    """
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    if any(buffer.offset > 1 for buffer in model.buffers):
        raise ExportError("Metadata cannot be put into a file whose weights lie outside its FlatBuffer.")
    entries = model.metadata or []
    places = [entry.buffer for entry in entries if entry.name == name.encode()]
    if not places:
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, len(model.buffers)
        model.metadata, places = [*entries, entry], [entry.buffer]
        model.buffers.append(schema.BufferT())
    model.buffers[places[0]].data = np.frombuffer(data, np.uint8)
    builder = flatbuffers.Builder(len(content) + len(data))
    builder.Finish(model.Pack(builder), MODEL_IDENTIFIER)
    return bytes(builder.Output())


def _with_archive(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """A file without an archive, and these files behind it."""
    if not files:
        return content
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a") as archive:  # not compressed, or the readers on Android cannot map the files
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, EARLIEST), data)
    return stream.getvalue()


def _without_archive(content: bytes) -> bytes:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return content[: min((entry.header_offset for entry in archive.infolist()), default=len(content))]
