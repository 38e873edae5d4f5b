"""``vramtop --once`` beside a real training: what it should hold, as JSON and as a line of text."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("deviating_training.py")
PATIENCE_S = 180


@pytest.fixture
def environment(tmp_path):
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "VRAMTOP_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CACHE_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def training(environment):
    started = subprocess.Popen(
        [sys.executable, "-m", "vramtop", "run", "--", sys.executable, str(SCRIPT), "outputs"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield started
    started.kill()
    started.wait()


def once(environment, *arguments):
    command = [sys.executable, "-m", "vramtop", "--once", "--backend", "host", *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "progress is for terminals"
    return done.stdout


def test_the_prediction_is_in_json_and_text(training, environment):
    end = time.monotonic() + PATIENCE_S
    told = None
    while told is None or told["peak"] is None:
        assert time.monotonic() < end, told
        shown = json.loads(once(environment, "--json"))
        told = {p["pid"]: p["prediction"] for p in shown["processes"]}.get(training.pid)
    assert not any(p["prediction"] for p in shown["processes"] if p["pid"] != training.pid)
    assert (told["source"], told["batch"], told["sequence"]) == ("trace", 2, 256)
    assert told["problem"] is None
    assert told["differs"]
    assert [reason["kind"] for reason in told["reasons"]] == ["outputs-kept"]
    named = {moment["name"]: moment for moment in told["moments"]}
    assert list(named)[:2] == ["now", "peak"]
    parameters = named["forward"]["categories"]["parameter"]
    assert parameters["delta_bytes"] == 0
    text = once(environment)
    assert "predicted peak " in text
    assert "→ logits kept alive: `outputs` still referenced" in text
