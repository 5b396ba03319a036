"""TFLite metadata: what a `.tflite` file says about itself, for people and for the libraries of Android.

It is written by tflite-support, and read without it. A FlatBuffer of the schema `metadata_schema.fbs` of
https://github.com/tensorflow/tflite-support lies in a buffer of the file; labels and arch are small files in a ZIP
archive behind it.
"""

import ctypes
import errno
import io
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ofa_tf.errors import DamagedError, ExportError, MissingDependencyError
from ofa_tf.packages import check_tflite_support
from ofa_tf.progress import SILENT, Progress
from ofa_tf.tflite.flatbuffer import FlatBuffer, Table, printable
from ofa_tf.tflite.inspect import read_root

LABELS, ARCH = "labels.txt", "arch.json"
FIELD, IDENTIFIER = "TFLITE_METADATA", b"M001"
NORMALIZATION, AXIS_LABELS = 1, 2  # numbers in the schema: a process unit of this kind, an associated file of this kind
LARGEST_FILE = 1 << 24  # bytes of a file in the archive; labels of 20,000 classes take less than 1 MB
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a ZIP archive can tell; the time of writing would make every file another one


@dataclass(frozen=True)
class Metadata:
    """What a classification file says about itself.

    Args:
        name: of the network.
        description: one or two sentences.
        version: of the network, as its author counts.
        author: who made it.
        license: under which it may be used.
        labels: of the outputs, in their order.
        mean: `(pixel - mean) / std`, on pixels from 0 to 255, is what the input stands for, before it is quantised.
            One number, or one for each colour; empty if the file does not tell.
        std: likewise.
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


def add_metadata(content: bytes, metadata: Metadata, progress: Progress = SILENT) -> bytes:
    """Puts metadata into a file of one image input and one output; equal arguments give equal bytes.

    Args:
        content: a `.tflite` file; metadata that it has are replaced.
        metadata: what to say.
        progress: told in one line if tflite-support is missing.

    Returns:
        The file with metadata; without tflite-support the file as it was.

    Raises:
        ExportError: tflite-support refuses the file.
        OSError: there is no room for a temporary file.
    """
    import tensorflow as tf

    try:
        schema, library = _load_library()
    except MissingDependencyError as error:
        progress.note(f"The file has no metadata inside: {error}")
        return content
    files = {LABELS: "".join(f"{label}\n" for label in metadata.labels).encode()} if metadata.labels else {}
    if metadata.arch is not None:
        files[ARCH] = json.dumps(metadata.arch).encode()
    try:
        populator = library.MetadataPopulator.with_model_buffer(bytearray(_without_archive(content)))
        populator.load_metadata_buffer(_pack(schema, metadata))
        populator.load_associated_file_buffers(files)
        populator.populate()
    except ValueError as error:
        raise ExportError(f"The metadata cannot be put into the file: {str(error).rstrip('.')}.") from error
    except tf.errors.OpError as error:  # the library works on a temporary file, written by TensorFlow
        raise OSError(errno.EFBIG, error.message, tempfile.gettempdir()) from error
    return _with_archive(bytes(populator.get_model_buffer()), files)


def read_metadata(content: bytes, name: str = "The file") -> Metadata | None:
    """Reads the metadata of any `.tflite` file; None if it has none.

    Args:
        content: the bytes of the file.
        name: of the file, for errors.

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
    """The lines of a label file; an empty one in the middle is a label too, or the others would move up."""
    return tuple(printable(line).strip() for line in text.rstrip().split("\n")) if text.strip() else ()


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


def _load_library() -> tuple[Any, Any]:
    """The metadata schema and writer of tflite-support.

    `import tflite_support` does not work beside TensorFlow, and wants libusb; `docs/dependencies.md` has the story.
    """
    try:
        import libusb_package

        ctypes.CDLL(str(libusb_package.get_library_path()), ctypes.RTLD_GLOBAL)
        from tensorflow_lite_support.metadata import metadata_schema_py_generated as schema
        from tensorflow_lite_support.metadata.python import metadata as library
    except (ImportError, OSError) as error:
        check = check_tflite_support()
        why = f"tflite-support cannot be loaded ({error})" if check.good else f"tflite-support is {check.detail}"
        raise MissingDependencyError(f"{why}.") from None
    return schema, library


def _pack(schema: Any, metadata: Metadata) -> bytearray:
    """The metadata as a FlatBuffer, by the classes that tflite-support has for its schema."""
    import flatbuffers

    image = schema.TensorMetadataT()
    image.name, image.description = "image", "An RGB image."
    image.content = schema.ContentT()
    image.content.contentPropertiesType = schema.ContentProperties.ImageProperties
    image.content.contentProperties = schema.ImagePropertiesT()
    image.content.contentProperties.colorSpace = schema.ColorSpaceType.RGB
    if metadata.mean:
        unit = schema.ProcessUnitT()
        unit.optionsType = schema.ProcessUnitOptions.NormalizationOptions
        unit.options = schema.NormalizationOptionsT()
        unit.options.mean, unit.options.std = list(metadata.mean), list(metadata.std)
        image.processUnits = [unit]
        image.stats = schema.StatsT()
        for name, pixel in (("min", 0), ("max", 255)):
            pairs = zip(metadata.mean, metadata.std, strict=True)
            setattr(image.stats, name, [(pixel - mean) / std for mean, std in pairs])
    score = schema.TensorMetadataT()
    score.name, score.description = "score", "One number for each label; the largest is the answer."
    score.content = schema.ContentT()
    score.content.contentPropertiesType = schema.ContentProperties.FeatureProperties
    score.content.contentProperties = schema.FeaturePropertiesT()
    kinds = schema.AssociatedFileType
    if metadata.labels:
        score.associatedFiles = [_file(schema, LABELS, "Labels, one a line.", kinds.TENSOR_AXIS_LABELS)]
    graph = schema.SubGraphMetadataT()
    graph.inputTensorMetadata, graph.outputTensorMetadata = [image], [score]
    document = schema.ModelMetadataT()
    for field in ("name", "description", "version", "author", "license"):
        setattr(document, field, getattr(metadata, field) or None)
    document.subgraphMetadata = [graph]
    if metadata.arch is not None:
        document.associatedFiles = [_file(schema, ARCH, "The arch, as ofa-tf reads it.", kinds.DESCRIPTIONS)]
    builder = flatbuffers.Builder(0)
    builder.Finish(document.Pack(builder), IDENTIFIER)
    return builder.Output()


def _file(schema: Any, name: str, description: str, kind: int) -> Any:
    file = schema.AssociatedFileT()
    file.name, file.description, file.type = name, description, kind
    return file


def _with_archive(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """The file with its archive written anew: tflite-support notes the time of writing in it."""
    stream = io.BytesIO()
    stream.write(_without_archive(content))
    if not files:
        return stream.getvalue()
    with zipfile.ZipFile(stream, "a") as archive:  # not compressed, or the readers on Android cannot map the files
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, EARLIEST), data)
    return stream.getvalue()


def _without_archive(content: bytes) -> bytes:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return content[: min((entry.header_offset for entry in archive.infolist()), default=len(content))]
