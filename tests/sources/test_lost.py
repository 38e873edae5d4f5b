"""Processes that end without a word, and the post-mortem that their viewers write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.inject.conftest import (  # noqa: F401  fixtures
    make_environment,
    start,
    tiny_training,
)
from tests.sources.test_probes import DETAIL, HELLO, SAMPLE, directory  # noqa: F401  fixtures
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.model import Device, DeviceMemory, DeviceUse, Host, Probe, Process, Snapshot
from vramtop.core.postmortem_story import story
from vramtop.protocol.postmortem import SUFFIX
from vramtop.sources import kernel, postmortem, signals
from vramtop.sources.collector import Collector
from vramtop.sources.probes import ProbeClients

PROBE = """
import os, socket, sys
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
listener = socket.socket(socket.AF_UNIX)
path = f"{sys.argv[1]}/{os.getpid()}-{fields[19]}.sock"
listener.bind(path)
listener.listen()
print(path, flush=True)
peers = []
for _ in range(int(sys.argv[3])):
    peer, _ = listener.accept()
    peer.recv(999)
    peer.sendall(sys.argv[2].encode())
    peers.append(peer)
for line in sys.stdin:
    exec(line)
"""
"""A process with a probe made by hand: it says its lines to so many viewers, then does as told."""


@pytest.fixture
def probe(directory):  # noqa: F811
    running = []

    def probe(*messages, viewers=1):
        lines = "".join(json.dumps(message) + "\n" for message in messages)
        command = [sys.executable, "-c", PROBE, str(directory), lines, str(viewers)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        )
        running.append(process)
        process.stdout.readline()
        return process

    yield probe
    for process in running:
        process.kill()
        process.communicate()


def now(clients, pid, condition, timeout_s=10.0):
    """The probe once the condition holds, as its viewer reads it."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = clients.read()[0].get(pid)
        if found is not None and condition(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def files(directory):  # noqa: F811
    return list(directory.glob(f"*{SUFFIX}"))


def do(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()


def test_killed_it_is_gone_and_its_last_state_is_written(probe, directory):  # noqa: F811
    second = {**SAMPLE, "at": 3.0, "step": 5}
    process = probe(HELLO, SAMPLE, DETAIL, second)
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.step == 5)
    process.kill()  # not waited for: it stays a zombie, whose end can be seen
    found = now(clients, process.pid, lambda found: found.failure)
    assert (found.state, found.ended, found.failure.kind) == ("gone", "lost", "lost")
    assert found.failure.message == "SIGKILL ended it"
    (path,) = files(directory)
    assert found.failure.file == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    read = postmortem.read(path)
    assert (read.written_by, read.process.pid, read.failure) == (
        "viewer",
        process.pid,
        found.failure,
    )
    (device,) = read.process.probe.devices
    assert device.breakdown.optimizer_state_bytes == 200
    assert device.detail.step == 3
    points = read.process.probe.history["cpu"]
    assert [(point.at, point.step) for point in points] == [(1.0, 3), (3.0, 5)]


def test_several_viewers_write_one_file(probe, directory):  # noqa: F811
    process = probe(HELLO, SAMPLE, viewers=2)
    several = [ProbeClients(1), ProbeClients(1)]
    for clients in several:
        clients.read()
    for clients in several:
        now(clients, process.pid, lambda found: found.step)
    process.kill()
    process.wait()
    told = [now(clients, process.pid, lambda found: found.failure) for clients in several]
    (path,) = files(directory)
    assert {found.failure.file for found in told} == {str(path)}
    assert not list(directory.glob(".*"))


def test_asked_to_end_it_leaves_nothing(probe, directory):  # noqa: F811
    process = probe(HELLO, SAMPLE)
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.step)
    process.send_signal(signal.SIGTERM)
    found = now(clients, process.pid, lambda found: found.state == "gone")
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and clients.lost._waiting:
        clients.read()
    assert (found.ended, files(directory)) == ("lost", [])


def test_killed_by_a_key_of_this_viewer_it_leaves_nothing(probe, directory):  # noqa: F811
    process = probe(HELLO, SAMPLE)
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.step)
    signals.send(process.pid, psutil.Process(process.pid).create_time(), signal.SIGKILL)
    found = now(clients, process.pid, lambda found: found.state == "gone")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and clients.lost._waiting:
        found = clients.read()[0][process.pid]
    assert (found.ended, found.failure, files(directory)) == ("lost", None, [])


