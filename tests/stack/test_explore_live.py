"""What-if from a real training: rebuilt from what its probe says, traced, and turned."""

import pytest

from tests.stack.screen import Screen


def test_what_if_begins_from_the_demo_training(tmp_path):
    pytest.importorskip("transformers")
    env = {
        "VRAMTOP_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_STATE_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
    }
    with Screen("demo", "--backend", "host", env=env) as screen:
        screen.wait_for("streaming", "parameters", timeout_s=60)
        screen.send("e")
        screen.wait_for("from pid", "exact: traced", "other processes", timeout_s=90)
        shown = screen.text
        for words in (
            "GPT2LMHeadModel",
            "host RAM",
            "fp32",
            "adamw",
            "FITS",
            "rest of the process",
        ):
            assert words in shown
        screen.send("\x1b[B9999")
        screen.wait_for("OUT OF MEMORY", " 9,999 ")
        screen.send("u")
        screen.wait_for("FITS")
        screen.send("b")
        screen.wait_for("max micro-batch")
        screen.send("\x1b")
        screen.wait_for("what if")
        screen.send("\x1b")
        screen.wait_for("2 Processes")
        screen.send("q")
        assert screen.exit_code() == 0
