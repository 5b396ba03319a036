"""What people see of text and values that may be anybody's."""

import pytest
from rich.console import Console

from ofa_tf.formatting import shown, visible
from ofa_tf.report.html import element
from ofa_tf.terminal import TerminalProgress

ESCAPE = "\x1b]0;pwned\x07"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text\nof lines\tand columns", None),
        ("Größe, 猫, נמר, 👩‍👧", None),
        (ESCAPE, r"\x1b]0;pwned\x07"),
        ("a\rb\x9b31m", r"a\rb\x9b31m"),
        ("\ud800", r"\ud800"),
        ("evil\u202egpj.exe", r"evil\u202egpj.exe"),
        ("a\u2028b", r"a\u2028b"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text, expected):
    assert visible(text) == (text if expected is None else expected)
    visible(text).encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, "3"),
        ([1, 2], "[1, 2]"),
        ("x" * 100, "'" + "x" * 79 + "…"),
        (10**5000, f"0x{10**5000:x}"[:80] + "…"),
        (True, "True"),
    ],
    ids=["number", "list", "text", "endless", "truth"],
)
def test_a_value_is_shown_cut_short(value, expected):
    assert shown(value) == expected


def test_commands_progress_and_pages_show_no_control_characters(ofa, tmp_path, capsys):
    (tmp_path / ESCAPE).mkdir()
    run = ofa("search", "-w", tmp_path / ESCAPE / "x", "--latency", 1)
    assert "\x1b" not in run.err + run.out
    assert r"\x1b]0;pwned\x07" in run.err
    with TerminalProgress() as progress:
        progress.note(f"Skipped {ESCAPE}")
        with progress.task(ESCAPE, 1) as advance:
            advance(1)
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert said.count(r"\x1b]0;pwned\x07") == 2
    assert element("p", "a\ud800<", title="\x07").encode() == b'<p title="\\x07">a\\ud800&lt;</p>'


def test_tables_show_none_either(capsys, monkeypatch):
    from ofa_tf.cli import common

    monkeypatch.setattr(common, "_console", lambda: Console(width=100, markup=False))
    common.print_table(["name", ESCAPE], [[ESCAPE, 1]])
    assert "\x1b" not in capsys.readouterr().out
