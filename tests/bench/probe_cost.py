"""What the probe costs a training, watched once a second and not; beside it, what others cost.

``python -m tests.bench probe_cost [--models small-ops,deep] [--pairs 2000] [--device cuda]
[--quick]``. Steps with the probe's hooks and without are neighbours in one process, in an order by
chance (``cost_training.py`` says how, ``paired.py`` how a ratio comes of it): two processes, and
two seconds of one, differ by far more than the probe costs. "wall" and "CPU" (of the training's
thread) are the sum of the four columns after them, by wall time: steps that only hear hooks, the
shares of counts and of recorded steps, and all that the server's thread did. The last columns come
from pairs without hooks in either half: what they show beside 1 is the bench's own error.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.bench import rivals
from tests.bench.machine import ROOT, print_table
from tests.bench.paired import Estimate, ratio, share

AIMS = {"unwatched": 1.002, "watched": 1.01}
PAIRS = 2000
QUICK_PAIRS = 120
MODELS = ("small-ops", "deep", "wide", "gpt")
RIVAL_BLOCKS = 8
HEADS = (
    "model",
    "kind",
    "step ms",
    "wall",
    "CPU",
    "hooks",
    "+ counts",
    "+ recordings",
    "+ server",
    "every s",
    "bare wall",
    "bare CPU",
)


def watch(directory, pid):
    """A viewer at one sample a second, until the training ends."""
    (path,) = directory.glob(f"{pid}-*.sock")
    with socket.socket(socket.AF_UNIX) as viewer:
        viewer.connect(str(path))
        viewer.sendall(b'{"type":"subscribe","protocol":1,"period_s":1.0}\n')
        while viewer.recv(65536):
            pass


def measure(model, pairs, device):
    """One training process, first without a viewer, then with: what ``cost_training`` prints."""
    with tempfile.TemporaryDirectory(prefix="vt-", dir="/tmp") as directory:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.cost_training", model, str(pairs), device],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "VRAMTOP_RUNTIME_DIR": directory, "OMP_NUM_THREADS": "1"},
        )
        results = {}
        with process:
            process.stdout.readline()
            for kind in AIMS:
                if kind == "watched":
                    arguments = (Path(directory), process.pid)
                    threading.Thread(target=watch, args=arguments, daemon=True).start()
                process.stdin.write("\n")
                process.stdin.flush()
                results[kind] = json.loads(process.stdout.readline())
        return results


def periods(result):
    """How long the probe meant to wait after each recording, in seconds."""
    return [event[4] for event in result["events"] if event[4]]


def parts(result, which):
    """Of wall time (0) or CPU time (1): the ratio of steps that only hear hooks, events' shares."""
    pairs = [(with_it[which], without[which]) for with_it, without in result["pairs"]]
    counts, recordings = [], []
    for at, wall, cpu, steps, period_s in result["events"]:
        (recordings if period_s else counts).append((at, (wall, cpu)[which], steps))
    return (
        ratio(pairs),
        share(counts, pairs, result["seconds"]),
        share(recordings, pairs, sum(periods(result))),
    )


def bare(result, which):
    """The ratio of pairs that had no hooks in either half."""
    return ratio([(first[which], second[which]) for first, second in result["bare"]])


def probe_rows(model, pairs, device):
    """One model, watched and not: its rows, and a verdict on each aim."""
    rows, verdicts = [], []
    for kind, result in measure(model, pairs, device).items():
        aim = AIMS[kind]
        hooks, counts, recordings = parts(result, 0)
        # The server's thread runs beside steps without, too; at worst the training waits for it.
        server = Estimate(result["server_share"], 0.0)
        wall, cpu = (sum(parts(result, which), server) for which in (0, 1))
        step_s = statistics.median(without[0] for _, without in result["pairs"])
        rows.append(
            (
                model,
                kind,
                f"{1000 * step_s:.1f}",
                wall,
                cpu,
                hooks,
                counts,
                recordings,
                f"{server.value:.4f}",
                f"{statistics.mean(periods(result)):.1f}" if periods(result) else "",
                bare(result, 0),
                bare(result, 1),
            )
        )
        verdicts.append(
            f"{model}, {kind}, at most {aim}: wall {wall.verdict(aim)}, CPU {cpu.verdict(aim)}"
        )
    return rows, verdicts


def rival_rows(model, blocks, device):
    """One model with each of the other tools on every step."""
    return [
        (model, name, *(ratio([(on[which], off[which]) for on, off in pairs]) for which in (0, 1)))
        for name, pairs in rivals.measure(model, blocks, device).items()
    ]


def main(arguments=()):
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", help=f"with commas; there are {', '.join(MODELS)}")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs of steps a row")
    parser.add_argument("--quick", action="store_true", help="a minute: does everything work?")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(arguments)
    pairs, blocks = (QUICK_PAIRS, 3) if options.quick else (options.pairs, RIVAL_BLOCKS)
    models = options.models.split(",") if options.models else MODELS[: 2 if options.quick else None]
    load = os.getloadavg()[0]
    rows, verdicts, others = [], [], []
    for model in models:
        new_rows, new_verdicts = probe_rows(model, pairs, options.device)
        rows += new_rows
        verdicts += new_verdicts
        others += rival_rows(model, blocks, options.device)
    print_table(
        f"mean step with the probe / without, ±95 %, {pairs} pairs of steps, {options.device}, "
        f"load before it {load:.1f}",
        HEADS,
        rows,
    )
    print("", *verdicts, sep="\n")
    print_table(
        f"other tools on every step / without, ±95 %, {blocks} blocks",
        ("model", "tool", "wall", "CPU"),
        others,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
