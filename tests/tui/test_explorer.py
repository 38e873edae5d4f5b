"""The batch explorer: every key, every use of the mouse, the climb, and what it says when it can't.

Formulas answer: GPT-2 at 512 tokens on an RTX 4090 runs up to batch 36 by them.
"""

import asyncio
import contextlib
import dataclasses
import re

import pytest
from textual.app import App

from vramtop.core.observed import ObservedPeak
from vramtop.errors import UsageError
from vramtop.estimator import closed
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.judge import judge
from vramtop.estimator.workload import Model, Workload
from vramtop.tui.exploration import Exploration
from vramtop.tui.screens.explorer import ExplorerScreen
from vramtop.tui.theme import DARK, LIGHT, THEMES

GPT2 = Workload(find_model("gpt2"), batch=8, sequence=512, device=find_gpu("4090"))
LARGEST = judge(closed.predictor(GPT2), GPT2).max_micro_batch


class Controller:
    """The controller's three members, over formulas."""

    def __init__(self, workload=GPT2, **known):
        self.callbacks = []
        self.changed_to = []
        self.known = known
        self._answer(workload)

    def _answer(self, workload):
        try:
            predictor = closed.predictor(workload)
            answer = (judge(predictor, workload), predictor)
        except UsageError:
            answer = (None, None)
        self.exploration = Exploration(workload, *answer, **self.known)

    def change(self, workload):
        self.changed_to.append(workload)
        self._answer(workload)
        for callback in list(self.callbacks):
            callback()

    def tell(self, **changes):
        self.exploration = dataclasses.replace(self.exploration, **changes)
        for callback in list(self.callbacks):
            callback()

    def subscribe(self, callback):
        self.callbacks.append(callback)

    def unsubscribe(self, callback):
        self.callbacks.remove(callback)


class Host(App[None]):
    """An app with nothing but the explorer."""

    def __init__(self, controller, theme):
        super().__init__()
        for known in THEMES:
            self.register_theme(known)
        self.theme = theme
        self.controller = controller
        self.result = None

    def on_mount(self):
        self.push_screen(ExplorerScreen(self.controller), self.left)

    def left(self, result):
        self.result = result


class Seen:
    def __init__(self, app, pilot):
        self.app, self.pilot = app, pilot

    @property
    def explorer(self):
        return next(s for s in self.app.screen_stack if isinstance(s, ExplorerScreen))

    @property
    def lines(self):
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip) for strip in strips]

    @property
    def text(self):
        return "\n".join(self.lines)

    @property
    def point(self):
        """The batch and the tokens that the point's line says."""
        batch, tokens = re.search(r" batch (\d+) × ([\d,]+) tokens", self.text).groups()
        return int(batch), int(tokens.replace(",", ""))

    async def press(self, *keys):
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def advance(self, to_s):
        """Halt the clock and show the moment."""
        self.explorer.player.halt()
        self.explorer.player.played_s = to_s
        self.explorer.player.advance(0.0)
        await self.pilot.pause()

    def part(self, name):
        region = self.app.screen.query_one(f"#explorer-{name}").region
        return [row[region.x : region.right] for row in self.lines[region.y : region.bottom]]


@pytest.fixture
def explorer(monkeypatch):
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)

    @contextlib.asynccontextmanager
    async def run(controller=None, size=(80, 24), theme=DARK):
        app = Host(controller or Controller(), theme)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await pilot.pause()
            yield Seen(app, pilot)

    return run


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
@pytest.mark.parametrize("theme", [DARK, LIGHT])
async def test_the_first_picture_says_it_all(explorer, size, theme):
    async with explorer(size=size, theme=theme) as seen:
        text = seen.text
        assert "max micro-batch at 512 tokens on RTX 4090" in text
        assert f"{LARGEST} max" in text
        assert " OOM " in text
        assert "23.6 GiB┤━" in text
        assert "FITS" in text
        assert "process memory over the micro-batch" in text
        assert seen.point == (8, 512)
        assert "effective batch 64 = 16 × 4 accumulation" in text or "64 = 16 × 4" in text


