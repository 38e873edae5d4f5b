"""Key a: a question, then the probe in a real process, or a reason in full."""

import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from vramtop.core.model import Probe
from vramtop.errors import AttachRefused
from vramtop.inject import attacher
from vramtop.sources.fake import snapshots
from vramtop.sources.procfs import started_at
from vramtop.tui.actions import available
from vramtop.tui.screens.overlay import OverlayPane

SIZES = [(80, 24), (160, 50)]


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def _snapshot_with(process, state="none"):
    snapshot = next(snapshots("training"))
    plain = replace(
        snapshot.processes[0],
        pid=process.pid,
        started_at=started_at(process.pid),
        command="python somebody_elses.py",
        probe=Probe(state=state),
    )
    return replace(snapshot, processes=(plain,))


async def _give(screen, process, state="none"):
    screen.source.give(_snapshot_with(process, state))
    await screen.pilot.pause()


async def _wait_for(screen, words):
    deadline = time.monotonic() + 60
    while words not in screen.words:
        assert time.monotonic() < deadline, screen.text
        await screen.pilot.pause(0.05)


@pytest.mark.parametrize("size", SIZES)
async def test_it_asks_first_and_says_what_will_be_done(shown, stepped, process, monkeypatch, size):
    called = []
    monkeypatch.setattr(attacher, "attach", lambda *given: called.append(given))
    async with shown(source=stepped(first=0), size=size) as screen:
        await _give(screen, process)
        await screen.press("a")
        assert "Put vramtop's probe into this process?" in screen.text
        assert str(process.pid) in screen.text
        assert "python somebody_elses.py" in screen.text
        assert "gdb (or lldb) holds it for some 0.1 s" in screen.text
        assert f"vramtop attach --detach {process.pid}" in screen.words
        assert "Cancel" in screen.text
        await screen.press("enter")  # cancel is the default
        assert "not attached" in screen.text
    assert called == []


async def test_the_message_line_tells_how_it_goes(shown, stepped, process, monkeypatch):
    go_on = threading.Event()

    def attach(pid, tell):
        tell("waiting for the interpreter: the main thread is in a long C call, 2 s of 60 s")
        go_on.wait(60)
        return attacher.Attached(pid, "gdb", "3.11.7", "2.13.0", pause_s=0.074)

    monkeypatch.setattr(attacher, "attach", attach)
    async with shown(source=stepped(first=0), size=(160, 50)) as screen:
        await _give(screen, process)
        await screen.press("a", "y")
        await _wait_for(screen, "the main thread is in a long C call, 2 s of 60 s")
        await screen.press("a")
        assert f"still attaching to process {process.pid}" in screen.words
        go_on.set()
        await _wait_for(
            screen,
            f"attached to {process.pid} with gdb; it stood still for 0.07 s "
            "(Python 3.11.7, torch 2.13.0)",
        )


@pytest.mark.parametrize("size", SIZES)
async def test_a_refusal_is_shown_in_full(shown, stepped, process, monkeypatch, size):
    reason = (
        "the kernel does not let you debug process 1 (kernel.yama.ptrace_scope is 1); allow it "
        "with: sudo sysctl kernel.yama.ptrace_scope=0 — or start it with: vramtop run -- python …"
    )

    def attach(pid, tell):
        raise AttachRefused(reason)

    monkeypatch.setattr(attacher, "attach", attach)
    async with shown(source=stepped(first=0), size=size) as screen:
        await _give(screen, process)
        await screen.press("a", "y")
        await _wait_for(screen, "Not attached")
        region = screen.app.screen.query_one(OverlayPane).region
        rows = [line[region.x : region.right] for line in screen.lines[region.y : region.bottom]]
        bare = " ".join(" ".join(row.strip("│ ") for row in rows).split())
        assert reason in bare
        await screen.press("escape")
        assert "Not attached" not in screen.text


async def test_a_real_process_that_is_no_python(shown, stepped):
    with subprocess.Popen(["sleep", "60"]) as process:
        async with shown(source=stepped(first=0), size=(160, 50)) as screen:
            await _give(screen, process)
            await screen.press("a", "y")
            await _wait_for(screen, "is not a Python process; nothing to attach to")
        process.kill()


async def test_a_pid_that_was_reused_is_left_alone(shown, stepped, process, monkeypatch):
    called = []
    monkeypatch.setattr(attacher, "attach", lambda *given: called.append(given))
    async with shown(source=stepped(first=0), size=(160, 50)) as screen:
        snapshot = _snapshot_with(process)
        other = replace(snapshot.processes[0], started_at=1.0)
        screen.source.give(replace(snapshot, processes=(other,)))
        await screen.pilot.pause()
        await screen.press("a", "y")
        await _wait_for(screen, f"pid {process.pid} is another process now")
    assert called == []


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("streaming", "its memory is explained already"),
        ("waiting", "a probe is in it and waits for torch"),
    ],
)
async def test_where_a_probe_is_there_is_nothing_to_ask(shown, stepped, process, state, said):
    async with shown(source=stepped(first=0), size=(160, 50)) as screen:
        await _give(screen, process, state)
        await screen.press("a")
        assert f"process {process.pid}: {said}" in screen.words
        assert "Put vramtop" not in screen.text


async def test_leaving_the_app_ends_the_wait(shown, stepped, process, monkeypatch):
    ended = []

    def attach(pid, tell):
        try:
            while True:
                tell("waiting")
                time.sleep(0.02)
        except KeyboardInterrupt:
            ended.append(pid)
            raise

    monkeypatch.setattr(attacher, "attach", attach)
    async with shown(source=stepped(first=0)) as screen:
        await _give(screen, process)
        await screen.press("a", "y")
        await _wait_for(screen, "waiting")
    deadline = time.monotonic() + 10
    while not ended and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ended == [process.pid]


async def test_readonly_does_not_offer_it(shown, stepped, process):
    async with shown(source=stepped(first=0), readonly=True, size=(160, 50)) as screen:
        await _give(screen, process)
        await screen.press("a")
        assert "Put vramtop" not in screen.text
    assert not any(action.name == "attach" for action in available(readonly=True))
