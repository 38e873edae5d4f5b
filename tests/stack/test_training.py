"""A training watched in a terminal: a real probe, the real app, every pane about the training."""

import os
import re

import pytest

from tests.stack.screen import Screen


@pytest.fixture
def env(tmp_path):
    return {
        **os.environ,
        "VRAMTOP_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
    }


def test_a_training_explained_pane_by_pane(env):
    pytest.importorskip("torch")
    with Screen("demo", env=env, columns=80, rows=24) as screen:
        text = screen.wait_for("parameters", "AT PEAK", timeout_s=90)
        sizes = re.findall(r"[\d.]+ [KMG]iB", next(x for x in text.splitlines() if "gradie" in x))
        assert len(sizes) >= 1
        screen.send("5")
        text = screen.wait_for("forward", "backward", "optimizer step", "BEFORE")
        assert re.search(r"5 Waterfall.* step \d+", text)
        assert re.search(r"\d+m?s ago", text)
        assert re.search(r"peak [\d.]+ MiB in (forward|backward)", text)
        screen.send("6")
        screen.wait_for("▾ transformer", "ACTIV.")
        screen.send("G")
        screen.send("t")
        screen.wait_for("▌  ", without=["▾"])
        screen.send("7")
        screen.wait_for("the CPU has no caching allocator")
        screen.send("q")
        assert screen.exit_code() == 0
