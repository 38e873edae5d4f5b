"""What a callback hands over need not be what it should be, and an error may come in between."""

import os
import subprocess
import sys

import pytest

from vramtop.integrations import telling
from vramtop.integrations.telling import OpenStage, watch_all

torch = pytest.importorskip("torch")

IN_TROUBLE = """
import torch
from vramtop.integrations.telling import OpenStage, watch_all
model = torch.nn.Linear(1, 1)
watch_all(model, torch.optim.SGD(model.parameters()))
stage = OpenStage()
stage.begin("evaluate")
stage.end()
print("went on")
"""


def test_stand_ins_are_passed_over():
    class DummyOptimizer:
        pass

    watch_all(None, DummyOptimizer(), "model")


def test_trouble_of_the_probe_is_not_the_trainings(tmp_path):
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-c", IN_TROUBLE],
        env={**os.environ, "VRAMTOP_RUNTIME_DIR": str(tmp_path / "file")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


def test_a_stage_that_an_error_left_open_ends_with_the_next(monkeypatch):
    told = []

    class Told:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            told.append(self.name)

        def __exit__(self, *_):
            told.append("end")

    monkeypatch.setattr(telling, "stage", Told)
    stage = OpenStage()
    stage.end()
    stage.begin("evaluate")
    stage.begin("save")
    stage.end()
    stage.end()
    assert told == ["evaluate", "end", "save", "end"]