def test_ended_in_order_it_leaves_nothing(probe, directory):  # noqa: F811
    process = probe(HELLO, SAMPLE, {"type": "bye", "why": "exit"})
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.step)
    do(process, "sys.exit()")
    found = now(clients, process.pid, lambda found: found.state == "gone")
    assert (found.ended, found.failure) == ("exit", None)
    assert files(directory) == []


def test_a_process_that_lives_on_is_not_lost(probe, directory, monkeypatch):  # noqa: F811
    monkeypatch.setattr("vramtop.sources.lost._PATIENCE_S", 0.2)
    process = probe(HELLO, SAMPLE)
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.step)
    do(process, "[peer.close() for peer in peers]; listener.close(); os.unlink(path)")
    found = now(clients, process.pid, lambda found: found.state == "gone" and not found.ended)
    assert (found.failure, files(directory)) == (None, [])


def test_what_the_process_wrote_itself_stands(probe, directory):  # noqa: F811
    process = probe(HELLO, SAMPLE)
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.step)
    (socket,) = directory.glob("*.sock")
    contents = {
        "schema": "vramtop.postmortem/1",
        "written_at": 4.0,
        "written_by": "probe",
        "pid": process.pid,
        "failure": {"type": "oom", "at": 4.0, "requested_bytes": 77, "caught": False},
    }
    own = directory / f"{socket.stem}-0{SUFFIX}"
    own.write_text(json.dumps(contents))
    process.kill()
    found = now(clients, process.pid, lambda found: found.failure)
    assert (found.failure.kind, found.failure.requested_bytes) == ("oom", 77)
    assert json.loads(own.read_text()) == contents


def test_what_it_wrote_of_a_thread_that_it_has_outlived_is_not_its_end(probe, directory):  # noqa: F811
    """Steps after a thread's failed allocation, a kill that ends it: two stories."""
    process = probe(HELLO, {**SAMPLE, "at": 9.0, "step": 50}, viewers=2)
    several = [ProbeClients(1), ProbeClients(1)]
    for clients in several:
        clients.read()
    for clients in several:
        now(clients, process.pid, lambda found: found.step)
    (socket,) = directory.glob("*.sock")
    oom = {"type": "oom", "at": 4.0, "step": 3, "caught": False}
    first = {"schema": "vramtop.postmortem/1", "written_at": 4.0, "pid": process.pid}
    own = directory / f"{socket.stem}-9{SUFFIX}"
    own.write_text(json.dumps({**first, "failure": oom}))
    process.kill()
    for clients in several:
        found = now(clients, process.pid, lambda found: found.failure)
        assert (found.failure.kind, found.failure.step) == ("lost", 50)
        assert found.failure.file == str(directory / f"{socket.stem}-10{SUFFIX}")
        assert postmortem.read(Path(found.failure.file)).failure == found.failure
    assert postmortem.read(own).failure.kind == "oom"


def test_the_machine_is_written_down(probe, directory):  # noqa: F811
    process = probe(HELLO, SAMPLE)
    seen = []
    collector = Collector("host", 0.1)
    collector.start(seen.append)
    try:
        deadline = time.monotonic() + 20

        def last():
            rows = seen[-1].processes if seen else ()
            return next((row for row in rows if row.pid == process.pid), None)

        while not (last() and last().probe.step):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        resident = last().host_rss_bytes
        process.kill()
        while not (last() and last().probe.failure):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        collector.stop()
    read = postmortem.read(files(directory)[0])
    host = read.snapshot.host
    assert host.hostname == os.uname().nodename
    assert host.ram_total_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < host.ram_used_bytes < host.ram_total_bytes
    assert read.process.host_rss_bytes == pytest.approx(resident, rel=0.5)
    assert read.process.command.startswith(sys.executable)
    (use,) = read.process.devices
    assert use.used_bytes == read.process.host_rss_bytes
    assert read.snapshot.devices[0].backend == "host"
    (device,) = read.process.probe.devices
    assert device.breakdown.process_bytes == read.process.host_rss_bytes


