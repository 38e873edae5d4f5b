"""Every key and every use of the mouse."""

import signal
import subprocess
import sys
import time

import pytest

from vramtop.tui.actions import available
from vramtop.tui.panes import PANES
from vramtop.tui.screens.sort import LETTERS


async def test_arrows_and_letters_move_the_cursor(shown):
    async with shown("fleet") as screen:
        await screen.press("f", "g")  # each rank has its row
        assert screen.selected() == 5030
        for key, pid in {"down": 5000, "j": 5010, "up": 5000, "k": 5030}.items():
            await screen.press(key)
            assert screen.selected() == pid
        for key in ("G", "end"):
            await screen.press(key)
            assert screen.selected() == 5077
        for key in ("g", "home"):
            await screen.press(key)
            assert screen.selected() == 5030
        await screen.press("pagedown")
        assert screen.selected() not in {5030, 5000}
        await screen.press("pageup")
        assert screen.selected() == 5030


async def test_left_and_right_show_the_rest_of_a_command(shown):
    async with shown(size=(80, 24)) as screen:
        assert "gpt2-medium" not in screen.text
        await screen.press("right", "l", "l")
        assert "gpt2-medium" in screen.line_with("▌")
        await screen.press("left", "h", "h")
        assert "python train.py" in screen.line_with("▌")


async def test_the_selection_stays_with_the_process_when_rows_change(shown):
    async with shown() as screen:
        await screen.press("down")
        chosen = screen.selected()
        await screen.press("s", "p")
        await screen.step(3)
        assert screen.selected() == chosen


async def test_sorting_by_letter_and_turning_round(shown):
    async with shown() as screen:
        await screen.press("s")
        assert "command" in screen.text
        await screen.press("p")
        assert screen.pids() == sorted(screen.pids(), reverse=True)
        await screen.press("o", "p")
        assert screen.pids() == sorted(screen.pids())
        await screen.press("s", "escape")
        assert screen.pids() == sorted(screen.pids())


def test_every_column_has_a_letter():
    from vramtop.core.rows import SORT_KEYS

    assert sorted(LETTERS.values()) == sorted(SORT_KEYS)


async def test_filtering_while_typing(shown):
    async with shown() as screen:
        await screen.press("slash", *"grace")
        assert screen.pids() == [4102]
        await screen.press("enter")
        assert screen.pids() == [4102]
        await screen.press("slash", "x")
        assert "no process matches" in screen.text
        await screen.press("escape")
        assert len(screen.pids()) == 4


async def test_pause_freezes_the_screen_while_collecting_goes_on(shown):
    async with shown() as screen:
        await screen.press("space")
        assert "PAUSED" in screen.text
        frozen = screen.lines
        await screen.step(10)
        assert screen.lines == frozen
        await screen.press("down")  # looking around in the frozen picture
        assert "lost" not in screen.text
        await screen.press("space")
        assert "PAUSED" not in screen.text
        assert "GPU is lost" in screen.text


async def test_the_rate_has_ends(shown):
    async with shown() as screen:
        for _ in range(5):
            await screen.press("plus")
        assert screen.source.period_s == 0.25
        assert "every 0.25 s" in screen.text
        for _ in range(8):
            await screen.press("minus")
        assert screen.source.period_s == 10


@pytest.mark.parametrize("key", ["question_mark", "f1"])
async def test_help_tells_every_action_and_colour(shown, key):
    async with shown(size=(160, 60)) as screen:
        await screen.press(key)
        for action in available(readonly=False):
            assert action.help in screen.text
            assert action.shown_keys in screen.text
        for meaning in ("gradients", "optimizer state", "driver reserve", "unattributed"):
            assert meaning in screen.text
        await screen.press("escape")
        assert "2 Processes" in screen.text


async def test_help_scrolls_on_a_small_screen(shown):
    async with shown(size=(80, 24)) as screen:
        await screen.press("f1", "G")
        assert "nobody's" in screen.text
        await screen.press("g")
        assert "leave vramtop" in screen.text


async def test_the_palette_finds_an_action(shown):
    async with shown() as screen:
        await screen.press("ctrl+p")
        await screen.press(*"pause")
        await screen.pilot.pause(0.3)
        await screen.press("down", "enter")
        await screen.pilot.pause(0.3)
        assert "PAUSED" in screen.text


