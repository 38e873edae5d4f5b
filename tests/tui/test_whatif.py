"""The what-if screen driven by keyboard and by mouse; answers are by formula where nothing else."""

import contextlib
import dataclasses
import time

import pytest

from tests.tui.conftest import Screen
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.controls import CONTROLS
from vramtop.estimator.workload import Lora, Model, Parallel, Workload
from vramtop.tui.explore_app import ExploreApp
from vramtop.tui.screens.whatif import ACTIONS
from vramtop.tui.widgets.advice import AdviceList
from vramtop.tui.widgets.answer import Answer
from vramtop.tui.widgets.controls import Controls

START = Workload(find_model("gpt2"), batch=4, sequence=512, device=find_gpu("4090"))


class WhatIf(Screen):
    """What a person sees of it."""

    @property
    def exploration(self):
        return self.app.exploring.exploration

    @property
    def workload(self):
        return self.exploration.workload

    def line_of(self, name):
        """The y of a control's line."""
        label = next(control.label for control in CONTROLS if control.name == name)
        lines = [line[2:16].strip() for line in self.lines]
        return lines.index(label)

    def track_of(self, name):
        """(first, last) column of a slider's track."""
        row = self.lines[self.line_of(name)]
        track = [x for x, char in enumerate(row[: self.app.query_one_width]) if char in "━●─╳"]
        return track[0], track[-1]

    async def go_to(self, name):
        """Put the cursor on a control."""
        await self.click(self.app.screen.query_one(Controls).region.x + 3, self.line_of(name))

    async def until(self, holds):
        end = time.monotonic() + 90
        while not holds():
            assert time.monotonic() < end, "it did not come to pass: " + self.text
            await self.pilot.pause(0.05)


@pytest.fixture
def whatif(monkeypatch):
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)

    @contextlib.asynccontextmanager
    async def run(workload=START, size=(160, 50), method="closed-form", **options):
        app = ExploreApp(workload, method=method, **options)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await pilot.pause()
            app.query_one_width = app.screen.query_one(Controls).size.width
            yield WhatIf(app, pilot, None)

    return run


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_all_of_it_is_there(whatif, size):
    async with whatif(size=size) as screen:
        for control in CONTROLS:
            assert screen.line_of(control.name)
        for words in ("FITS", "parameters", "activations", "allocated", "reserved", "process"):
            assert words in screen.text
        for words in ("largest micro-batch", "forward", "backward", "to need less", "formula"):
            assert words in screen.text
        assert "RTX 4090" in screen.text


