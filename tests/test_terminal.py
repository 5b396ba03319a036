"""Progress as plain lines."""

from ofa_tf.terminal import TerminalProgress


def test_progress_that_has_nothing_yet_says_nothing(monkeypatch, capsys):
    """A child that measures tells that it lives before there is anything to count."""
    monkeypatch.setattr("ofa_tf.terminal.SECONDS_BETWEEN_LINES", -1)
    with TerminalProgress() as progress, progress.task("measuring", 100, "%") as advance:
        advance(0)
        assert capsys.readouterr().err == ""
        advance(5)
        assert "measuring: 5/100 %" in capsys.readouterr().err
