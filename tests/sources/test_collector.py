"""The join of the driver's, /proc's and the probe's view, on a backend made up here."""

import itertools
import os
import threading
import time

import pytest

from vramtop.core.memory import Breakdown
from vramtop.core.model import (
    AllocatorStats,
    Device,
    DeviceMemory,
    DeviceUse,
    Probe,
    ProbeDevice,
    Problem,
)
from vramtop.errors import BackendUnavailable
from vramtop.sources import collector
from vramtop.sources.base import DeviceReading
from vramtop.sources.collector import Collector

ME = os.getpid()


class OneGpu:
    """A backend with one GPU on which this very process holds 900 bytes."""

    name = "nvml"

    def __init__(self, used_bytes=900, uuid="GPU-1"):
        memory = DeviceMemory(1000, 950, 50)
        self.reading = DeviceReading(
            (Device(0, uuid, "test", "nvml", memory),), {ME: (DeviceUse(uuid, used_bytes, "C"),)}
        )
        self.closed = False

    def read(self):
        return self.reading

    def close(self):
        self.closed = True


def cuda_probe(uuid="GPU-1", reserved=700):
    allocator = AllocatorStats(600, reserved, 600, None, None, 650, 700, 3, 0, 0)
    breakdown = Breakdown(100, 100, 200, cached_bytes=100, fragmentation_bytes=0)
    return Probe("streaming", devices=(ProbeDevice("cuda:0", uuid, allocator, breakdown),))


@pytest.fixture
def read(monkeypatch, tmp_path):
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(collector, "_ONE_SHOT_CPU_S", 0.0)

    def read(backend, probes=None):
        source = Collector("auto")
        source._backend = backend
        source._clients.close()
        source._clients.read = lambda: (probes or {}, ())
        return source.read_once()

    return read


def breakdown_of(snapshot):
    (process,) = [p for p in snapshot.processes if p.pid == ME]
    return process.probe.devices[0].breakdown


def test_outside_the_allocator_is_the_drivers_figure_less_reserved(read):
    breakdown = breakdown_of(read(OneGpu(), {ME: cuda_probe()}))
    assert breakdown.process_bytes == 900
    assert breakdown.outside_allocator_bytes == 200
    assert breakdown.unknown_bytes == 200  # allocated beyond what the probe could name


def test_a_process_that_outgrew_the_drivers_figure_is_unknown_not_negative(read):
    breakdown = breakdown_of(read(OneGpu(used_bytes=500), {ME: cuda_probe()}))
    assert breakdown.outside_allocator_bytes is None


def test_where_the_driver_does_not_know_nobody_does(read):
    breakdown = breakdown_of(read(OneGpu(used_bytes=None), {ME: cuda_probe()}))
    assert breakdown.process_bytes is None
    assert breakdown.outside_allocator_bytes is None


def test_the_figure_of_another_device_is_not_taken(read):
    breakdown = breakdown_of(read(OneGpu(), {ME: cuda_probe(uuid="GPU-2")}))
    assert breakdown.process_bytes is None


def test_on_the_cpu_the_process_figure_is_the_rss(read):
    probe = Probe("streaming", devices=(ProbeDevice("cpu", None, None, Breakdown(100, 50, 200)),))
    breakdown = breakdown_of(read(OneGpu(), {ME: probe}))
    assert breakdown.process_bytes > 10 << 20  # this interpreter
    assert breakdown.outside_allocator_bytes == breakdown.process_bytes - 350


def test_a_probe_without_a_device_has_its_row(read):
    backend = OneGpu()
    backend.reading = DeviceReading(backend.reading.devices)
    (process,) = read(backend, {ME: cuda_probe()}).processes
    assert process.pid == ME
    assert process.devices == ()
    assert process.command


def test_a_failing_backend_is_a_problem_and_the_next_tick_recovers(monkeypatch, tmp_path):
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "none"))
    backend = OneGpu()
    answers = [RuntimeError("the driver fell over"), backend.reading, backend.reading]

    def read():
        answer = answers.pop(0) if answers else backend.reading
        if isinstance(answer, Exception):
            raise answer
        return answer

    backend.read = read
    source, seen, enough = Collector("auto", period_s=0.05), [], threading.Event()
    source._backend = backend

    def deliver(snapshot):
        seen.append(snapshot)
        if len(seen) == 3:
            enough.set()

    source.start(deliver)
    assert enough.wait(5)
    source.stop()
    assert seen[0].problems == (Problem("collector", "RuntimeError: the driver fell over"),)
    assert seen[1].devices == backend.reading.devices
    assert backend.closed


def test_missed_ticks_are_skipped_not_made_up_for(monkeypatch, tmp_path):
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "none"))
    backend, times, enough = OneGpu(), [], threading.Event()
    source = Collector("auto", period_s=0.1)
    source._backend = backend

    def deliver(_):
        times.append(time.monotonic())
        if len(times) == 1:
            time.sleep(0.35)
        if len(times) == 5:
            enough.set()

    source.start(deliver)
    assert enough.wait(5)
    source.stop()
    gaps = [b - a for a, b in itertools.pairwise(times[1:])]
    assert min(gaps) > 0.05


def test_auto_says_why_it_shows_the_host(monkeypatch):
    def unavailable():
        raise BackendUnavailable("no NVIDIA driver library")

    monkeypatch.setattr("vramtop.sources.nvml.NvmlBackend", unavailable)
    backend, (problem,) = collector.open_backend("auto")
    assert backend.name == "host"
    assert problem.message == "no NVIDIA driver library; showing the host"
    with pytest.raises(BackendUnavailable):
        collector.open_backend("nvml")
