"""``python -m tests.recordings``: records the demo training on the CPU as demo.vramtop.

From before torch is imported until after the training has ended, its process alone: other
processes of the machine are nobody's business.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.conftest import read_recording
from vramtop.cli.demo import Training
from vramtop.sources.collector import Collector
from vramtop.sources.recording.writer import Writer

FILE = Path(__file__).with_name("demo.vramtop")
PERIOD_S = 0.5
STEPS = 14
AFTER_S = 1.5
LIMIT_BYTES = 60_000


def main():
    """Record, and say how much it is."""
    FILE.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"VRAMTOP_RUNTIME_DIR": f"{folder}/run", "CUDA_VISIBLE_DEVICES": ""}
        seen = []
        collector = Collector("host", PERIOD_S)
        with Training() as training:
            collector.start(seen.append)
            while not any(
                p.pid == training.pid and (p.probe.step or 0) >= STEPS for p in last(seen)
            ):
                training.check()
                time.sleep(PERIOD_S)
        time.sleep(AFTER_S)
        collector.stop()
    kept = [
        replace(s, processes=tuple(p for p in s.processes if p.pid == training.pid)) for s in seen
    ]
    with Writer(FILE) as writer:
        for snapshot in kept:
            writer.write(snapshot)
    if read_recording(FILE) != (kept, ""):
        sys.exit("what is read is not what was written")
    size = FILE.stat().st_size
    print(f"{FILE}: {writer.count} snapshots, {size} bytes")
    if size > LIMIT_BYTES:
        sys.exit("too large for a repository")


def last(seen):
    """Processes of the newest snapshot."""
    return seen[-1].processes if seen else ()


if __name__ == "__main__":
    main()
