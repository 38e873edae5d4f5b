"""Predicted beside actual: what the pane shows of it, by keyboard and by mouse, in every state."""

import dataclasses
import re
import threading

import pytest

from tests.tui.predictions import Expecting, of_detail
from vramtop.core.breakdowns import CATEGORY_LABELS, detail_of
from vramtop.core.memory import TENSOR_CATEGORIES
from vramtop.core.units import format_bytes
from vramtop.errors import UsageError
from vramtop.predict import predictions
from vramtop.sources.fake import snapshots

SIZES = [(60, 20), (80, 24), (160, 50)]
THEMES = ["vramtop-dark", "vramtop-light"]


@pytest.fixture
def predicted(shown, monkeypatch):
    """``async with predicted(factor={"activation": 0.5}) as screen``: a made-up prediction."""

    def open_(scenario="training", answer=None, factor=None, told=None, size=(80, 24), **more):
        def expect(process, torch_device, *_):
            if answer is not None:
                return answer()
            return Expecting(of_detail(detail_of(process, torch_device), factor, **(told or {})))

        monkeypatch.setattr(predictions, "expect", expect)
        monkeypatch.setattr(predictions, "signature", lambda *_: "")
        return shown(scenario, size=size, **more)

    return open_


async def opened(screen, words="PREDICTED"):
    """The pane's lines, once its prediction has come."""
    await screen.press("8")
    for _ in range(200):
        if words in "\n".join(screen.pane("predicted")):
            return screen.pane("predicted")
        await screen.pilot.pause(0.02)
    raise AssertionError(screen.text)


def row(lines, label):
    return next(line for line in lines if line[3:].startswith(label) and line[1] != "→")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
async def test_every_category_has_its_pair_on_every_screen(predicted, size, theme):
    async with predicted(size=size, theme=theme) as screen:
        lines = await opened(screen)
        assert "✓ as predicted (within 3 %)" in "\n".join(lines)
        await screen.press("8")
        lines = screen.pane("predicted")
        peak = screen.app.frame.detail.peak.breakdown
        for category in TENSOR_CATEGORIES:
            if held := peak.bytes_of(category):
                line = row(lines, CATEGORY_LABELS[category])
                assert line.count(format_bytes(held)) == 2, "predicted and actual"
                assert "█" in line or "▏" in line or "░" in line
        total = format_bytes(screen.app.frame.detail.peak.total_bytes)
        assert any(line.strip().startswith("allocated") and total in line for line in lines)


async def test_left_right_and_m_go_through_the_moments(predicted):
    async with predicted() as screen:
        lines = await opened(screen)
        assert "[peak]" in lines[1]
        seen = []
        for key in ("right", "m", "l", "right", "right", "right"):
            await screen.press(key)
            lines = screen.pane("predicted")
            seen.append(next(word for word in lines[1].split() if word[0] == "[")[1:-1])
        assert seen == ["forward", "backward", "step", "zero_grad", "now", "peak"]
        await screen.press("left")
        assert "[now]" in screen.pane("predicted")[1]
        await screen.press("2", "m")
        assert screen.app.focused.id == "predicted"


