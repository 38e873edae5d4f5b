"""A training started under ``vramtop run`` and watched until a step was sampled in detail."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from vramtop.core.breakdowns import breakdown_of, detail_of
from vramtop.core.fleet import Fleet, reduce
from vramtop.sources.collector import Collector

ROOT = Path(__file__).parents[2]
_PERIOD_S = 0.25


def watched(command, folder, *, device="cpu", batches=1, patience_s=180.0):
    """The fleet once steps of so many batch sizes were sampled, and the training's process.

    ``command``: what follows the interpreter. ``folder``: a short path of the caller's, where the
    probe's socket goes.
    """
    places = {"VRAMTOP_RUNTIME_DIR": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)  # the collector looks there, too
    fleet, found = Fleet(), None
    is_enough = threading.Event()

    def deliver(snapshot):
        nonlocal fleet, found
        fleet = reduce(fleet, snapshot)
        for process in snapshot.processes:
            detail, now = detail_of(process, device), breakdown_of(process, device)
            if detail is not None and detail.peak is not None and now is not None:
                seen = fleet.observed.get((process.key, device), ())
                # A breakdown of the same boundary as the sampled step comes with the next sample.
                if len(seen) >= batches and now.activation_bytes is not None:
                    found = process
                    is_enough.set()

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    training = subprocess.Popen(
        [sys.executable, "-m", "vramtop", "run", "--", sys.executable, *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    collector = Collector("host", _PERIOD_S)
    collector.start(deliver)
    try:
        while not is_enough.wait(0.1):
            patience_s -= 0.1
            if training.poll() is not None or patience_s < 0:
                training.kill()
                words = training.stderr.read().decode(errors="replace")
                raise AssertionError(f"no step was sampled: {words[-2000:]}")
    finally:
        collector.stop()
        training.kill()
        training.wait()
        training.stderr.close()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
    return fleet, found