async def test_the_maximum_stands_in_big_digits(explorer):
    async with explorer() as seen:
        drawn = [line[2:9] for line in seen.part("maximum")]
        assert LARGEST == 36
        assert drawn == ["▀▀█ █▀▀", "▀▀█ █▀█", "▀▀▀ ▀▀▀"]


async def test_arrows_and_letters_move_over_the_batch(explorer):
    async with explorer() as seen:
        for key, batch in (("right", 9), ("l", 10), ("left", 9), ("h", 8)):
            await seen.press(key)
            assert seen.point == (batch, 512)
        await seen.press("shift+right")
        assert seen.point == (12, 512)
        await seen.press("pageup", "pagedown", "shift+left")
        assert seen.point == (8, 512)
        for first in ("home", "g"):
            await seen.press("right", first)
            assert seen.point == (1, 512)
        for last in ("end", "G"):
            await seen.press(last)
            assert seen.point[0] > LARGEST
            await seen.press("left")
        await seen.press("m")
        assert seen.point == (LARGEST, 512)


async def test_the_verdict_turns_at_the_cliff(explorer):
    async with explorer() as seen:
        assert "FITS" in seen.text
        await seen.press("m")
        assert " TIGHT " in seen.text
        assert "CUDA out of memory" not in seen.text
        await seen.press("right")
        assert " OOM LIKELY " in seen.text
        assert f"CUDA out of memory: batch {LARGEST + 1} needs" in seen.text
        await seen.press("end")
        assert "OUT OF MEMORY" in seen.text


async def test_up_and_down_change_the_sequence(explorer):
    async with explorer() as seen:
        for key, tokens in (("up", 768), ("k", 1024), ("up", 1024), ("down", 768), ("j", 512)):
            await seen.press(key)
            assert seen.point == (8, tokens)
        await seen.press("up")
        assert "by formula" in seen.text
        assert "max micro-batch at 768 tokens" in seen.text
        await seen.press("shift+down")
        assert seen.point == (8, 128)
        await seen.press("shift+up")
        assert seen.point == (8, 1024)


async def test_the_map_and_its_axes(explorer):
    async with explorer() as seen:
        for key in ("v", "tab"):
            await seen.press(key)
            assert "share of what can be used" in seen.text
            assert "[" in seen.text
            await seen.press(key)
            assert "process memory over" in seen.text
        await seen.press("x")
        rows = seen.part("map")
        assert rows[1].split()[0] == "tokens"
        assert "◆✓" in seen.text
        await seen.press("right")
        assert seen.point == (16, 512)
        await seen.press("up")
        assert seen.point == (16, 768)
        await seen.press("x")
        assert seen.part("map")[1].split()[0] == "batch"
        await seen.press("left")
        assert seen.point == (16, 512)
        await seen.press("up")
        assert seen.point == (8, 512)
        await seen.press("down", "down")
        assert seen.point == (32, 512)


async def test_enter_shows_the_waterfall_of_any_point(explorer):
    async with explorer() as seen:
        await seen.press("right", "up", "enter")
        text = seen.text
        assert "Waterfall" in text
        assert "batch 9 × 768 tokens" in text
        for words in ("forward", "backward", "step", "zero_grad", "peak", "after", "parameters"):
            assert words in text
        await seen.press("escape")
        assert "Waterfall" not in seen.text.splitlines()[2]
        assert seen.point == (9, 768)
        await seen.press("end", "enter")
        assert "OUT OF MEMORY" in seen.text


async def test_e_takes_the_point_to_what_if(explorer):
    controller = Controller()
    async with explorer(controller) as seen:
        await seen.press("right", "right", "up", "e")
        assert controller.changed_to == [dataclasses.replace(GPT2, batch=10, sequence=768)]
        assert seen.app.result == "what-if"
        assert controller.callbacks == []


