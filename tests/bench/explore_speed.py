"""From a keystroke to the repainted what-if: ``python -m tests.bench explore_speed [--keys 100]``.

The real app at 80×24 and 160×50, its screen rendered to lines of text after every key as a terminal
would be given it. Timed from the key's event to the end of that: formulas, verdict, largest batch,
advice and painting. Start-up is the time of a new process to its first picture, less the imports.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time

from tests.bench.machine import ROOT, print_table

WORKLOADS = ("gpt2", "llama-2-7b", "llama-3.1-405b")
SIZES = ((80, 24), (160, 50))
AIM_S = 0.05
_FIRST_PICTURE = """
import asyncio, json, time
began = time.perf_counter()
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.workload import Workload
from vramtop.tui.explore_app import ExploreApp
import sys
imported = time.perf_counter()
workload = Workload(find_model("llama-2-7b"), sequence=2048, device=find_gpu("4090"))
async def main():
    app = ExploreApp(workload, method="closed-form")
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.pause()
        text = app.export_screenshot()
        assert "MEMORY" in text
        shown = time.perf_counter()
        print(json.dumps([imported - began, shown - imported, "torch" in sys.modules]))
asyncio.run(main())
"""


def workload_of(name):
    from vramtop.estimator.catalog import find_gpu, find_model
    from vramtop.estimator.workload import Parallel, Workload

    workload = Workload(find_model(name), batch=4, sequence=1024, device=find_gpu("h100"))
    if "405b" in name:
        workload = dataclasses.replace(workload, parallel=Parallel(gpus=64, zero=3))
    return workload


async def keystrokes(name, size, count, method="closed-form", rest_s=0.0):
    """(seconds, seconds of CPU) of each key; the process's CPU, the trace's judge with it."""
    from textual import events

    from vramtop.tui.explore_app import ExploreApp

    app = ExploreApp(workload_of(name), method=method)
    taken = []
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.press("down")
        exploring = app.exploring
        painted = asyncio.Event()
        exploring.subscribe(painted.set)
        while method != "closed-form" and not exploring.exploration.is_exact:
            await asyncio.sleep(0.1)
        for number in range(count):
            await asyncio.sleep(rest_s * (1 + number % 5 / 10))
            key = "right" if number % 20 < 10 else "left"
            painted.clear()
            began, used = time.perf_counter(), time.process_time()
            app.post_message(events.Key(key, None))
            await painted.wait()
            app.screen._compositor.render_strips()
            taken.append((time.perf_counter() - began, time.process_time() - used))
    return taken


def first_picture():
    """(seconds of imports, seconds from there to the picture, whether torch was loaded)."""
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_PICTURE],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=dict(os.environ, COLORTERM="truecolor"),
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(options=()):
    parser = argparse.ArgumentParser(prog="python -m tests.bench explore_speed")
    parser.add_argument("--keys", type=int, default=100)
    count = parser.parse_args(list(options)).keys
    rows = []
    for name, size, how in (
        *((name, size, ()) for name in WORKLOADS for size in SIZES),
        # Keys that come while the trace of the last one is judged, on another thread.
        ("llama-2-7b", SIZES[1], ("trace", 0.45)),
    ):
        measured = asyncio.run(keystrokes(name, size, count, *how))
        taken, used = zip(*measured, strict=True)
        centiles = statistics.quantiles(taken, n=20)
        rows.append(
            (
                f"{name}, {size[0]}×{size[1]}{', beside a trace' if how else ''}",
                f"{statistics.median(taken) * 1e3:.1f} ms",
                f"{centiles[-1] * 1e3:.1f} ms",
                f"{max(taken) * 1e3:.1f} ms",
                f"{statistics.median(used) * 1e3:.1f} ms",
                "yes" if centiles[-1] <= AIM_S else "NO",
            )
        )
    title = f"A keystroke to the repainted what-if ({count} keys; aim {AIM_S * 1e3:.0f} ms)"
    heads = ("workload, screen", "median", "p95", "worst", "CPU, median", "p95 within aim")
    print_table(title, heads, rows)
    print(f"load of the machine: {os.getloadavg()[0]:.1f} runnable processes in the last minute")
    imports_s, picture_s, has_torch = first_picture()
    print_table(
        "vramtop explore: start to the first picture",
        ("", "imports", "from there", "torch loaded"),
        [
            (
                "llama-2-7b, 160×50",
                f"{imports_s:.2f} s",
                f"{picture_s:.2f} s",
                "yes" if has_torch else "no",
            )
        ],
    )