async def test_every_control_by_keyboard(whatif):
    start = dataclasses.replace(START, parallel=Parallel(gpus=4))
    async with whatif(start) as screen:
        for control in CONTROLS:
            screen.app.exploring.begin(start)
            await screen.press(*["down"] * (control is not CONTROLS[0]))
            values = control.values(start, start)
            at = values.index(control.get(start))
            forward = at + 1 < len(values)
            await screen.press("right" if forward else "left")
            assert control.get(screen.workload) == values[at + 1 if forward else at - 1]
            await screen.press("left" if forward else "right")
            assert control.get(screen.workload) == values[at]
            await screen.press("home")
            assert control.get(screen.workload) == values[0]
            await screen.press("shift+right")
            assert control.get(screen.workload) != values[0]
            await screen.press("end")
            assert control.get(screen.workload) == control.values(screen.workload, start)[-1]
            await screen.press("pagedown")
            value = control.get(screen.workload)
            assert value != values[-1]
            # Every value is on the line.
            assert control.text(value)[:12] in screen.lines[screen.line_of(control.name)]


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_every_slider_by_mouse(whatif, size):
    async with whatif(size=size) as screen:
        for control in (one for one in CONTROLS if one.most is not None):
            screen.app.exploring.begin(START)
            await screen.pilot.pause()
            values = control.values(START, START)
            first, last = screen.track_of(control.name)
            y = screen.line_of(control.name)
            await screen.click(last, y)
            assert control.get(screen.workload) == values[-1]
            assert screen.lines[y][last] == "●"
            await screen.click(first, y)
            assert control.get(screen.workload) == values[0]
            # Dragging, also over the end of the track.
            await screen.pilot.mouse_down(offset=(first, y))
            await screen.pilot.hover(offset=((first + last) // 2, y))
            await screen.pilot.pause()
            assert values[0] < control.get(screen.workload) < values[-1]
            await screen.pilot.hover(offset=(min(last + 9, size[0] - 1), y))
            await screen.pilot.pause()
            assert control.get(screen.workload) == values[-1]
            await screen.pilot.mouse_up(offset=(last, y))
            await screen.pilot.hover(offset=(first, y))
            await screen.pilot.pause()
            assert control.get(screen.workload) == values[-1], "it was let go"


async def test_every_choice_by_mouse(whatif):
    start = dataclasses.replace(START, parallel=Parallel(gpus=4), attention="flash")
    async with whatif(start) as screen:
        for control in (one for one in CONTROLS if one.most is None):
            screen.app.exploring.begin(start)
            await screen.pilot.pause()
            values, y = control.values(start, start), screen.line_of(control.name)
            at = values.index(control.get(start))
            if at + 1 < len(values):
                await screen.click(screen.lines[y].rindex("›", 0, 70), y)
                assert control.get(screen.workload) == values[at + 1]
                await screen.click(screen.lines[y].index("‹"), y)
                assert control.get(screen.workload) == values[at]
            # A click on the value lists them; another on a line takes it.
            await screen.click(screen.lines[y].index("‹") + 3, y)
            assert screen.app.screen.query_one("#choose").border_title == control.label
            place = screen.app.screen.query_one("#choose-list").region
            shown = screen.lines[place.y][place.x + 2 : place.right].split("  ")[0].strip()
            await screen.click(place.x + 3, place.y)
            chosen = control.get(screen.workload)
            assert control.text(chosen) == shown
            if len(values) <= 16:
                assert chosen == values[0]


async def test_the_batch_slider_crosses_the_cliff_and_the_verdict_turns(whatif):
    async with whatif(dataclasses.replace(START, batch=1)) as screen:
        most = screen.exploration.estimate.max_micro_batch
        assert 8 < most < 200
        await screen.go_to("batch")
        seen = []
        for _ in range(200):
            batch = screen.workload.batch
            verdict = screen.exploration.estimate.verdict
            word = {"fits": "FITS", "tight": "TIGHT", "oom": "OUT OF MEMORY"}[verdict]
            assert f" {word} " in screen.text
            assert verdict != ("oom" if batch <= most else "fits")
            assert ("too much" in screen.text) == (batch > most)
            assert ("╳" in screen.line_with("RTX 4090:")) == (batch > most)
            if seen[-1:] != [verdict]:
                seen.append(verdict)
            if verdict == "oom":
                break
            await screen.press("right")
        assert seen == ["fits", "tight", "oom"]
        await screen.press("end")
        row = screen.lines[screen.line_of("batch")]
        assert row[row.index("●") - 1] == "╳", "the track is crossed behind the cliff"
        await screen.press("1")
        assert " FITS " in screen.text


async def test_digits_type_a_number(whatif):
    async with whatif() as screen:
        await screen.go_to("batch")
        await screen.press("2")
        assert screen.workload.batch == 2
        await screen.press("3")
        assert screen.workload.batch == 23
        assert "23▏" in screen.lines[screen.line_of("batch")]
        await screen.press("backspace")
        assert screen.workload.batch == 2
        await screen.press("7", "5", "enter")
        assert screen.workload.batch == 275, "between two stops of the slider"
        assert "▏" not in screen.lines[screen.line_of("batch")]
        await screen.press("6")
        assert screen.workload.batch == 6, "enter ended the number"
        await screen.press("right", "0", "9")
        assert screen.workload.batch == 9
        await screen.press(*"999999")
        assert screen.workload.batch <= 65536
        await screen.go_to("lora")
        await screen.press("1", "2")
        assert screen.workload.lora == Lora(12)
        await screen.press("up", "down", "0")
        assert screen.workload.lora is None
        await screen.go_to("precision")
        await screen.press("5")
        assert screen.workload.precision == "bf16", "no number"


async def test_a_list_is_filtered_by_typing(whatif):
    async with whatif() as screen:
        await screen.press("enter")
        assert "distilgpt2" in screen.text
        await screen.press(*"qwen 14")
        assert "qwen2.5-14b" in screen.text
        assert "distilgpt2" not in screen.text
        await screen.press("enter")
        assert screen.workload.model.name == "Qwen/Qwen2.5-14B"
        await screen.press("enter", *"nonesuch")
        assert "nothing matches" in screen.text
        await screen.press("enter")
        assert screen.workload.model.name == "Qwen/Qwen2.5-14B"
        await screen.press("enter", "down", "escape")
        assert screen.workload.model.name == "Qwen/Qwen2.5-14B"
        await screen.press("enter", *"bert", "down", "enter")
        assert "bert" in screen.workload.model.name
        await screen.press("enter", "pagedown", "pageup", "up", "enter")
        assert screen.workload.model.name != "Qwen/Qwen2.5-14B"
        await screen.go_to("optimizer")
        await screen.press("enter", *"sgd-m", "enter")
        assert screen.workload.optimizer == "sgd-momentum"


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_enter_applies_advice_and_u_takes_it_back(whatif, size):
    async with whatif(dataclasses.replace(START, batch=48), size=size) as screen:
        before = screen.exploration.estimate
        assert before.verdict == "oom"
        await screen.press("tab")
        changes = [advice.change for advice in before.advice]
        await screen.press(*["down"] * changes.index("full checkpointing"))
        assert "a step takes about a third longer" in screen.words
        await screen.press("enter")
        after = screen.exploration.estimate
        advice = before.advice[changes.index("full checkpointing")]
        assert screen.workload.checkpointing == "full"
        saved = before.footprint.process_bytes - after.footprint.process_bytes
        assert saved == advice.saves_bytes
        assert "full checkpointing: saves" in screen.words
        await screen.press("u")
        assert screen.workload == dataclasses.replace(START, batch=48)
        assert "undone: checkpointing full → none" in screen.words


async def test_advice_that_no_control_shows_is_undone_by_name(whatif):
    async with whatif(dataclasses.replace(START, batch=48)) as screen:
        advice = screen.exploration.estimate.advice
        place = next(n for n, one in enumerate(advice) if "--chunked-loss" in one.options)
        await screen.press("tab", *["down"] * place, "enter")
        assert screen.workload.chunked_loss
        await screen.press("u")
        assert not screen.workload.chunked_loss
        assert f"undone: {advice[place].change}" in screen.words


async def test_one_cursor_shows_where_the_keys_go(whatif):
    async with whatif() as screen:

        def marked():
            return [y for y, line in enumerate(screen.lines) if line.startswith("▌")]

        controls = screen.app.screen.query_one(Controls).region
        assert len(marked()) == 1
        assert marked()[0] < controls.bottom
        await screen.press("tab")
        await screen.until(lambda: marked() and marked()[0] >= controls.bottom)
        assert len(marked()) == 1
        await screen.press("tab")
        await screen.until(lambda: marked() and marked()[0] < controls.bottom)
        assert len(marked()) == 1


async def test_advice_that_makes_it_fit_is_marked(whatif):
    async with whatif(dataclasses.replace(START, batch=48)) as screen:
        marked = [line for line in screen.lines if " ✓ " in line]
        assert any("full checkpointing" in line for line in marked)
        assert not any("dropping the outputs" in line for line in marked)
        changes = [advice.change for advice in screen.exploration.estimate.advice]
        await screen.press("tab", *["down"] * changes.index("full checkpointing"))
        assert "✓ then it fits" in screen.words
        await screen.press("enter")
        assert " FITS " in screen.text
        assert "✓" not in screen.text


async def test_advice_by_mouse(whatif):
    async with whatif() as screen:
        y = screen.row_of("full checkpointing")
        x = screen.lines[y].index("full checkpointing")
        await screen.click(x, y)
        assert isinstance(screen.app.focused, AdviceList)
        assert screen.workload == START, "one click only chooses"
        await screen.pilot.click(offset=(x, y), times=2)
        await screen.pilot.pause()
        assert screen.workload.checkpointing == "full"
        region = screen.app.screen.query_one(Controls).region
        await screen.click(region.x + 4, screen.line_of("batch"))
        assert isinstance(screen.app.focused, Controls)


async def test_steps_of_one_control_are_undone_together(whatif):
    async with whatif() as screen:
        await screen.go_to("batch")
        await screen.press("right", "right", "right")
        await screen.go_to("precision")
        await screen.press("home")
        assert (screen.workload.batch, screen.workload.precision) == (7, "fp32")
        await screen.press("u")
        assert (screen.workload.batch, screen.workload.precision) == (7, "bf16")
        await screen.press("u")
        assert screen.workload == START
        await screen.press("u")
        assert "nothing to undo" in screen.words


async def test_what_changes_besides_is_said(whatif):
    async with whatif() as screen:
        await screen.go_to("precision")
        await screen.press("end")
        assert screen.workload.precision == "nf4"
        assert "also changed: LoRA rank off → 16" in screen.words


async def test_the_impossible_is_one_line_over_the_last_answer(whatif):
    start = dataclasses.replace(START, device=find_gpu("t4"))
    async with whatif(start, size=(120, 24)) as screen:
        before = [line[56:] for line in screen.lines if "reserved" in line]
        await screen.go_to("attention")
        await screen.press("right")
        assert "IMPOSSIBLE: --attention flash needs compute capability 8.0" in screen.words
        assert "the last answer" in screen.text
        assert [line[56:] for line in screen.lines if "reserved" in line] == before
        y = screen.row_of("parameters")
        colours = {colour for char, colour in screen.cells(56, y) if char.strip()}
        assert len(colours) == 1, "dimmed"
        await screen.press("left")
        assert "IMPOSSIBLE" not in screen.text


async def test_code_waits_for_the_trace(whatif, monkeypatch):
    code = Workload(Model("net.py:make", entry="net.py:make"), device=find_gpu("4090"))
    async with whatif(code) as screen:
        assert "the closed form needs a configuration" in screen.words
        assert "formulas only, as asked" in screen.words


async def test_without_torch_it_says_so(whatif, monkeypatch):
    from vramtop.trace import client

    monkeypatch.setattr(client, "why_not", lambda: "torch is not installed here (pip install …)")
    async with whatif(method="auto") as screen:
        assert "formulas only: torch is not installed here" in screen.words
        assert screen.exploration.progress == ""
        assert screen.exploration.estimate.verdict == "fits"


async def test_the_trace_replaces_the_formula(whatif, monkeypatch, tmp_path):
    """The real tracer on a tiny model."""
    pytest.importorskip("transformers")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = {
        "model_type": "gpt2", "n_embd": 64, "n_head": 2, "n_layer": 3, "n_positions": 128,
        "vocab_size": 512,
    }  # fmt: skip
    tiny = Workload(Model("tiny", config), batch=4, sequence=64, device=find_gpu("4090"))
    async with whatif(tiny, method="auto") as screen:
        assert screen.exploration.estimate.footprint.method == "closed-form"
        assert "formula" in screen.lines[0]
        assert "formula ·" in screen.lines[0], "and what is being done"
        await screen.until(lambda: screen.exploration.is_exact)
        await screen.pilot.pause()
        assert "exact: traced" in screen.lines[0]
        assert screen.exploration.estimate.footprint.method == "trace"
        first = screen.exploration.estimate
        # Another batch is by formula at once, then of the same trace.
        await screen.go_to("batch")
        await screen.press("right")
        assert not screen.exploration.is_exact
        assert screen.exploration.estimate.footprint.method == "closed-form"
        await screen.until(lambda: screen.exploration.is_exact)
        assert screen.exploration.estimate.workload.batch == 5
        allocated = screen.exploration.estimate.footprint.peak_allocated_bytes
        assert allocated > first.footprint.peak_allocated_bytes
        # A live process has what it has outside its allocator.
        screen.app.exploring.begin(tiny, live="pid 1 cuda:0", outside_bytes=777 << 20)
        await screen.until(lambda: screen.exploration.is_exact)
        own = screen.exploration.estimate.footprint
        assert own.peak_reserved_bytes == first.footprint.peak_reserved_bytes
        assert own.process_bytes == own.peak_reserved_bytes + (777 << 20)


async def test_keys_are_told_and_the_app_is_left(whatif):
    async with whatif() as screen:
        await screen.press("question_mark")
        for action in ACTIONS:
            if action.name != "screen.back":  # there is nothing to go back to
                assert action.help in screen.text
        await screen.press("escape", "escape")
        assert "what if" in screen.text
        await screen.press("q")
        assert screen.app._exit


async def test_b_opens_the_batch_explorer(whatif):
    async with whatif() as screen:
        await screen.press("b")
        await screen.pilot.pause()
        assert type(screen.app.screen).__name__ == "ExplorerScreen"
        await screen.press("escape")
        assert "what if" in screen.text


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (100, 30), (200, 60)])
async def test_nothing_is_painted_over_an_edge(whatif, size):
    async with whatif(dataclasses.replace(START, batch=99), size=size) as screen:
        for canvas in screen.app.screen.query("Controls, AdviceList, Answer"):
            for y in range(canvas.size.height):
                assert canvas.render_line(y).cell_length == canvas.size.width
        assert "OUT OF MEMORY" in screen.text
        await screen.press("end")  # every control can be reached
        await screen.press(*["down"] * 20)
        assert "GPU" in next(line for line in screen.lines if line.startswith("▌"))