@pytest.mark.parametrize("key", ["escape", "b"])
async def test_back_changes_nothing(explorer, key):
    controller = Controller()
    async with explorer(controller) as seen:
        await seen.press("right", key)
        assert seen.app.result == ""
        assert controller.changed_to == []
        assert controller.callbacks == []


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_q_leaves(explorer, key):
    async with explorer() as seen:
        await seen.press(key)
        assert not seen.app.is_running or seen.app._exit


async def test_the_waterfall_has_the_help_too(explorer):
    async with explorer(size=(100, 40)) as seen:
        await seen.press("enter", "question_mark")
        assert "swap the axes" in seen.text
        await seen.press("question_mark")
        assert "Waterfall" in seen.text
        await seen.press("escape")
        assert seen.app.screen is seen.explorer


@pytest.mark.parametrize("width", [80, 160])
async def test_the_footer_says_what_leads_on_and_back(explorer, width):
    async with explorer(size=(width, 24)) as seen:
        for words in ("e what-if here", "? help", "esc back"):
            assert words in seen.lines[-1]


@pytest.mark.parametrize("key", ["question_mark", "f1"])
async def test_help_names_every_key_and_mark(explorer, key):
    async with explorer(size=(100, 40)) as seen:
        await seen.press(key)
        assert "climb to the cliff" in seen.text
        assert "swap the axes" in seen.text
        await seen.press("escape")
        assert seen.point == (8, 512)


async def test_a_click_on_the_curve_moves_the_cursor(explorer):
    async with explorer() as seen:
        region = seen.app.screen.query_one("#explorer-curve").region
        await seen.pilot.click(offset=(region.x + 10, region.y + 3))
        await seen.pilot.pause()
        assert seen.point == (1, 512)
        await seen.pilot.click(offset=(region.right - 1, region.y + 3))
        await seen.pilot.pause()
        assert seen.point[0] > LARGEST
        await seen.pilot.click(offset=(region.x + 2, region.y + 3))  # the scale is no batch
        await seen.pilot.pause()
        assert seen.point[0] > LARGEST


async def test_a_click_on_the_map_moves_the_cursor(explorer):
    async with explorer() as seen:
        await seen.press("v")
        y = next(y for y, line in enumerate(seen.lines) if line.strip().startswith("1,024"))
        await seen.pilot.click(offset=(9 + 7 * 3 + 2, y))
        await seen.pilot.pause()
        assert seen.point == (8, 1024)
        await seen.press("x")
        y = next(y for y, line in enumerate(seen.lines) if line.strip().startswith("4 "))
        await seen.pilot.click(offset=(9 + 2, y))
        await seen.pilot.pause()
        assert seen.point == (4, 128)


async def test_on_a_large_screen_squares_are_three_lines_high(explorer):
    async with explorer(size=(160, 50)) as seen:
        await seen.press("v")
        y = next(y for y, line in enumerate(seen.lines) if line.strip().startswith("1,024"))
        below = next(y for y, line in enumerate(seen.lines) if line.strip().startswith("768"))
        assert below == y + 3
        for row in (y - 1, y, y + 1):
            await seen.press("shift+down")
            await seen.pilot.click(offset=(9 + 2, row))
            await seen.pilot.pause()
            assert seen.point == (1, 1024)


async def test_a_click_on_a_key_of_the_footer_does_it(explorer):
    async with explorer() as seen:
        footer = seen.lines[-1]
        await seen.pilot.click(offset=(footer.index("map"), 23))
        await seen.pilot.pause()
        assert "share of what can be used" in seen.text
        await seen.pilot.click(offset=(footer.index("batch"), 23))
        await seen.pilot.pause()
        assert seen.point == (16, 512)


