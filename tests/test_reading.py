"""Files that may be anybody's: what is no regular file, or too large, is refused at once."""

import os
import socket

import pytest

from ofa_tf.errors import DataError, FormatError
from ofa_tf.reading import open_regular, read_regular, read_text, strange_entry


def test_a_file_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes("größe".encode())
    assert read_regular(path, "JSON", 100) == path.read_bytes()
    assert read_text(path, "text") == "größe"
    with open_regular(path, "JSON") as file:
        assert file.read() == path.read_bytes()
    (tmp_path / "link").symlink_to(path)
    assert read_text(tmp_path / "link", "text") == "größe"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "There is no file .*thing"),
        (lambda path: path.mkdir(), "thing is a folder; a JSON file is needed"),
        (os.mkfifo, "thing is not a file; a JSON file is needed"),
        (lambda path: path.symlink_to("/dev/zero"), "thing is not a file"),
        (lambda path: path.symlink_to("/dev/tty"), "thing (is not a file|cannot be read)"),
        (lambda path: path.symlink_to(path), "thing cannot be read"),
        (lambda path: path.write_bytes(bytes(101)), "thing has 101 bytes, and a JSON file has at most 100"),
        (lambda path: path.symlink_to("/proc/self/maps"), "thing has more than 100 bytes"),  # which says it has none
        (lambda path: path.write_bytes(b"\xff"), "not a text file in UTF-8"),
    ],
    ids=["absent", "folder", "pipe", "device", "terminal", "circle", "large", "endless", "binary"],
)
def test_what_is_no_such_file_is_refused_at_once(tmp_path, make, said):
    make(tmp_path / "thing")
    with pytest.raises(DataError, match=said):
        read_text(tmp_path / "thing", "JSON", 100, DataError)


def test_a_socket_and_an_impossible_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("thing")
        with pytest.raises(FormatError, match="thing"):
            read_regular("thing", "JSON", 100)
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(FormatError, match="cannot be read"):
            read_regular(name, "JSON", 100)


def test_strange_entries_of_a_folder_are_found(tmp_path):
    work = tmp_path / "work"
    (work / "lut" / "deep").mkdir(parents=True)
    (work / "lut" / "deep" / "table.json").write_text("{}")
    (work / "lut" / "same").symlink_to("deep")  # stays inside
    (work / "gone").symlink_to(work / "nothing")
    assert [strange_entry(work, name) for name in ("lut", "gone", "absent")] == ["", "", ""]
    (tmp_path / "elsewhere").mkdir()
    (work / "out").symlink_to(tmp_path / "elsewhere")
    assert strange_entry(work, "out") == f"{work}/out is a link out of {work}"
    (work / "lut" / "deep" / "file").symlink_to("/etc/hostname")
    assert strange_entry(work, "lut").startswith(f"{work}/lut/deep/file is a link out of")
    (work / "lut" / "deep" / "file").unlink()
    os.mkfifo(work / "lut" / "pipe")
    assert strange_entry(work, "lut") == f"{work}/lut/pipe is neither a file nor a folder"
    (work / "circle").symlink_to("circle")
    assert "circle" in strange_entry(work, "circle")


def test_a_folder_behind_a_link_is_its_own_root(tmp_path):
    (tmp_path / "real" / "lut").mkdir(parents=True)
    (tmp_path / "work").symlink_to("real")
    assert strange_entry(tmp_path / "work", "lut") == ""
