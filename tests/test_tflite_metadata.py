"""Metadata inside a file, as it is read; and files that nobody should have made."""

import io
import json
import random
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
from finished_workdir import CLASSES
from model_files import WHAT, edited, tint_file

from ofa_tf.errors import DamagedError, FormatError
from ofa_tf.tflite.describe import describe_file
from ofa_tf.tflite.flatbuffer import FlatBuffer
from ofa_tf.tflite.inspect import inspect_file
from ofa_tf.tflite.metadata import Metadata, label_lines, read_metadata
from ofa_tf.tflite.metadata_writer import add_metadata
from ofa_tf.tflite.sandbox import ChildInterpreter


@pytest.fixture(scope="module")
def plain() -> bytes:
    return tint_file(dtype="int8")


@pytest.fixture(scope="module")
def told(plain) -> bytes:
    return add_metadata(plain, WHAT)


def test_what_is_written_is_read_back(told):
    assert read_metadata(told) == WHAT


def test_a_file_that_tells_little(plain):
    assert read_metadata(add_metadata(plain, Metadata())) == Metadata()
    assert read_metadata(add_metadata(plain, Metadata(mean=(0.0,), std=(1.0,)))) == Metadata(mean=(0.0,), std=(1.0,))


def test_a_file_without_metadata(plain):
    assert read_metadata(plain) is None


def test_metadata_changes_nothing_else(plain, told):
    before, after = inspect_file(plain), inspect_file(told)
    assert after == replace(before, size_bytes=len(told))
    with ChildInterpreter(plain) as first, ChildInterpreter(told) as second:
        import numpy as np

        pixels = np.random.default_rng(0).integers(-128, 128, (1, 32, 32, 3)).astype(np.int8)
        assert (first.run(pixels)[0] == second.run(pixels)[0]).all()


def test_the_bytes_do_not_depend_on_the_time(plain, told, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1.5e9)
    assert add_metadata(plain, WHAT) == told


def test_metadata_is_replaced_by_other_metadata(plain, told):
    other = Metadata(name="other", labels=("a", "b", "c"))
    assert add_metadata(add_metadata(plain, other), WHAT) == told
    assert read_metadata(add_metadata(told, other)) == other


def test_empty_lines_between_labels_keep_their_place():
    assert label_lines("a\r\n\n b \n\n") == ("a", "", "b")
    assert label_lines("\n \n") == ()


@pytest.mark.parametrize(
    "line",
    [
        "{'task': 'classify', 'names': {1: 'b', 0: 'it\\'s a', 2: ' c '}}",
        '{"names": {"0": "it\'s a", "1": "b", "2": "c"}}',
        '{"names": ["it\'s a", "b", "c"]}\n',
    ],
)
def test_labels_of_a_dict_on_one_line_are_its_names(line):
    assert label_lines(line) == ("it's a", "b", "c")


@pytest.mark.parametrize(
    "line",
    [
        "{a}",
        "{'names': {}}",
        "{'names': {0: 'a', 2: 'b'}}",
        "{'names': {0: 'a', 1: 3}}",
        "{'names': {1e999: 'a'}}",
        "{'names': {'x': 'a'}}",
        "{'names': 'ab'}",
        "{'names': open('/etc/hostname').read()}",
        "{[]: 1}",
        "{'names'}",
        "{'labels': ['a']}",
        "{'names': \0}",
        *("{'names': " + text * 100_000 + "1}" for text in ("-", "1+", "[", "not ", "9", "1<")),
        "{'names': f'" + "{1}" * 100_000 + "'}",
        "{1:" * 100_000,
        "{'names': ['" + "a" * (1 << 20) + "']}",
    ],
    ids=lambda line: line[:16],
)
def test_other_lines_are_labels_as_they_are(line):
    assert label_lines(line) == (line.replace("\0", " "),)


def test_several_lines_are_labels_whatever_they_look_like():
    line = "{'names': ['a', 'b']}"
    assert label_lines(f"{line}\n{line}") == (line, line)


