"""JSON files: the old one or the new one, never half of each, and nothing in them that JSON cannot say."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from hostile import json_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ofa_tf.atomic import write_bytes
from ofa_tf.errors import FormatError, OfaError
from ofa_tf.jsonio import check_keys, from_document, read_json, read_object, write_json

FULL_DISK = """
import resource, sys
from ofa_tf.jsonio import write_json
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_json(sys.argv[1], {"text": "x" * 100_000})
except OSError as error:
    print(error.errno)
"""


def test_round_trip_with_schema(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"word": "é", "list": [1, 2.5, None], "inner": {"a": True}})
    assert json.loads(path.read_text())["schema"] == 1
    assert read_json(path) == {"word": "é", "list": [1, 2.5, None], "inner": {"a": True}}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    result = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "27"  # EFBIG, as ENOSPC comes
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_at_any_step_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, step, error):
    def fail(*_):
        raise error

    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_not_a_number_is_never_written(tmp_path, number):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"deep": [{"x": number}]})
    assert read_json(tmp_path / "a.json") == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is not valid JSON"),
        (b'{"schema": 1', "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b'{"schema": 1, "x": NaN}', "NaN is not a finite number"),
        (b'{"schema": 1, "x": -Infinity}', "-Infinity is not a finite number"),
        (b'{"schema": 1, "x": 1e999}', "1e999 is not a finite number"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"schema": 1, "x": ' + b"9" * 10_000 + b"}", "is not valid JSON"),
        (b"[1]", "must hold a JSON object, not a list"),
        (b"{}", "has schema None: it must be 1"),
        (b'{"schema": true}', "has schema True: it must be 1"),
        (b'{"schema": "1"}', "has schema '1': it must be 1"),
        (b'{"schema": 0}', "has schema 0: it must be 1"),
        (b'{"schema": 2}', "has schema 2: it was written by a newer ofa-tf"),
    ],
)
def test_what_is_not_ours_is_refused_in_words(tmp_path, content, match):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=match) as error:
        read_json(path)
    assert "a.json" in str(error.value)


def test_what_is_no_file_is_refused_in_words(tmp_path):
    with pytest.raises(FormatError, match="There is no file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(FormatError, match="is a folder"):
        read_json(tmp_path)
    (tmp_path / "a").write_text("{}")
    with pytest.raises(FormatError, match="cannot be read: Not a directory"):
        read_json(tmp_path / "a" / "b.json")
    with pytest.raises(FormatError, match="cannot be read: File name too long"):
        read_json(tmp_path / ("x" * 5000))


def test_an_object_of_others_needs_no_schema(tmp_path):
    (tmp_path / "a.json").write_text('{"schema": "theirs", "x": 1}')
    assert read_object(tmp_path / "a.json") == {"schema": "theirs", "x": 1}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_content_is_read_or_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with contextlib.suppress(OfaError):
        write_json(tmp_path / "b.json", read_object(path))


def test_check_keys_names_the_key_and_the_place():
    check_keys({"a": 1, "b": 2}, {"a"}, {"b"}, "Here")
    with pytest.raises(FormatError, match=r"Here has the unknown key 'c'; known keys: \['a', 'b'\]"):
        check_keys({"a": 1, "c": 2}, {"a"}, {"b"}, "Here")
    with pytest.raises(FormatError, match="Here lacks the key 'a'"):
        check_keys({"b": 2}, {"a"}, {"b"}, "Here")
    with pytest.raises(FormatError, match="Here must be a JSON object, not 5"):
        check_keys(5, {"a"}, {"b"}, "Here")


@dataclass(frozen=True)
class Thing:
    size: int
    names: tuple[str, ...] = ()

    def __post_init__(self):
        if self.size < 0:
            raise OfaError("too small")


def test_from_document():
    assert from_document(Thing, {"size": 1, "names": ["a"]}, "Here") == Thing(1, ("a",))
    assert from_document(Thing, {"size": 1}, "Here") == Thing(1)
    with pytest.raises(FormatError, match="unknown key 'more'"):
        from_document(Thing, {"size": 1, "more": 1}, "Here")
    with pytest.raises(FormatError, match="lacks the key 'size'"):
        from_document(Thing, {}, "Here")
    with pytest.raises(FormatError, match="Here has a value of the wrong type"):
        from_document(Thing, {"size": "1"}, "Here")
    with pytest.raises(OfaError, match="too small"):
        from_document(Thing, {"size": -1}, "Here")