async def test_the_curve_is_there_where_there_is_room_and_sets_the_batch(whatif):
    async with whatif(size=(80, 24)) as screen:
        assert "process memory over the micro-batch" not in screen.text
    async with whatif() as screen:
        await screen.until(lambda: "process memory over the micro-batch" in screen.text)
        region = screen.app.screen.query_one("#whatif-curve").region
        await screen.click(region.right - 3, region.y + 5)
        assert screen.workload.batch > screen.exploration.estimate.max_micro_batch
        assert "OUT OF MEMORY" in screen.text


async def test_without_colours_words_and_glyphs_tell(whatif, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with whatif(dataclasses.replace(START, batch=99), size=(80, 24)) as screen:
        assert " OUT OF MEMORY " in screen.text
        assert "OOM ╳" in screen.text
        assert "╳" in screen.lines[screen.line_of("batch")]
        bar = screen.app.screen.query_one(Answer).render_line(1).text
        assert len(set(bar.strip())) > 3, "a glyph for each component"


async def test_one_key_repaints_only_what_changed(whatif):
    async with whatif() as screen:
        await screen.go_to("batch")
        controls = screen.app.screen.query_one(Controls)
        before = [controls.render_line(y) for y in range(controls.size.height)]
        await screen.press("right")
        after = [controls.render_line(y) for y in range(controls.size.height)]
        changed = [y for y, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert changed == [screen.line_of("batch") - controls.region.y]
