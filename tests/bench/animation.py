"""The explorer's climb to the cliff: CPU at 120 × 40, when idle, and memory over many climbs.

The hour is stood for by as many frames as a minute can draw, played without waiting, each
painted to a real terminal: memory is read after every climb.
"""

import asyncio
import os
import re
import statistics
import sys
import time
from pathlib import Path

from tests.bench.machine import print_table
from tests.bench.terminal import Terminal, shows

COLUMNS, ROWS = 120, 40
PLAY_S = 12
IDLE_S = 10
PROXY_S = 60
RUNS = 3
COMMAND = ("explore", "gpt2", "--batch", "8", "--seq", "512", "--gpu", "4090")
COMMAND = (*COMMAND, "--method", "closed-form")
_FRAME_ENDS = b"\x1b[?2026l"
_CAN_SYNCHRONISE = b"\x1b[?2026;2$y"
"""The answer to textual's question; with it the end of every frame can be seen in the output."""


def main():
    """Print the tables."""
    playing, frames, idle, resting, woken = [], [], [], [], []
    for _ in range(RUNS):
        with _explorer() as terminal:
            before = _wakings(terminal.pid)
            idle.append(terminal.cpu_percent(IDLE_S))
            woken.append(_wakings(terminal.pid) - before)
            terminal.type(b" ")
            before = terminal.output.count(_FRAME_ENDS)
            begun = time.perf_counter()
            playing.append(terminal.cpu_percent(PLAY_S))
            seconds = time.perf_counter() - begun
            frames.append((terminal.output.count(_FRAME_ENDS) - before) / seconds)
            terminal.read_for(5.0)  # it rests on the maximum by now
            resting.append(terminal.cpu_percent(IDLE_S))
    rows = [
        ("while it climbs", f"{statistics.median(playing):.1f}", f"{max(playing):.1f}"),
        ("open, nothing plays", f"{statistics.median(idle):.2f}", f"{max(idle):.2f}"),
        ("at rest after the climb", f"{statistics.median(resting):.2f}", f"{max(resting):.2f}"),
    ]
    print_table(
        f"the explorer at {COLUMNS} × {ROWS} in a pseudo-terminal, median of {RUNS}",
        ("case", "CPU % of a core", "most"),
        rows,
    )
    print(f"frames a second while it climbs: {statistics.median(frames):.1f}")
    print(f"times the app's own thread woke in {IDLE_S} s when nothing played: {max(woken)}")
    print("(the rest is textual's input thread, which looks for keys ten times a second)")
    _memory()


def _wakings(pid):
    """How often the main thread has gone back to sleep so far."""
    status = Path(f"/proc/{pid}/task/{pid}/status").read_text()
    return int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", status)[1])


def _explorer():
    argv = [sys.executable, "-m", "vramtop", *COMMAND]
    terminal = Terminal(argv, dict(os.environ), COLUMNS, ROWS)
    if terminal.seconds_until(shows("micro-batch")) is None:
        raise SystemExit("vramtop explore shows nothing")
    terminal.type(_CAN_SYNCHRONISE)
    terminal.read_for(1.5)
    terminal.type(b"b")
    terminal.read_for(2.0)
    return terminal


def _memory():
    """Resident memory while climbs follow each other without a pause."""
    argv = [sys.executable, "-m", "tests.bench.animation", str(PROXY_S)]
    with Terminal(argv, dict(os.environ), COLUMNS, ROWS) as terminal:
        terminal.read_for(PROXY_S + 30, shows("climbs done"))
        said = re.findall(rb"(\d+) frames (\d+) KiB", terminal.output)
    rows = [(int(count), f"{int(size) / 1024:.1f}") for count, size in said]
    print_table(
        f"resident memory over {PROXY_S} s of frames played without waiting (proxy of an hour)",
        ("frames", "RSS MiB"),
        rows,
    )


def _play(seconds):
    """Draw frames one after another as fast as they go; tell the memory now and then."""
    from vramtop.estimator.catalog import find_gpu, find_model
    from vramtop.estimator.workload import Workload
    from vramtop.tui.explore_app import ExploreApp
    from vramtop.tui.player import FRAMES_PER_S
    from vramtop.tui.screens.explorer import ExplorerScreen

    told = []

    class Played(ExploreApp):
        async def on_ready(self):
            self.call_later(self._frames)

        async def _frames(self):
            self.screen.action_explorer()
            while not isinstance(self.screen, ExplorerScreen) or not self.screen.is_running:
                await asyncio.sleep(0.1)
            await asyncio.sleep(1.0)
            screen, count, until = self.screen, 0, time.monotonic() + seconds
            while time.monotonic() < until:
                screen.action_play()
                screen.player.halt()
                while screen.player.scene is not None and screen.player.scene.act != "rest":
                    screen.player.advance(1 / FRAMES_PER_S)
                    await asyncio.sleep(0)
                    count += 1
                told.append((count, _rss_kib()))
            self.exit()

    workload = Workload(find_model("gpt2"), batch=8, sequence=512, device=find_gpu("4090"))
    Played(workload, method="closed-form").run()
    for count, size in told[:: max(len(told) // 12, 1)]:
        print(f"{count} frames {size} KiB")
    print("climbs done", flush=True)


def _rss_kib():
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])


if __name__ == "__main__":
    _play(float(sys.argv[1]))