async def test_details_of_the_selected_process_stay_up_to_date(shown):
    async with shown() as screen:
        await screen.press("enter")
        for fact in ("gpt2-medium.toml", "GPU-fake-0", "354,823,168", "peak allocated", "10m01s"):
            assert fact in screen.text
        for fact in ("sdpa attention; autocast to", "labels 8×1024", "709,646,336 float32"):
            assert fact in screen.text
        await screen.step(3)
        assert "10m04s" in screen.text
        await screen.press("escape")
        assert "2 Processes" in screen.text


async def test_numbers_and_tab_lead_to_panes_and_the_number_again_enlarges(shown):
    async with shown() as screen:
        for number, pane in enumerate(PANES, 1):
            await screen.press(str(number))
            assert screen.app.focused.id == pane.NAME
            assert pane.NAME in screen.shown_panes()
        await screen.press(str(len(PANES)))
        assert screen.shown_panes() == [PANES[-1].NAME]
        await screen.press("3")
        assert screen.shown_panes() == ["breakdown"]
        await screen.press("escape")
        assert "processes" in screen.shown_panes()
        await screen.press("1", "tab")
        assert screen.app.focused.id == "processes"
        await screen.press("shift+tab")
        assert screen.app.focused.id == "devices"


async def test_the_mouse_selects_sorts_scrolls_and_presses_the_footer(shown):
    async with shown("fleet") as screen:
        await screen.click(20, screen.row_of(" 5003 "))
        assert screen.selected() == 5003
        head = screen.row_of("PID USER")
        await screen.click(screen.lines[head].index("PID"), head)
        assert screen.pids()[0] == 5077
        first = screen.pids()[0]
        pane = screen.app.query_one("#processes")
        await screen.pilot._post_mouse_events([_wheel()], widget=pane, offset=(5, 5))
        await screen.pilot.pause()
        assert screen.pids()[0] != first
        await screen.click(screen.lines[-1].index("Pause"), 49)
        assert "PAUSED" in screen.text


def _wheel():
    from textual.events import MouseScrollDown

    return MouseScrollDown


async def test_theme_changes_and_is_remembered(shown):
    async with shown() as screen:
        await screen.app.run_action("toggle_theme")
        await screen.press("s", "u", "1")
        assert screen.app.remembered() == {
            "theme": "vramtop-light",
            "pane": "devices",
            "sort_key": "user",
            "descending": False,
        }


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_leaving(shown, key):
    async with shown() as screen:
        await screen.press(key)
    assert screen.source.stopped
    assert screen.app.return_code == 0


@pytest.fixture
def sent(monkeypatch):
    calls = []
    monkeypatch.setattr("vramtop.sources.signals.send", lambda *call: calls.append(call))
    return calls


@pytest.mark.parametrize(
    ("key", "number"), [("T", signal.SIGTERM), ("K", signal.SIGKILL), ("I", signal.SIGINT)]
)
async def test_a_signal_asks_first_and_enter_cancels(shown, sent, key, number):
    async with shown() as screen:
        process = screen.app.frame.process
        await screen.press(key)
        for word in (number.name, "4101", "ada", "gpt2-medium.toml"):
            assert word in screen.text
        await screen.press("enter")
        assert sent == []
        assert f"{number.name} not sent" in screen.text
        await screen.press(key, "tab", "enter")
        assert sent == [(4101, process.started_at, number)]
        assert f"{number.name} sent to process 4101" in screen.text
        await screen.press(key, "y")
        assert len(sent) == 2
        await screen.press(key, "escape")
        assert len(sent) == 2


async def test_readonly_takes_signals_away_everywhere(shown, sent):
    async with shown(readonly=True, size=(160, 60)) as screen:
        await screen.press("T", "K", "I")
        assert "Cancel" not in screen.text
        assert "SIG" not in screen.text
        assert "signals and attach are taken away: readonly" in screen.text
        await screen.press("f1")
        assert "SIG" not in screen.text
    assert not any(action.is_signal for action in available(readonly=True))


async def test_a_refused_signal_is_said(shown):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        async with shown() as screen:
            screen.app._send(process.pid, 1.0, signal.SIGTERM)
            await screen.pilot.pause()
            assert "another process now" in screen.text
        time.sleep(0.1)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("is_replay", [False, True])
def test_no_key_does_two_things(is_replay):
    actions = available(readonly=False, is_replay=is_replay)
    keys = [key for action in actions for key in action.keys]
    assert len(keys) == len(set(keys))
