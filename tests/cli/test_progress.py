"""The line of progress: for terminals, and gone at the end."""

from __future__ import annotations

import sys

import pytest

from vramtop.cli.progress import ProgressLine


def test_it_is_for_terminals_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ProgressLine()
    assert not shown.shown  # capsys's stderr is none
    shown("nobody sees it", 0.5)
    shown.clear()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    shown = ProgressLine()
    shown("batch 2: forward", 0.25)
    shown("batch 2: forward", 0.26)  # too soon to be drawn
    shown("something else, of which nothing is known but its name")
    shown.clear()
    said = capsys.readouterr().err
    assert " 25 % batch 2: forward" in said
    assert "26 %" not in said
    assert all(len(line) < 30 for line in said.split("\r"))
    assert said.endswith("\r" + " " * 29 + "\r")
    shown.clear()
    assert capsys.readouterr().err == ""