def test_an_export_describes_itself(finished, workdir, ofa):
    folder = finished / "exports" / "first"
    said = ("--author", "A. Painter", "--license", "MIT", "--description", "For the wall.")
    run = ofa("export", "--workdir", workdir, "--arch", folder / "arch.json", "--name", "mine", *said)
    assert run.code == 0
    mine = read_metadata((workdir / "exports" / "mine" / "model.tflite").read_bytes())
    assert (mine.author, mine.license, mine.description) == ("A. Painter", "MIT", "For the wall.")
    first = read_metadata((folder / "model.tflite").read_bytes())
    assert mine == replace(first, author="A. Painter", license="MIT", description="For the wall.")
    assert first.labels == CLASSES
    assert first.arch == json.loads((folder / "arch.json").read_text())
    assert (first.mean, first.std) == ((128.0,) * 3, (128.0,) * 3)
    assert "million MACs" in first.description


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_tells_what_the_manifest_tells(finished, ofa):
    folder = finished / "exports" / "first"
    manifest = json.loads((folder / "manifest.json").read_text())
    run = ofa("show", folder / "model.tflite", "--json")
    assert run.code == 0
    shown = json.loads(run.out)
    for name in ("sha256", "size_bytes", "n_macs", "ops", "tensor_types"):
        assert shown[name] == manifest[name], name
    assert shown["n_float_tensors"] == 0
    (image,) = shown["inputs"]
    side = manifest["arch"]["resolution"]
    assert (image["shape"], image["dtype"]) == ([1, side, side, 3], "INT8")
    assert {name: image[name] for name in ("scale", "zero_point")} == manifest["input_quantization"]
    assert manifest["n_params"] < shown["parameter_bytes"] < shown["size_bytes"]


def test_show_for_people(told, tmp_path, ofa):
    (tmp_path / "m.tflite").write_bytes(told)
    run = ofa("show", tmp_path / "m.tflite")
    assert run.code == 0
    for said in (
        "int8 1x32x32x3, 0.0078125 * stored",
        "1 FULLY_CONNECTED, 1 MEAN",
        "1 INT32, 4 INT8",
        "A. Painter",
        "3: red, green ish, blau-grün",
        "(pixel - [123.5, 116.25, 103.0]) / [58.5, 57.0, 57.5]",
        '"space": "tiny"',
        describe_file(tmp_path / "m.tflite").sha256,
    ):
        assert said in run.out


def test_show_says_that_there_is_no_metadata(plain, tmp_path, ofa):
    (tmp_path / "m.tflite").write_bytes(plain)
    run = ofa("show", tmp_path / "m.tflite")
    assert run.code == 0
    assert "names neither its labels nor its normalisation" in run.out
    assert json.loads(ofa("show", tmp_path / "m.tflite", "--json").out)["metadata"] is None