def test_what_the_process_wrote_gets_the_machine(probe, directory):  # noqa: F811
    oom = {"type": "oom", "at": 4.0, "requested_bytes": 77, "caught": False, "module": "h.0"}
    process = probe(HELLO, SAMPLE, oom, {"type": "bye", "why": "exit"})
    (socket,) = directory.glob("*.sock")
    contents = {
        "schema": "vramtop.postmortem/1",
        "written_at": 4.0,
        "written_by": "probe",
        "pid": process.pid,
        "failure": oom,
        "messages": [HELLO, SAMPLE],
        "host": None,
    }
    own = directory / f"{socket.stem}-0{SUFFIX}"
    own.write_text(json.dumps(contents))
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.failure)
    device = Device(0, "host", "host RAM", "host", DeviceMemory(9, 8, 1))
    row = Process(process.pid, 1.0, user="me", devices=(DeviceUse("host", 5, "H"),))
    row = replace(row, probe=Probe(state="streaming"))
    clients.lost.see(Snapshot(1.0, Host("node1", 9, 8), (device,), (row,)))
    do(process, "sys.exit()")
    found = now(clients, process.pid, lambda found: found.state == "gone")
    assert (found.ended, found.failure.requested_bytes) == ("exit", 77)
    read = postmortem.read(own)
    assert read.snapshot.host == Host("node1", 9, 8)
    assert read.snapshot.devices == (device,)
    assert (read.process.user, read.process.devices[0].used_bytes) == ("me", 5)
    assert (read.written_by, read.failure.module) == ("probe", "h.0")


def test_the_kernels_killer_is_named_where_it_has_struck(probe, directory, monkeypatch):  # noqa: F811
    process = probe(HELLO, SAMPLE)
    clients = ProbeClients(1)
    monkeypatch.setattr(kernel, "oom_kills", lambda: 3)
    now(clients, process.pid, lambda found: found.step)
    monkeypatch.setattr(kernel, "oom_kills", lambda: 4)
    process.kill()
    process.wait()
    found = now(clients, process.pid, lambda found: found.failure)
    struck = "the kernel's OOM killer has struck meanwhile (oom_kill 3 → 4)"
    assert found.failure.message.startswith(struck) or struck in found.failure.message


STARTING = {"type": "sample", "at": 1.0, "step": None, "devices": [], "detail": "pending"}
"""What a probe says before the first step."""


def test_killed_before_its_first_step(probe, directory):  # noqa: F811
    process = probe(HELLO, STARTING)
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.at)
    row = Process(process.pid, 1.0, host_rss_bytes=3 << 30, probe=Probe(state="waiting"))
    clients.lost.see(Snapshot(1.0, Host("node1", 9 << 30, 8), (), (row,)))
    process.kill()  # not waited for: its end can be seen
    found = now(clients, process.pid, lambda found: found.failure)
    assert (found.failure.step, found.failure.message) == (None, "SIGKILL ended it")
    read = postmortem.read(files(directory)[0])
    assert read.process.host_rss_bytes == 3 << 30
    assert read.process.probe.devices == ()
    told = story(reduce(Fleet(), read.snapshot), read.process)
    assert told.sentence == "gone before the first step; SIGKILL ended it"
    assert told.facts[0] == ("this process", "3.00 GiB of the host's RAM, as last seen")


@pytest.mark.parametrize("ending", ["SIGTERM", "exit", "unknown"])
def test_an_end_before_the_first_step_that_may_be_in_order(probe, directory, ending):  # noqa: F811
    process = probe(HELLO, STARTING)
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.at)
    if ending == "SIGTERM":
        process.terminate()
    elif ending == "exit":
        do(process, "os._exit(3)")
    else:
        process.kill()
        process.wait()  # only who waits is told
    now(clients, process.pid, lambda found: found.state == "gone")
    deadline = time.monotonic() + 10
    while clients.lost._waiting:
        assert time.monotonic() < deadline
        clients.read()
    found = clients.read()[0][process.pid]
    assert (found.ended, found.failure, files(directory)) == ("lost", None, [])


def test_killed_before_its_first_step_by_the_kernel(probe, directory, monkeypatch):  # noqa: F811
    process = probe(HELLO, STARTING)
    clients = ProbeClients(1)
    monkeypatch.setattr(kernel, "oom_kills", lambda: 3)
    now(clients, process.pid, lambda found: found.at)
    monkeypatch.setattr(kernel, "oom_kills", lambda: 4)
    process.kill()
    process.wait()
    found = now(clients, process.pid, lambda found: found.failure)
    struck = "the kernel's OOM killer has struck meanwhile (oom_kill 3 → 4)"
    assert struck in found.failure.message
    assert len(files(directory)) == 1


