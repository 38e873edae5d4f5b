"""What a recording costs: bytes and CPU time for each snapshot, written and read."""

import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

from tests.bench.machine import print_table
from vramtop.sources.fake import snapshots
from vramtop.sources.recording.reader import Reader
from vramtop.sources.recording.writer import Writer

COUNT = 120
DEMO = Path(__file__).parents[1] / "recordings" / "demo.vramtop"


def read(path):
    """Snapshots of a recording, and milliseconds of CPU time for each."""
    reader = Reader(path)
    found, took = [], []
    while True:
        began = time.thread_time()
        snapshot = reader.next()
        took.append(1000 * (time.thread_time() - began))
        if snapshot is None:
            reader.close()
            return found, took[:-1]
        found.append(snapshot)


def measure(name, given, folder):
    """One row: the first snapshot, which has the past, apart from the others."""
    path = folder / f"{name}.vramtop"
    sizes, took = [], []
    with Writer(path) as writer:
        for snapshot in given:
            before, began = writer.written_bytes, time.thread_time()
            writer.write(snapshot)
            took.append(1000 * (time.thread_time() - began))
            sizes.append(writer.written_bytes - before)
    _, read_ms = read(path)
    per_hour = statistics.mean(sizes[1:]) * 3600 / 2**20
    return (
        name,
        max(len(snapshot.processes) for snapshot in given),
        len(given),
        f"{sizes[0] / 1024:.1f}",
        f"{statistics.mean(sizes[1:]) / 1024:.2f}",
        f"{per_hour:.1f}",
        f"{statistics.median(took[1:]):.2f}",
        f"{statistics.median(read_ms[1:]):.2f}",
    )


def main():
    """Print the table."""
    cases = {
        "demo on the CPU (real)": read(DEMO)[0],
        "made up: nogpu": [*islice(snapshots("nogpu"), COUNT)],
        "made up: training": [*islice(snapshots("training"), COUNT)],
        "made up: fleet": [*islice(snapshots("fleet"), COUNT)],
    }
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, given, Path(folder)) for name, given in cases.items()]
    heads = (
        *("recorded", "processes", "snapshots", "KiB, first", "KiB each"),
        *("MiB an hour at 1 Hz", "write, CPU ms", "read, CPU ms"),
    )
    print_table(
        "a recording, for each snapshot after the first (bytes mean, time median)", heads, rows
    )
