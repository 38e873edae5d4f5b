"""The demo's training as its own process: plain, under ``vramtop run``, and with a viewer.

Runs of the three kinds alternate; every run is a fresh process with the same seed. The viewer is
the real app in a pseudo-terminal, reading once a second.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import psutil

from tests.bench.machine import print_table
from tests.bench.terminal import Terminal

ROUNDS = 7
STEPS = 50
WARM_UP = 8
LAST = 48
"""Before the last one: the process must still be there to be asked for its CPU time."""
SCRIPT = Path(__file__).parents[2] / "vramtop" / "cli" / "demo_training.py"
KINDS = ("plain", "run", "run and viewer")
_LINE = re.compile(r"step (\d+) loss (\S+) ")


def train(kind, env):
    """Seconds and CPU seconds (all threads) a step between the warm-up and the end; the losses."""
    command = [sys.executable, "-P", str(SCRIPT), "--steps", str(STEPS), "--print-every", "1"]
    if kind != "plain":
        command = [sys.executable, "-m", "vramtop", "run", "--", *command]
    app = [sys.executable, "-m", "vramtop", "--backend", "host", "--interval", "1"]
    losses, marks = [], []
    with Terminal(app, env) if kind == "run and viewer" else nullcontext() as viewer:
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if not (match := _LINE.match(line)):
                continue
            losses.append(match[2])
            if int(match[1]) in (WARM_UP, LAST):
                times = psutil.Process(process.pid).cpu_times()
                marks.append((time.perf_counter(), times.user + times.system))
            if viewer is not None:
                viewer.read_for(0.001)  # a terminal takes what is drawn
        process.wait()
    (began, cpu_before), (ended, cpu_after) = marks
    steps = LAST - WARM_UP
    return (ended - began) / steps, (cpu_after - cpu_before) / steps, losses


def quartiles(values):
    """Median and quartiles as one cell."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.4f} [{low:.3f}–{high:.3f}]"


def main():
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="vt-") as folder:
        env = {**os.environ, "VRAMTOP_RUNTIME_DIR": f"{folder}/run", "XDG_STATE_HOME": folder}
        rounds, curves = [], set()
        for number in range(ROUNDS):
            order = KINDS[number % 3 :] + KINDS[: number % 3]
            got = {kind: train(kind, env) for kind in order}
            curves |= {tuple(losses) for _, _, losses in got.values()}
            rounds.append(got)
    rows = []
    for kind in KINDS:
        wall, cpu = (
            quartiles([got[kind][which] / got["plain"][which] for got in rounds])
            for which in (0, 1)
        )
        step_s = statistics.median(got[kind][0] for got in rounds)
        rows.append((kind, f"{1000 * step_s:.1f}", wall, cpu))
    print_table(
        f"demo training, {ROUNDS} rounds of {LAST - WARM_UP} steps, ratios to plain of the same "
        f"round; different loss curves: {len(curves)}",
        ("kind", "step ms", "wall: median [quartiles]", "CPU: median [quartiles]"),
        rows,
    )