async def test_a_moments_figures_are_its_own(predicted):
    async with predicted(size=(160, 50), factor={"activation": 0.5}) as screen:
        await opened(screen)
        await screen.press("right", "8")
        forward = screen.app.frame.detail.phases[0].after
        line = row(screen.pane("predicted"), "activations")
        held = forward.activation_bytes
        for size_bytes in (held // 2, held, held - held // 2):
            assert format_bytes(size_bytes) in line
        assert "+100 %" in line
        peak = next(x for x in screen.pane("predicted") if "peak of the step" in x)
        assert format_bytes(screen.app.frame.detail.peak.total_bytes) in peak


async def test_with_room_predicted_is_hatched_above_the_solid_actual_without_in_one_line(predicted):
    async with predicted(size=(100, 50), factor={"activation": 0.5}) as screen:
        lines = await opened(screen)
        assert "█" not in row(lines, "activations")
        await screen.press("8")
        lines = screen.pane("predicted")
        at = lines.index(row(lines, "activations"))
        hatched, solid = lines[at].count("░"), lines[at + 1].count("█")
        assert solid == pytest.approx(2 * hatched, abs=1)
        assert "░ predicted  █ actual" in "\n".join(lines)
    async with predicted(factor={"activation": 0.5}) as screen:
        assert "█┃█" in row(await opened(screen), "activations")
    async with predicted(factor={"activation": 2.0}) as screen:
        assert "░" in row(await opened(screen), "activations")


async def test_what_parts_is_said_first_with_its_reason_and_wrapped(predicted):
    async with predicted(size=(60, 20), factor={"activation": 0.5}) as screen:
        lines = await opened(screen)
        told = " ".join(" ".join(lines).split())
        assert re.search(
            r"≠ more than 3 % off: peak \+1\.\d+ GiB \(\+\d+ %\), activations \+1", told
        )
        assert re.search(r"→ activations \+1\.\d+ GiB: no known reason", told)
        assert all(len(line) <= 60 for line in lines)
        assert "no known reason" not in " ".join(lines[-3:]), "it is above the table"


async def test_how_it_was_made_is_told(predicted):
    notes = {"notes": ("DDP is taken for one replica",), "uncertainty": 0.05}
    async with predicted(size=(120, 40), told=notes) as screen:
        lines = await opened(screen)
        assert lines[1].endswith(" trace ±5 % ")
        await screen.press("8")
        lines = screen.pane("predicted")
        told = " ".join(" ".join(lines).split())
        assert "rebuilt from its configuration, traced; batch 8 × 1024 tokens; ±5 %" in told
        assert "DDP is taken for one replica" in told


async def test_a_fitted_one_has_now_and_the_peak(predicted):
    told = {"source": "fitted", "phases": (), "told": "Net not rebuilt: a line through 3 batches"}
    async with predicted(size=(120, 40), told=told) as screen:
        lines = await opened(screen)
        assert lines[1].split() == ["now", "[peak]", "fitted", "±3", "%"]
        await screen.press("8")
        lines = screen.pane("predicted")
        assert "Net not rebuilt: a line through 3 batches" in "\n".join(lines)


async def test_why_there_is_none(predicted, shown, stepped):
    def fails():
        raise UsageError("torch and transformers are not installed here to trace it")

    async with predicted(answer=fails) as screen:
        lines = await opened(screen, "no prediction")
        assert "torch and transformers are not installed here" in "\n".join(lines)
    async with predicted() as screen:
        await screen.press("down", "down", "8")  # to a process without a probe
        assert "no probe: press a to put one in" in "\n".join(screen.pane("predicted"))
    snapshot = next(snapshots("training"))
    first, *others = snapshot.processes
    bare = dataclasses.replace(first.probe, models=())
    bare = dataclasses.replace(
        snapshot, processes=(dataclasses.replace(first, probe=bare), *others)
    )
    source = stepped(first=0)
    async with shown(source=source, size=(80, 24)) as screen:
        source.give(bare)
        await opened(screen, "no model was seen yet")


@pytest.fixture
def unsampled():
    """(a training of which no step was sampled in detail: its snapshot, what it should hold)."""

    def given(state):
        snapshot = next(snapshots("nogpu"))
        first, *others = snapshot.processes
        (part,) = first.probe.devices
        bare = dataclasses.replace(part, detail=None, boundary="forward")
        probe = dataclasses.replace(first.probe, devices=(bare,), detail=state)
        processes = (dataclasses.replace(first, probe=probe), *others)
        return dataclasses.replace(snapshot, processes=processes), of_detail(part.detail)

    return given


async def test_where_no_step_is_sampled_there_is_now(predicted, stepped, unsampled):
    given, expected = unsampled("off")
    source = stepped(first=0)
    async with predicted(source=source, answer=lambda: Expecting(expected)) as screen:
        source.give(given)
        told = "\n".join(await opened(screen))
        assert "no step was sampled in detail" in told
        assert "this probe samples no steps" in told
        assert " after forward" in told


async def test_before_the_first_sampled_step_nothing_is_traced(predicted, stepped, unsampled):
    def asked():
        raise AssertionError("the loop is not known yet")

    source = stepped(first=0)
    async with predicted(source=source, answer=asked) as screen:
        source.give(unsampled("pending")[0])
        lines = await opened(screen, "no prediction yet")
        assert "waits for the first step that is sampled in detail" in "\n".join(lines)


async def test_while_it_is_made_it_says_so(predicted):
    on = threading.Event()

    def slow():
        on.wait(20)
        raise UsageError("late")

    async with predicted(answer=slow) as screen:
        await opened(screen, "predicting:")
        on.set()
        await opened(screen, "no prediction: late")


async def test_a_prediction_that_is_made_anew_judges_nothing(predicted, monkeypatch):
    on = threading.Event()

    def slow(*_):
        on.wait(20)
        raise UsageError("late")

    async with predicted(factor={"activation": 0.5}) as screen:
        await opened(screen, "≠")
        monkeypatch.setattr(predictions, "expect", slow)
        monkeypatch.setattr(predictions, "signature", lambda *_: "another batch")
        for _ in range(20):
            await screen.step()
            if "made anew" in screen.text:
                break
        assert "≠" not in "\n".join(screen.pane("predicted"))
        assert "the process has changed: its prediction is made anew" in screen.words
        on.set()


async def test_a_click_on_its_title_and_scrolling(predicted):
    async with predicted() as screen:
        await opened(screen)
        await screen.press("3")
        y = screen.row_of("3 Breakdown")
        await screen.click(screen.lines[y].index(" 8") + 1, y)
        assert screen.app.focused.id == "predicted"
        assert "of" in screen.pane("predicted")[0].rsplit("·", 1)[-1]
        await screen.press("end")
        assert "batch 8 × 1024 tokens" in "\n".join(screen.pane("predicted"))


async def test_it_is_in_front_on_a_big_screen_beside_breakdown_and_timeline(predicted):
    async with predicted(size=(160, 50)) as screen:
        assert screen.shown_panes() == [
            *("devices", "processes", "breakdown", "timeline", "waterfall", "predicted")
        ]


async def test_without_colours_glyphs_tell_the_two_apart(predicted, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with predicted(factor={"activation": 0.5}) as screen:
        lines = await opened(screen)
        assert screen.app.frame.ink.mono
        assert "█┃█" in row(lines, "activations")
        assert "≠" in "\n".join(lines)