def test_show_loads_no_tensorflow(plain, tmp_path):
    (tmp_path / "m.tflite").write_bytes(plain)
    code = (
        "import sys; from ofa_tf.cli.main import main; main(sys.argv[1:]); "
        "sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "show", str(tmp_path / "m.tflite")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


# --- files that nobody should have made -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has 0 bytes"),
        (b"<html>", "is not a TFLite model"),
        (b"\0" * 100, "is not a TFLite model"),
        (b"\xff\xff\xff\xffTFL3", "refers to byte 4294967295 and has 8 bytes"),
        (b"\x08\0\0\0TFL3" + b"\0" * 8, "it has no subgraph"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(content, said, tmp_path, ofa):
    (tmp_path / "m.tflite").write_bytes(content)
    run = ofa("show", tmp_path / "m.tflite")
    assert (run.code, run.out) == (2, "")
    assert said in run.last


def test_what_is_no_file_is_refused(tmp_path, ofa):
    assert "There is no file" in ofa("show", tmp_path / "m.tflite").last
    assert "is a folder" in ofa("show", tmp_path).last


def test_a_vector_of_two_billion_is_refused(plain):
    damaged = bytearray(plain)
    start = length_of_subgraphs(plain)
    damaged[start : start + 4] = b"\xff\xff\xff\x7f"
    with pytest.raises(DamagedError, match="claims 2147483647 elements"):
        inspect_file(bytes(damaged))


def length_of_subgraphs(content: bytes) -> int:
    """Where the length of the vector of subgraphs is."""
    from ai_edge_litert import schema_py_generated as schema

    table = schema.Model.GetRootAsModel(content, 0)._tab
    return table.Vector(table.Offset(8)) - 4


def test_many_references_to_the_same_vector_are_refused():
    # A root table with one field: a vector of 100 offsets that all lead to the same place.
    vtable, root, vector = 8, 16, 24
    content = bytearray(b"\x10\0\0\0TEST" + bytes(16))
    content[vtable : vtable + 6] = b"\x06\0\x08\0\x04\0"
    content[root : root + 8] = (root - vtable).to_bytes(4, "little") + (vector - root - 4).to_bytes(4, "little")
    content += (100).to_bytes(4, "little")
    for turn in range(100):
        content += (4 * (100 - turn)).to_bytes(4, "little")
    table = FlatBuffer(bytes(content), "The file").root(b"TEST", "a test")
    for _ in range(len(content) // 100):
        assert len(table.tables(0)) == 100
    with pytest.raises(DamagedError, match="more elements than it has bytes"):
        table.tables(0)


def test_numbers_that_are_none_are_refused(plain):
    def change(model):
        model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].quantization.scale = [float("nan")]

    with pytest.raises(DamagedError, match="scale of an input or output is nan"):
        inspect_file(edited(plain, change))


def test_sizes_that_cannot_be_are_refused(plain):
    def many_dimensions(model):
        model.subgraphs[0].tensors[0].shape = [2**31 - 1] * 10_000

    def outside(model):
        model.buffers[-1].offset, model.buffers[-1].size = 8, 2**40

    for change, said in ((many_dimensions, "a tensor has 10000 dimensions"), (outside, "ends outside it")):
        with pytest.raises(DamagedError, match=said):
            inspect_file(edited(plain, change))


def test_metadata_that_is_damaged_is_refused(told):
    with zipfile.ZipFile(io.BytesIO(told)) as archive:
        (start,) = (entry.header_offset for entry in archive.infolist() if entry.filename == "labels.txt")
    with pytest.raises(DamagedError, match=r"names 'labels.txt', which cannot be read"):
        read_metadata(told[:start])
    with pytest.raises(FormatError, match="not TFLite metadata"):
        read_metadata(told.replace(b"M001", b"M00?"))


def test_text_cannot_steer_a_terminal(plain, tmp_path, ofa):
    (tmp_path / "m.tflite").write_bytes(add_metadata(plain, replace(WHAT, name="\x1b[2Jboo\nboo")))
    run = ofa("show", tmp_path / "m.tflite")
    assert "boo boo" in run.out
    assert "\x1b" not in run.out


def test_broken_bytes_never_end_in_anything_but_a_sentence(told, tmp_path, ofa):
    rng = random.Random(0)
    path, codes = tmp_path / "m.tflite", []
    for turn in range(200):
        content = bytearray(told)
        if rng.random() < 0.3:
            content = content[: rng.randrange(len(content))]
        for _ in range(rng.choice([1, 2, 20]) if content else 0):
            content[rng.randrange(len(content))] = rng.choice([0, 127, 128, 255, rng.randrange(256)])
        path.write_bytes(content)
        run = ofa("show", path, *(["--json"] if turn % 2 else []))
        assert run.code == 0 or (run.code == 2 and run.err.startswith("Error: ") and run.err.count("\n") == 1)
        codes.append(run.code)
    assert min(codes.count(0), codes.count(2)) > 30