class TestTheClimb:
    async def test_space_plays_pauses_and_goes_on(self, explorer):
        async with explorer() as seen:
            await seen.press("space")
            assert seen.explorer.player.is_running
            assert "pause" in seen.lines[-1]
            await asyncio.sleep(0.3)
            await seen.press("space")
            assert not seen.explorer.player.is_running
            assert "go on" in seen.lines[-1]
            stopped = seen.explorer.player.played_s
            assert stopped > 0
            await asyncio.sleep(0.1)
            assert seen.explorer.player.played_s == stopped
            await seen.press("space")
            await asyncio.sleep(0.1)
            assert seen.explorer.player.played_s > stopped

    async def test_a_movement_stops_it_where_it_is(self, explorer):
        async with explorer() as seen:
            await seen.press("space")
            await seen.advance(3.0)
            batch = seen.point[0]
            assert 1 < batch < LARGEST
            await seen.press("right")
            assert not seen.explorer.player.is_running
            assert seen.explorer.player.scene is None
            assert seen.point == (batch + 1, 512)

    async def test_the_area_is_drawn_up_to_the_batch_and_phases_play(self, explorer):
        async with explorer(size=(120, 40)) as seen:
            await seen.press("space")
            await seen.advance(4.0)
            assert "·" in "".join(seen.part("curve"))
            assert "▸" in "".join(seen.part("point"))

    async def test_it_goes_over_the_cliff_and_rests_on_the_maximum(self, explorer):
        async with explorer() as seen:
            await seen.press("space")
            play = seen.explorer.player.script
            await seen.advance(play.flash_s + 0.01)
            assert seen.point[0] == LARGEST + 1
            assert "CUDA out of memory" in "".join(seen.part("curve"))
            assert "does not fit" in seen.text
            falling = []
            for share in (0.1, 0.5, 0.9):
                await seen.advance(play.flash_s + 1.2 + 1.4 * share)
                box = next(y for y, row in enumerate(seen.part("curve")) if "MiB " in row)
                falling.append(box)
            assert falling == sorted(falling)
            assert falling[0] < falling[-1]
            await seen.advance(play.end_s + 1)
            assert not seen.explorer.player.is_running
            assert seen.point == (LARGEST, 512)
            assert "×77.0 MiB" in seen.text
            assert "animate" in seen.lines[-1]
            await seen.press("space")  # once more from the beginning
            assert seen.explorer.player.is_running
            assert seen.point[0] == 1

    async def test_without_motion_one_picture_says_the_same(self, explorer):
        async with explorer() as seen:
            seen.app.animation_level = "none"
            await seen.press("space")
            assert not seen.explorer.player.is_running
            text = seen.text
            assert seen.point == (LARGEST, 512)
            assert "CUDA out of memory" in text
            assert f"batch {LARGEST + 1} needs" in " ".join(text.split())
            assert "×77.0 MiB" in text
            assert f"{LARGEST} max" in text

    async def test_idle_no_timer_runs(self, explorer):
        async with explorer() as seen:
            await asyncio.sleep(0.3)
            await seen.pilot.pause()
            running = [timer for timer in seen.explorer._timers if timer._active.is_set()]
            assert running == []
            await seen.press("right")
            await asyncio.sleep(0.3)
            await seen.pilot.pause()
            assert seen.explorer._settling is None
            assert not seen.explorer.player.is_running

    async def test_no_colour_keeps_glyphs_and_words(self, explorer, monkeypatch):
        monkeypatch.setenv("NO_COLOR", "1")
        async with explorer() as seen:
            assert "╱" in seen.text
            assert "OOM" in seen.text
            await seen.press("space")
            await seen.advance(seen.explorer.player.script.flash_s + 0.01)
            assert "CUDA out of memory" in seen.text
            await seen.press("right", "v")
            assert "✓" in seen.text
            assert "×" in seen.text


