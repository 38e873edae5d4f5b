"""Errors that nobody foresaw: one line, the traceback for who asks."""

from __future__ import annotations

import pytest

from vramtop.cli import estimate, run_command


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise TypeError("unsupported\n  operand")

    monkeypatch.setattr(estimate, "run", fail)


@pytest.mark.usefixtures("broken")
def test_an_internal_error_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VRAMTOP_TRACEBACK", raising=False)
    assert run_command(["estimate", "gpt2"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        "vramtop: internal error: TypeError: unsupported operand "
        "(please report it; VRAMTOP_TRACEBACK=1 shows where)\n"
    )


@pytest.mark.usefixtures("broken")
def test_its_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMTOP_TRACEBACK", "1")
    with pytest.raises(TypeError):
        run_command(["estimate", "gpt2"])
