"""A real training recorded from the screen with r, and replayed in a terminal."""

import os
from pathlib import Path

import pytest

from tests.conftest import read_recording
from tests.stack.screen import Screen

DEMO = Path(__file__).parents[1] / "recordings" / "demo.vramtop"


@pytest.fixture
def env(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "VRAMTOP_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
    }


def test_r_records_and_leaving_ends_it(env, tmp_path):
    with Screen("--backend", "host", "--interval", "0.25", env=env) as screen:
        screen.wait_for("host RAM")
        screen.send("r")
        screen.wait_for("● rec", "recording to ./vramtop-")
        screen.read(1.0)
        screen.send("q")
        assert screen.exit_code() == 0
    (path,) = tmp_path.glob("*.vramtop")
    found, ending = read_recording(path)
    assert len(found) >= 2
    assert ending == ""


def test_a_real_training_is_looked_at_again(env, recorded):
    last = [p.probe for s in recorded for p in s.processes if p.probe.step][-1]
    with Screen("replay", str(DEMO), env=env, columns=100, rows=30) as screen:
        screen.wait_for("▶ 1× 00:0", "/ 00:39")
        screen.send("$")
        screen.wait_for("■ 1× 00:39 / 00:39", "gone")
        screen.send("\r")
        screen.wait_for("GPT2LMHeadModel", f"{last.step}")
        screen.send("q")
        screen.send("0")
        screen.wait_for("00:0", without=["gone"])
        screen.send("q")
        assert screen.exit_code() == 0
