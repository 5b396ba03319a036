"""Metadata as it is written: the bytes of tflite-support on every Python, read by other programs where they install."""

import ctypes
import io
import json
import os
import re
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from model_files import WHAT, edited, tint_file

from ofa_tf.errors import ExportError, FormatError
from ofa_tf.tflite.metadata import Metadata
from ofa_tf.tflite.metadata_writer import FIELDS, PARSER_VERSION, add_metadata, pack

KEPT = Path(__file__).parent / "data" / "metadata"
VARIANTS = {
    "all": WHAT,
    "nothing": Metadata(),
    "one number for all colours": Metadata(name="grey", mean=(127.5,), std=(127.5,)),
    "no labels": replace(WHAT, labels=()),
    "no arch": replace(WHAT, arch=None),
    "an empty label": replace(WHAT, labels=("a", "", "b")),
}


@pytest.fixture(scope="module")
def plain() -> bytes:
    """A file of the converter that says nothing about itself."""
    return (KEPT / "plain.tflite").read_bytes()


@pytest.fixture(scope="module")
def support():
    """Modules of tflite-support, which has wheels up to Python 3.11; in CI it must be there."""
    if sys.version_info >= (3, 12):
        pytest.skip("tflite-support ends at Python 3.11")
    try:
        import libusb_package

        ctypes.CDLL(str(libusb_package.get_library_path()), ctypes.RTLD_GLOBAL)
        from tensorflow_lite_support.metadata import metadata_schema_py_generated as schema
        from tensorflow_lite_support.metadata.cc.python import _pywrap_metadata_version as versions
        from tensorflow_lite_support.metadata.python import metadata
        from tensorflow_lite_support.metadata.python.metadata_writers import image_classifier
    except (ImportError, OSError) as error:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"needs tflite-support, which `make` installs on Python 3.11: {error}")
    return SimpleNamespace(schema=schema, versions=versions, metadata=metadata, image_classifier=image_classifier)


