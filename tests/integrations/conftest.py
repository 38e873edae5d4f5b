"""Trainings of other libraries, watched by the viewer's own client until all of it was seen."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from vramtop.sources.probes import ProbeClients

ROOT = Path(__file__).parents[2]
LIMIT_S = 120


@dataclass
class Seen:
    """What a training has printed, and what its probes have said last."""

    out: str
    probes: dict
    """By rank, None for a training that has none."""

    @property
    def losses(self):
        return sorted(line for line in self.out.splitlines() if line.startswith("loss "))


def is_explained(probe):
    """A step was recorded in detail and the categories are known."""
    return bool(probe.models and probe.optimizers) and any(
        part.detail and part.detail.peak and part.breakdown.activation_bytes is not None
        for part in probe.devices
    )


@pytest.fixture
def start(tmp_path, monkeypatch):
    """``start(arguments)``: Python with these, its probe's socket in a folder of the test's."""
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    running = []

    def start(arguments):
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()  # launchers then end their ranks, which have sessions of their own
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def watch():
    """``watch(process)``: what its probes say, by rank, as soon as all of it is known."""

    def watch(process, ranks=1, until=is_explained):
        clients = ProbeClients(0.1)
        deadline = time.monotonic() + LIMIT_S
        try:
            while True:
                found = {probe.rank: probe for probe in clients.read()[0].values()}
                if len(found) == ranks and all(until(probe) for probe in found.values()):
                    return found
                assert process.poll() is None, process.communicate()[1].decode()[-3000:]
                assert time.monotonic() < deadline, f"not explained: {found}"
                time.sleep(0.05)
        finally:
            clients.close()

    return watch


@pytest.fixture
def trained(tmp_path, start, watch):
    """``trained(command, …)``: the same training plainly and with its callback, at once.

    ``command(stop, *words)`` makes the command; the training goes on until ``stop`` exists. Gives
    the plain run and the other one.
    """

    def ended(process):
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err.decode()[-3000:]
        return out.decode()

    def trained(command, *words, **asked):
        folders = [tmp_path / name for name in ("plain", "told")]
        for folder in folders:
            folder.mkdir(exist_ok=True)
        stops = [folder / "stop" for folder in folders]
        stops[0].touch()
        stops[1].unlink(missing_ok=True)
        plain = start(command(stops[0], *words))
        told = start(command(stops[1], "callback", *words))
        found = watch(told, **asked)
        stops[1].touch()
        return Seen(ended(plain), {}), Seen(ended(told), found)

    return trained


@pytest.fixture
def script():
    """``script(name)``: the command of a training beside this file, as ``trained`` wants it."""
    folder = Path(__file__).parent

    def script(name, *arguments, launcher=()):
        return lambda stop, *words: [*launcher, folder / name, stop, *arguments, *words]

    return script


@pytest.fixture
def has_stages():
    """``has_stages(*paths)``: besides being explained, these stages have ended."""

    def has_stages(*paths):
        return lambda probe: (
            is_explained(probe)
            and set(paths) <= {stage.path for part in probe.devices for stage in part.stages}
        )

    return has_stages