class TestWhatItSays:
    async def test_a_new_answer_keeps_the_cursor_a_new_workload_moves_it(self, explorer):
        controller = Controller()
        async with explorer(controller) as seen:
            await seen.press("right", "up")
            controller._answer(GPT2)
            controller.tell(is_exact=True)
            await seen.pilot.pause()
            assert seen.point == (9, 768)
            controller.change(dataclasses.replace(GPT2, batch=3, sequence=256))
            await seen.pilot.pause()
            assert seen.point == (3, 256)

    async def test_an_impossible_workload_says_why(self, explorer):
        controller = Controller()
        async with explorer(controller) as seen:
            controller.tell(estimate=None, predictor=None, problem="--seq 4096 is too long")
            await seen.pilot.pause()
            assert "This cannot be: --seq 4096 is too long" in seen.text
            assert "what-if" in seen.text
            await seen.press("right", "up", "v", "x", "space", "enter", "m", "home", "pageup")
            controller.change(GPT2)
            await seen.pilot.pause()
            assert seen.point == (8, 512)

    async def test_waiting_for_the_trace_of_code(self, explorer):
        code = dataclasses.replace(GPT2, model=Model("mine", entry="train.py:make"))
        async with explorer(Controller(code, progress="tracing")) as seen:
            assert "tracing" in seen.text
            assert "the trace answers soon" in seen.text

    async def test_no_device(self, explorer):
        async with explorer(Controller(dataclasses.replace(GPT2, device=None))) as seen:
            assert "choose a GPU" in seen.text
            assert "OOM" not in seen.text
            await seen.press("space", "space", "v")
            assert "choose a GPU in what-if (e)" in seen.text

    async def test_on_the_cpu_there_is_no_allocator_and_no_cuda(self, explorer):
        on_cpu = dataclasses.replace(GPT2, backend="cpu")
        async with explorer(Controller(on_cpu), size=(160, 50)) as seen:
            assert " RAM " in seen.text
            assert "resident memory" in seen.text
            assert "nvidia-smi" not in seen.text
            await seen.press("end")
            assert "out of memory: batch" in seen.text
            assert "CUDA" not in seen.text

    async def test_where_nothing_fits(self, explorer):
        large = dataclasses.replace(GPT2, model=find_model("llama-2-7b"))
        async with explorer(Controller(large)) as seen:
            assert "no batch fits, not even 1" in seen.text
            await seen.press("space")
            await seen.advance(seen.explorer.player.script.end_s + 1)
            assert "CUDA out of memory" in seen.text

    async def test_live_peaks_other_processes_and_notices(self, explorer):
        observed = (ObservedPeak(16, 512, 11 << 30, 4), ObservedPeak(20, 256, 8 << 30, 9))
        known = {"observed": observed, "others_bytes": 3 << 30, "live": "pid 1234 cuda:0"}
        controller = Controller(**known)
        async with explorer(controller) as seen:
            assert "pid 1234 cuda:0 on RTX 4090" in seen.lines[0]
            curve = "\n".join(seen.part("curve"))
            assert "●" in curve
            assert "○" in curve
            assert "◆" in curve
            assert "other processes hold 3.00 GiB" in curve
            await seen.press("end")
            assert "◆ 8 now" in seen.text
            controller.tell(notice="process 7 is being rebuilt")
            await seen.pilot.pause()
            assert "process 7 is being rebuilt" in seen.text

    async def test_inference_has_no_effective_batch(self, explorer):
        workload = dataclasses.replace(GPT2, mode="inference", new_tokens=64)
        async with explorer(Controller(workload)) as seen:
            assert "effective batch" not in seen.text
            await seen.press("space")
            await seen.advance(2.0)
            assert "▸generate" in seen.text or "▸forward" in seen.text

    @pytest.mark.parametrize("size", [(60, 20), (40, 10), (200, 60)])
    async def test_any_size_draws(self, explorer, size):
        async with explorer(size=size) as seen:
            await seen.press("v", "right", "v", "space", "space", "right")
            assert all(len(line) == size[0] for line in seen.lines)