def without_archive(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return content[: min(entry.header_offset for entry in archive.infolist())]


# --- on every Python --------------------------------------------------------------------------------------------------


def test_the_bytes_are_those_that_tflite_support_wrote_on_python_3_11(plain):
    assert add_metadata(plain, WHAT) == (KEPT / "told.tflite").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8"])
def test_what_the_converter_wrote_is_all_there(dtype):
    def take_out(model):
        model.metadata.pop()
        model.buffers.pop()

    plain = tint_file(dtype=dtype)
    assert edited(add_metadata(plain, WHAT), take_out) == plain


def test_a_file_that_never_had_metadata():
    def take_out(model):
        model.metadata = None

    bare = edited(tint_file(), take_out)
    told = add_metadata(bare, WHAT)
    assert edited(told, lambda model: (take_out(model), model.buffers.pop())) == bare


def test_files_in_the_archive_are_not_compressed(plain):
    with zipfile.ZipFile(io.BytesIO(add_metadata(plain, WHAT))) as archive:
        assert [entry.filename for entry in archive.infolist()] == ["labels.txt", "arch.json"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("labels.txt").decode() == "red\ngreen ish\nblau-grün\n"
        assert json.loads(archive.read("arch.json")) == WHAT.arch


def test_a_file_that_says_nothing_has_no_archive(plain):
    assert not zipfile.is_zipfile(io.BytesIO(add_metadata(plain, Metadata())))
    assert add_metadata(add_metadata(plain, WHAT), Metadata()) == add_metadata(plain, Metadata())


def test_other_files_are_refused(plain):
    def second_output(model):
        graph = model.subgraphs[0]
        graph.outputs = np.append(graph.outputs, graph.outputs)

    def far_weights(model):
        model.buffers[-1].offset, model.buffers[-1].size, model.buffers[-1].data = 16, 8, None

    with pytest.raises(ExportError, match=r"one input and one output; this one has 1 and 2\."):
        add_metadata(edited(plain, second_output), WHAT)
    with pytest.raises(ExportError, match="weights lie outside its FlatBuffer"):
        add_metadata(edited(plain, far_weights), WHAT)
    with pytest.raises(FormatError, match="is not a TFLite model"):
        add_metadata(b"<html>", WHAT)


# --- beside tflite-support --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", VARIANTS.values(), ids=list(VARIANTS))
def test_tflite_support_puts_the_same_bytes_into_the_file(support, plain, metadata):
    files = {"labels.txt": "".join(f"{label}\n" for label in metadata.labels).encode()} if metadata.labels else {}
    if metadata.arch is not None:
        files["arch.json"] = json.dumps(metadata.arch).encode()
    populator = support.metadata.MetadataPopulator.with_model_buffer(bytearray(plain))
    populator.load_metadata_buffer(bytearray(pack(metadata)))  # unpacks it and packs it again
    populator.load_associated_file_buffers(files)
    populator.populate()
    theirs, ours = bytes(populator.get_model_buffer()), add_metadata(plain, metadata)
    if not files:  # where it leaves an empty archive
        assert theirs[: len(ours)] == ours
        return
    assert without_archive(theirs) == without_archive(ours)
    with zipfile.ZipFile(io.BytesIO(theirs)) as one, zipfile.ZipFile(io.BytesIO(ours)) as other:
        assert {name: one.read(name) for name in one.namelist()} == {n: other.read(n) for n in other.namelist()}


@pytest.mark.parametrize("metadata", VARIANTS.values(), ids=list(VARIANTS))
def test_tflite_support_packs_the_same_fields_to_the_same_bytes(support, metadata):
    import flatbuffers

    builder = flatbuffers.Builder(0)
    builder.Finish(in_their_classes(support.schema, metadata).Pack(builder), b"M001")
    assert bytes(builder.Output()) == pack(metadata)
    assert support.versions.GetMinimumMetadataParserVersion(pack(metadata)) == PARSER_VERSION


def in_their_classes(schema, metadata: Metadata):
    """What `pack` is to write, as an object of the schema's `ModelMetadataT`."""
    image, score = schema.TensorMetadataT(), schema.TensorMetadataT()
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
        image.processUnits, image.stats = [unit], schema.StatsT()
        mean, std = np.array(metadata.mean), np.array(metadata.std)
        image.stats.min, image.stats.max = list((0 - mean) / std), list((255 - mean) / std)
    score.name, score.description = "score", "One number for each label; the largest is the answer."
    score.content = schema.ContentT()
    score.content.contentPropertiesType = schema.ContentProperties.FeatureProperties
    score.content.contentProperties = schema.FeaturePropertiesT()
    files = []
    for name, description, kind in (
        ("labels.txt", "Labels, one a line.", schema.AssociatedFileType.TENSOR_AXIS_LABELS),
        ("arch.json", "The arch, as ofa-tf reads it.", schema.AssociatedFileType.DESCRIPTIONS),
    ):
        files.append(schema.AssociatedFileT())
        files[-1].name, files[-1].description, files[-1].type = name, description, kind
    score.associatedFiles = files[:1] if metadata.labels else None
    graph = schema.SubGraphMetadataT()
    graph.inputTensorMetadata, graph.outputTensorMetadata = [image], [score]
    document = schema.ModelMetadataT()
    for field in ("name", "description", "version", "author", "license"):
        setattr(document, field, getattr(metadata, field) or None)
    document.subgraphMetadata, document.minParserVersion = [graph], "1.0.0"
    document.associatedFiles = files[1:] if metadata.arch is not None else None
    return document


def test_fields_have_the_numbers_of_the_schema(support):
    text = (Path(support.schema.__file__).parent / "metadata_schema.fbs").read_text()
    text = re.sub("//.*", "", text)
    unions = dict(re.findall(r"union (\w+) \{(.*?)\}", text, re.DOTALL))
    for table, fields in FIELDS.items():
        (body,) = re.findall(rf"table {table} ?\{{(.*?)\}}", text, re.DOTALL)
        numbered = []
        for name, kind in re.findall(r"(\w+):\[?(\w+)", body):
            numbered += [f"{name}_type", name] if kind in unions else [name]
        assert numbered[: len(fields)] == list(fields), table


def test_its_displayer_shows_what_was_written(support, plain):
    displayer = support.metadata.MetadataDisplayer.with_model_buffer(bytearray(add_metadata(plain, WHAT)))
    assert displayer.get_packed_associated_file_list() == ["labels.txt", "arch.json"]
    assert displayer.get_associated_file_buffer("labels.txt").decode().splitlines() == list(WHAT.labels)
    assert json.loads(displayer.get_associated_file_buffer("arch.json")) == WHAT.arch
    document = json.loads(displayer.get_metadata_json())
    assert document.pop("subgraph_metadata") == [
        {
            "input_tensor_metadata": [
                {
                    "name": "image",
                    "description": "An RGB image.",
                    "content": {
                        "content_properties_type": "ImageProperties",
                        "content_properties": {"color_space": "RGB"},
                    },
                    "process_units": [
                        {
                            "options_type": "NormalizationOptions",
                            "options": {"mean": [123.5, 116.25, 103.0], "std": [58.5, 57.0, 57.5]},
                        }
                    ],
                    "stats": {"max": [2.247863, 2.434211, 2.643478], "min": [-2.111111, -2.039474, -1.791304]},
                }
            ],
            "output_tensor_metadata": [
                {
                    "name": "score",
                    "description": "One number for each label; the largest is the answer.",
                    "content": {"content_properties_type": "FeatureProperties", "content_properties": {}},
                    "associated_files": [
                        {"name": "labels.txt", "description": "Labels, one a line.", "type": "TENSOR_AXIS_LABELS"}
                    ],
                }
            ],
        }
    ]
    assert document == {
        "name": "tints",
        "description": "Which colour is the strongest.",
        "version": "3",
        "author": "A. Painter",
        "license": "Apache-2.0",
        "associated_files": [
            {"name": "arch.json", "description": "The arch, as ofa-tf reads it.", "type": "DESCRIPTIONS"}
        ],
        "min_parser_version": "1.0.0",
    }


def test_its_image_classifier_writer_tells_the_libraries_the_same(support, plain, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"{label}\n" for label in WHAT.labels))
    create = support.image_classifier.MetadataWriter.create_for_inference
    theirs = create(bytearray(plain), list(WHAT.mean), list(WHAT.std), [str(path)]).populate()
    ours = add_metadata(plain, WHAT)
    shown = [support.metadata.MetadataDisplayer.with_model_buffer(bytearray(content)) for content in (theirs, ours)]
    labels = [displayer.get_associated_file_buffer("labels.txt") for displayer in shown]
    assert labels[0] == labels[1]
    one, other = (essence(json.loads(displayer.get_metadata_json())) for displayer in shown)
    assert one == other


def essence(document) -> dict:
    """The fields that libraries act on; texts for people are each writer's own, and so are the ranges of floats."""
    (graph,) = document["subgraph_metadata"]
    return {
        "min_parser_version": document["min_parser_version"],
        **{
            side: [
                {
                    "content": tensor["content"],
                    "process_units": tensor.get("process_units"),
                    "files": [(file["name"], file["type"]) for file in tensor.get("associated_files", ())],
                }
                for tensor in graph[f"{side}_tensor_metadata"]
            ]
            for side in ("input", "output")
        },
    }


# --- beside MediaPipe -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_mediapipe_names_what_it_sees(dtype):
    mediapipe = pytest.importorskip("mediapipe", reason="needs MediaPipe: pip install mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    told = add_metadata(tint_file(dtype=dtype), replace(WHAT, mean=(128.0,) * 3, std=(128.0,) * 3))
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_buffer=told))
    pixels = np.full((32, 32, 3), (110, 150, 130), np.uint8)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
        found = classifier.classify(image).classifications[0].categories
    assert [category.category_name for category in found] == ["green ish", "blau-grün", "red"]
    assert [category.score for category in found] == pytest.approx([22 / 128, 2 / 128, -18 / 128], abs=1 / 128)
