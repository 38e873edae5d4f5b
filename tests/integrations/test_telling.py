"""What a callback hands over need not be what it should be, and an error may come in between."""

import pytest

from vramtop.integrations.telling import OpenStage, watch_all
from vramtop.probe.stages import STAGES

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))


def test_stand_ins_are_passed_over():
    class DummyOptimizer:
        pass

    watch_all(None, DummyOptimizer(), "model")


def test_a_stage_that_an_error_left_open_ends_with_the_next(monkeypatch):
    told = []
    monkeypatch.setattr(STAGES, "begin", lambda name: told.append(name))
    monkeypatch.setattr(STAGES, "end", lambda: told.append("end"))
    stage = OpenStage()
    stage.end()
    stage.begin("evaluate")
    stage.begin("save")
    stage.end()
    stage.end()
    assert told == ["evaluate", "end", "save", "end"]