@pytest.mark.parametrize("rss_bytes", [0, None])
def test_what_is_read_of_a_dying_process_replaces_nothing(probe, directory, rss_bytes):  # noqa: F811
    samples = [{**SAMPLE, "at": float(at), "step": at} for at in range(100, 104)]
    process = probe(HELLO, *samples)
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.step == 103)
    host = Host("node1", 9, 8)
    gpu = Device(0, "GPU-0", "a GPU", "nvml", DeviceMemory(9000, 8000, 1000))
    row = Process(
        process.pid,
        1.0,
        command="python train.py",
        devices=(DeviceUse("GPU-0", 7000, "C"),),
        host_rss_bytes=50_000,
        probe=Probe(state="streaming"),
    )
    for at in range(101, 104):
        alive = replace(row, host_rss_bytes=50_000 + at)
        clients.lost.see(Snapshot(at + 0.3, host, (gpu,), (alive,), period_s=0.5))
    dying = replace(row, state="gone", command="[python]", devices=(), host_rss_bytes=rss_bytes)
    for at in range(104, 107):
        clients.lost.see(Snapshot(at + 0.3, host, (gpu,), (dying,), period_s=0.5))
    process.kill()
    now(clients, process.pid, lambda found: found.failure)
    read = postmortem.read(files(directory)[0])
    assert (read.process.command, read.process.host_rss_bytes) == ("python train.py", 50_103)
    assert read.process.devices == row.devices
    assert [(found.uuid, found.memory) for found in read.snapshot.devices] == [
        ("GPU-0", gpu.memory)
    ]
    points = read.process.probe.history["cpu"]
    assert [(point.at, point.breakdown.process_bytes) for point in points] == [
        (100.0, 50_101),
        (101.0, 50_101),
        (102.0, 50_102),
        (103.0, 50_103),
    ]
    assert all(point.breakdown.outside_allocator_bytes for point in points)


def test_a_process_of_the_same_number_has_figures_of_its_own(probe, directory):  # noqa: F811
    process = probe(HELLO, SAMPLE)
    clients = ProbeClients(1)
    now(clients, process.pid, lambda found: found.step)
    host, watched = Host("node1", 9, 8), Probe(state="streaming")
    earlier = Process(process.pid, 1.0, command="a", host_rss_bytes=7000, probe=watched)
    later = Process(process.pid, 2.0, command="b", host_rss_bytes=None, probe=watched)
    for at, row in ((0.5, earlier), (1.0, later)):
        clients.lost.see(Snapshot(at, host, (), (row,)))
    process.kill()
    now(clients, process.pid, lambda found: found.failure)
    read = postmortem.read(files(directory)[0])
    assert (read.process.command, read.process.host_rss_bytes) == ("b", None)
    assert [p.breakdown.process_bytes for p in read.process.probe.history["cpu"]] == [None]


def test_what_the_kernel_says_is_what_it_says():
    counts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    assert kernel.oom_kills() == (int(counts["oom_kill"]) if "oom_kill" in counts else None)
    child = subprocess.Popen(["sleep", "100"])
    ticks = kernel.start_ticks(child.pid)
    assert kernel.is_running(child.pid, ticks)
    assert not kernel.is_running(child.pid, ticks + 1)  # another process of the same number
    child.kill()
    deadline = time.monotonic() + 10
    while kernel.is_running(child.pid, ticks):
        assert time.monotonic() < deadline
    assert kernel.ending_signal(child.pid) == signal.SIGKILL
    child.wait()
    assert kernel.start_ticks(child.pid) is None


def test_a_count_that_cannot_be_read_is_none(tmp_path):
    assert kernel.oom_kills_in(tmp_path) is None
    (tmp_path / "memory.events").mkdir()  # opens, and cannot be read: as of a cgroup that is gone
    assert kernel.oom_kills_in(tmp_path) is None


def test_a_real_training_that_is_killed(directory, start, tiny_training, make_environment):  # noqa: F811
    command = tiny_training("--at-least", 100_000, "--at-most", 100_000, "--sleep-s", 0.005)
    process = start(command, env=make_environment(directory), stderr=subprocess.DEVNULL)
    try:
        clients = ProbeClients(0.1)
        now(clients, process.pid, lambda found: found.detail == "ready", timeout_s=120)
        last = now(clients, process.pid, lambda found: found.devices and found.devices[0].detail)
        process.kill()
        found = now(clients, process.pid, lambda found: found.failure)
        assert (found.state, found.ended, found.failure.kind) == ("gone", "lost", "lost")
        assert found.failure.step >= last.step
        read = postmortem.read(files(directory)[0])
        (device,) = read.process.probe.devices
        assert device.breakdown.parameter_bytes == (64 * 128 + 128 + 128 * 10 + 10) * 4
        assert device.detail == found.devices[0].detail
        assert device.detail.peak is not None
        assert read.process.probe.models[0].class_name == "Sequential"
        points = read.process.probe.history["cpu"]
        assert points
        assert points[-1].breakdown.parameter_bytes == device.breakdown.parameter_bytes
    finally:
        process.kill()
        process.communicate()
