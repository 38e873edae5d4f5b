"""The batch explorer in a real terminal: the climb, no colour, no motion, silence when idle."""

from __future__ import annotations

import re

import pytest

from tests.stack.screen import Screen

ARGUMENTS = ("explore", "gpt2", "--batch", "8", "--seq", "512", "--gpu", "4090")
ARGUMENTS = (*ARGUMENTS, "--method", "closed-form")
OVER = "CUDA out of memory: batch 37 needs 23.7 GiB"
COLOUR = re.compile(rb"\x1b\[[0-9;]*?(?:38;2;(\d+);(\d+);(\d+))")


@pytest.fixture
def opened(tmp_path):
    """The app with the explorer open, under an environment."""

    def start(**env):
        folder = {"VRAMTOP_RUNTIME_DIR": str(tmp_path / "run"), "XDG_STATE_HOME": str(tmp_path)}
        return Screen(*ARGUMENTS, env={**folder, **env}, columns=80, rows=24)

    return start


def open_explorer(screen):
    screen.wait_for("micro-batch")
    screen.send("b")
    screen.wait_for("max micro-batch at 512 tokens on RTX 4090", "36 max", " OOM ")


def test_the_climb_goes_over_the_cliff_and_comes_to_rest(opened):
    with opened() as screen:
        open_explorer(screen)
        screen.send(" ")
        screen.wait_for("pause")
        screen.wait_for("does not fit", "batch 37", timeout_s=40)
        screen.wait_for(OVER, "animate", "batch 36", timeout_s=20)
        screen.read(1.0)
        before = len(screen.received)
        screen.read(1.5)
        assert len(screen.received) == before  # nothing is painted when nothing moves
        screen.send("q")
        assert screen.exit_code() == 0


def test_without_motion_the_last_picture_comes_at_once(opened):
    with opened(TEXTUAL_ANIMATIONS="none") as screen:
        open_explorer(screen)
        screen.send(" ")
        text = screen.wait_for(OVER, "animate", timeout_s=5)
        assert "×77.0 MiB" in text
        assert "batch 36" in text


def test_without_colour_the_same_words_in_grey(opened):
    with opened(NO_COLOR="1", TEXTUAL_ANIMATIONS="none") as screen:
        open_explorer(screen)
        screen.send(" ")
        text = screen.wait_for(OVER, " TIGHT ")
        assert "╱" in text
        assert "━" in text
        hues = {tuple(map(int, found)) for found in COLOUR.findall(screen.received)}
        assert all(max(hue) - min(hue) <= 2 for hue in hues)
