"""Record trainings that leak and trainings that do not, as a viewer sees them.

``python -m tests.bench record_forecast [--seeds N] [--first SEED]`` runs each under `vramtop run`,
two at a time, and writes what a viewer knew of it at the end to tests/core/forecast_traces/, with
what the training itself saw of its memory between steps.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path

from tests.bench.machine import ROOT, print_table
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.memory import Breakdown

FOLDER = ROOT / "tests" / "core" / "forecast_traces"
SCRIPT = Path(__file__).with_name("forecast_training.py")
SECONDS = 30
FIELDS = [field.name for field in fields(Breakdown)]


def asked(kind, seed):
    """Arguments of one training and the viewer's period in seconds."""
    chance = random.Random(f"{kind} {seed}")
    leak = "none" if kind == "healthy" else ("validation", "retained", "plain")[seed % 3]
    arguments = {
        "leak": leak,
        "seconds": SECONDS,
        "batch": chance.choice([32, 64, 128, 256, 512]),
        "width": chance.choice([128, 256, 512, 768]),
        "depth": chance.choice([2, 4, 6]),
        "sleep-s": chance.choice([0.0, 0.01, 0.05, 0.2]),
        "validate-every": chance.choice([2, 5, 10]),
        "optimizer": chance.choice(["AdamW", "SGD"]),
    }
    return arguments, (0.25, 0.5, 1.0)[seed // 2 % 3]


def record(runs, late):
    """A trace of each (kind, seed), run at the same time; ``late``: the viewer comes at the end."""
    from vramtop.sources.collector import Collector

    with tempfile.TemporaryDirectory(prefix="vt-") as folder:
        os.environ["VRAMTOP_RUNTIME_DIR"] = folder
        period_s = asked(*runs[0])[1]
        started = []
        for kind, seed in runs:
            words = [f"--{k}={v}" for k, v in asked(kind, seed)[0].items()]
            command = [sys.executable, "-m", "vramtop", "run", "--", sys.executable]
            command += [str(SCRIPT), *words]
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        if late:
            time.sleep(SECONDS)
        fleet, last = Fleet(), {}

        def deliver(snapshot):
            nonlocal fleet
            fleet = reduce(fleet, snapshot)
            watched = [p.pid for p in snapshot.processes if p.probe.state == "streaming"]
            last.update(dict.fromkeys(watched, fleet))

        collector = Collector("host", period_s)
        collector.start(deliver)
        told = [json.loads(process.communicate()[0]) for process in started]
        collector.stop()
    return [
        trace(kind, seed, last[process.pid], process.pid, held)
        for (kind, seed), process, held in zip(runs, started, told, strict=True)
    ]


def trace(kind, seed, fleet, pid, held):
    """What is kept of one run; columns, since most of them hardly change."""
    key = next(key for key in fleet.histories if key[0][0] == pid and key[1] == "cpu")
    points = list(fleet.histories[key])
    columns = {name: [getattr(p.breakdown, name) for p in points] for name in FIELDS}
    return {
        "name": f"{kind}-{seed:02d}",
        "arguments": asked(kind, seed)[0],
        "at": [round(p.at - points[0].at, 3) for p in points],
        "step": [p.step for p in points],
        **{name: column for name, column in columns.items() if any(column)},
        "swing_bytes": swing_bytes(fleet, key),
        "held": [[round(at - points[0].at, 3), step, held_bytes] for at, step, held_bytes in held],
    }


def swing_bytes(fleet, key):
    """What tensors rise and fall within a step, by the last step sampled in detail."""
    process = fleet.process(key[0])
    detail = next(part.detail for part in process.probe.devices if part.device == key[1])
    if detail is None or detail.peak is None:
        return None
    return detail.peak.total_bytes - min(phase.before_bytes for phase in detail.phases)


def main(options=()):
    """Record and print what there is."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench record_forecast")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args(options)
    FOLDER.mkdir(exist_ok=True)
    rows = []
    for seed in range(args.first, args.first + args.seeds):
        pair = [("healthy", seed), ("leaking", seed)]
        for found in record(pair, late=seed % 5 == 4):
            path = FOLDER / f"{found['name']}.json.gz"
            text = json.dumps(found, separators=(",", ":")).encode()
            path.write_bytes(gzip.compress(text, 9, mtime=0))
            (first_at, _, before), (last_at, last, after) = (
                found["held"][len(found["held"]) // 3],
                found["held"][-1],
            )
            rate = (after - before) / (last_at - first_at) / 1e6
            rows.append(
                (
                    found["name"],
                    str(len(found["at"])),
                    str(last),
                    f"{rate:.2f}",
                    path.stat().st_size,
                )
            )
            print(*rows[-1], flush=True)
    print_table("recorded", ("trace", "points", "steps", "MB/s held", "bytes"), rows)
