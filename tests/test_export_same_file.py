"""Exports whose files are equal say so."""

import json

import pytest

from ofa_tf.export.same_file import ExportedFile, exported_files, same_file, same_files

WHY = ": no larger subnet within the budget is predicted to be better"
FIRST = ExportedFile("host-1ms-int8", "aa", "host", 1.0)


def of(name="new", sha256="aa", device="host", budget_ms=2.0) -> ExportedFile:
    return ExportedFile(name, sha256, device, budget_ms)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (of(), f"the same file as host-1ms-int8{WHY}"),
        (of(budget_ms=1.0), f"the same file as host-1ms-int8{WHY}"),
        (of(budget_ms=0.5), "the same file as host-1ms-int8"),
        (of(budget_ms=None), "the same file as host-1ms-int8"),
        (of(device="phone"), "the same file as host-1ms-int8"),
        (of(sha256="bb"), None),
        (FIRST, None),
    ],
)
def test_another_export_with_the_file_is_named(file, said):
    assert same_file(file, [of("other", "cc"), FIRST]) == said


def test_the_one_with_the_least_budget_is_named():
    others = [of("given", budget_ms=None), of("b", budget_ms=3.0), of("a", budget_ms=3.0), of("best", budget_ms=0.1)]
    assert same_file(of(), others) == f"the same file as best{WHY}"
    assert same_file(of(), others[:3]) == "the same file as a"
    assert same_files([*others, of("single", "bb")]) == {
        "a": f"the same file as best{WHY}",
        "b": f"the same file as best{WHY}",
        "given": "the same file as best",
    }


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"schema": 1, "sha256": "aa", "device": {"name": "host"}, "budget_ms": 1.0}', 1),
        ('{"schema": 1, "sha256": "aa", "device": {"name": "host"}}', 1),
        ('{"schema": 1, "sha256": "aa", "device": {"name": "host"}, "budget_ms": true}', 1),
        ('{"schema": 1, "sha256": "aa", "device": "host"}', 0),
        ('{"schema": 1, "sha256": 7, "device": {"name": "host"}}', 0),
        ('{"schema": 2}', 0),
        ("{", 0),
        ("", 0),
    ],
)
def test_what_cannot_be_read_is_left_out(tmp_path, text, read):
    for name in ("an-export", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    found = exported_files(tmp_path)
    assert [file.name for file in found] == ["an-export"] * read
    if read:
        assert found[0].budget_ms == (1.0 if json.loads(text).get("budget_ms") == 1.0 and "true" not in text else None)


def test_a_folder_that_is_not_there_has_none(tmp_path):
    assert exported_files(tmp_path / "none") == []
