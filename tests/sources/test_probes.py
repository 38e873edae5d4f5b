"""The socket client against servers written here by hand, from the protocol's text alone."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from vramtop.sources.probes import ProbeClients

SAMPLE = {
    "type": "sample",
    "at": 1.0,
    "step": 3,
    "steps_per_s": 2.5,
    "overhead_percent": 0.1,
    "dropped": 0,
    "devices": [
        {
            "device": "cpu",
            "uuid": None,
            "allocator": None,
            "breakdown": {
                "parameter_bytes": 100,
                "gradient_bytes": 50,
                "optimizer_state_bytes": 200,
                "buffer_bytes": 4,
                "activation_bytes": None,
                "input_bytes": None,
                "temporary_bytes": None,
                "autograd_detail_bytes": None,
                "unknown_bytes": None,
                "cached_bytes": None,
                "fragmentation_bytes": None,
            },
        }
    ],
}
TENSORS = {
    "parameter_bytes": 100,
    "gradient_bytes": 0,
    "optimizer_state_bytes": 200,
    "activation_bytes": 30,
    "unknown_bytes": 0,
    "recomputed_bytes": 2,
}
DETAIL = {
    "type": "detail",
    "device": "cpu",
    "at": 1.5,
    "step": 3,
    "phases": [
        {
            "name": "forward",
            "before_bytes": 300,
            "after_bytes": 330,
            "peak_bytes": 340,
            "count": 4,
            "after": TENSORS,
        },
        {"name": "backward", "before_bytes": 330, "after_bytes": 350, "peak_bytes": None},
    ],
    "peak": {"phase": "backward", "module": "h.0", "total_bytes": 360, "breakdown": TENSORS},
    "modules": [["h.0", "Block", 20, 60], ["", "GPT", 10, 40]],
    "notes": ["layers in a compiled region"],
}
SEGMENTS = {
    "type": "segments",
    "device": "cpu",
    "at": 1.5,
    "omitted_segments": 2,
    "omitted_bytes": 5,
    "segments": [
        {
            "total_bytes": 2048,
            "pool": "small",
            "stream": 0,
            "expandable": False,
            "blocks": [
                [512, "allocated", "parameter"],
                [1024, "free", None],
                [512, "pending", None],
            ],
        }
    ],
}
STAGES = {
    "type": "stages",
    "stages": [
        {
            "device": "cpu",
            "path": "epoch / load",
            "calls": 7,
            "before_bytes": 1,
            "after_bytes": 2,
            "peak_bytes": None,
            "seconds": 0.5,
        }
    ],
}
HELLO = {"type": "hello", "protocol": 1, "version": "9", "pid": 1, "python": "3.9.1"}


@pytest.fixture
def directory(monkeypatch, tmp_path):
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    # The machine's own probes are not this test's business.
    monkeypatch.setattr("vramtop.protocol.rendezvous.scan_directories", lambda: [path])
    return path


@pytest.fixture
def server(directory):
    """A probe of this very process: serve(*lines) sends them to every viewer."""
    opened = []

    def serve(*lines, name="4321-1.sock"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(directory / name))
        listener.listen()
        opened.append(listener)
        heard = []

        def answer():
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                opened.append(peer)
                heard.append(json.loads(peer.makefile().readline()))
                for line in lines:
                    data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
                    with contextlib.suppress(BrokenPipeError):
                        peer.sendall(data)

        threading.Thread(target=answer, daemon=True).start()
        return heard

    yield serve
    for each in opened:
        each.close()


def read_until(clients, wanted, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while True:
        probes, problems = clients.read()
        if wanted(probes, problems):
            return probes, problems
        assert time.monotonic() < deadline, (probes, problems)
        time.sleep(0.01)


def test_samples_arrive_under_the_pid_that_the_kernel_gives(server):
    heard = server(HELLO, SAMPLE, name="999999-1.sock")
    clients = ProbeClients(0.5)
    probes, _ = read_until(clients, lambda p, _: p and p[os.getpid()].state == "streaming")
    probe = probes[os.getpid()]
    assert (probe.step, probe.steps_per_s, probe.python) == (3, 2.5, "3.9.1")
    assert probe.devices[0].breakdown.optimizer_state_bytes == 200
    assert probe.devices[0].breakdown.cached_bytes is None
    assert heard[0] == {"type": "subscribe", "protocol": 1, "period_s": 0.5, "history": True}


def test_history_is_given_once(server):
    point = [1.0, 2, 100, 50, 200, *[None] * 7, 4, 0, 0, 0]
    points = [[*point, 1000], [*point, None]]
    server(HELLO, {"type": "history", "device": "cpu", "points": points}, SAMPLE)
    clients = ProbeClients(1)
    probes, _ = read_until(clients, lambda p, _: p and p[os.getpid()].history)
    first, second = probes[os.getpid()].history["cpu"]
    assert first.breakdown.outside_allocator_bytes == 650
    assert second.breakdown.outside_allocator_bytes is None
    assert (first.at, first.step, first.breakdown.gradient_bytes) == (1.0, 2, 50)
    assert clients.read()[0][os.getpid()].history is None


def test_one_shot_waits_for_the_first_sample(server):
    server(HELLO, SAMPLE)
    clients = ProbeClients(1)
    started = time.monotonic()
    clients.wait_for_samples(5, 20)
    assert clients.read()[0][os.getpid()].state == "streaming"
    assert time.monotonic() - started < 4  # of detail it says nothing: nothing to wait for


def test_what_comes_beside_the_samples_is_joined_in_whatever_order(server):
    elsewhere = {**DETAIL, "device": "cuda:3"}
    server(HELLO, DETAIL, elsewhere, SAMPLE, SEGMENTS, STAGES)
    clients = ProbeClients(1)
    probes, _ = read_until(
        clients, lambda p, _: p and p[os.getpid()].devices[:1] and p[os.getpid()].devices[0].stages
    )
    (device,) = probes[os.getpid()].devices  # what only the detail names is not shown yet
    assert [phase.name for phase in device.detail.phases] == ["forward", "backward"]
    assert device.segments.segments[0].blocks[1].state == "free"
    assert [stage.path for stage in device.stages] == ["epoch / load"]


def test_a_later_sample_keeps_what_came_beside_an_earlier_one(server):
    server(HELLO, SAMPLE, DETAIL, {**SAMPLE, "step": 4})
    probes, _ = read_until(ProbeClients(1), lambda p, _: p and p[os.getpid()].step == 4)
    assert probes[os.getpid()].devices[0].detail.step == 3


@pytest.fixture
def late_server(directory):
    """One that sends what it is told to when it is told to: (after seconds, message)."""
    opened = []

    def serve(*timed):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(directory / "4321-1.sock"))
        listener.listen()
        opened.append(listener)

        def answer():
            peer, _ = listener.accept()
            opened.append(peer)
            for after_s, line in timed:
                time.sleep(after_s)
                peer.sendall(json.dumps(line).encode() + b"\n")

        threading.Thread(target=answer, daemon=True).start()

    yield serve
    for each in opened:
        each.close()


def test_one_shot_waits_for_a_pending_detail_and_the_sample_that_tells_of_it(late_server):
    pending, ready = ({**SAMPLE, "detail": state} for state in ("pending", "ready"))
    late_server((0, HELLO), (0, pending), (0.3, DETAIL), (0.3, {**ready, "step": 4}))
    clients = ProbeClients(1)
    clients.wait_for_samples(5, 20)
    probe = clients.read()[0][os.getpid()]
    assert (probe.step, probe.detail) == (4, "ready")
    assert probe.devices[0].detail.peak.module == "h.0"


def test_one_shot_gives_up_on_a_detail_that_does_not_come(late_server):
    late_server((0, HELLO), (0, {**SAMPLE, "detail": "pending"}))
    clients = ProbeClients(1)
    started = time.monotonic()
    clients.wait_for_samples(0.2, 0.6)
    assert 0.5 < time.monotonic() - started < 3
    assert clients.read()[0][os.getpid()].detail == "pending"


def test_who_asks_for_one_process_does_not_wait_for_others(late_server):
    late_server((0, HELLO), (0, {**SAMPLE, "detail": "pending"}))
    clients = ProbeClients(1)
    started = time.monotonic()
    clients.wait_for_samples(5, 20, pid=1)
    assert time.monotonic() - started < 4


def test_one_shot_does_not_wait_for_a_detail_that_is_off(late_server):
    late_server((0, HELLO), (0, {**SAMPLE, "detail": "off"}))
    clients = ProbeClients(1)
    started = time.monotonic()
    clients.wait_for_samples(5, 20)
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("more", [[], [{**SAMPLE, "devices": []}]])
def test_before_anything_is_counted_the_probe_is_waiting(server, more):
    server(HELLO, *more)
    clients = ProbeClients(1)
    read_until(clients, lambda p, _: p and p[os.getpid()].python == "3.9.1")
    assert clients.read()[0][os.getpid()].state == "waiting"


def test_a_newer_probe_is_understood(server):
    server(HELLO, {"type": "from the future", "x": 1}, {**SAMPLE, "extra": [1]})
    probes, _ = read_until(ProbeClients(1), lambda p, _: p and p[os.getpid()].state == "streaming")
    assert probes


def bad(**changes):
    return {**SAMPLE, **changes}


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"x" * (2 << 20),
        {"type": "hello", "protocol": 2},
        bad(step=-1),
        bad(step="3"),
        bad(step=True),
        bad(devices={}),
        bad(devices=[SAMPLE["devices"][0]] * 100),
        bad(devices=[{"device": "cpu", "breakdown": {"parameter_bytes": 1 << 70}}]),
        bad(devices=[{"device": "cpu", "allocator": {}}]),
        bad(at="now"),
        b'{"type":"sample","at":NaN}\n',
        {"type": "history", "device": "cpu", "points": [[1]]},
        bad(at=1e300),
        {**DETAIL, "at": None},
        {**DETAIL, "phases": [DETAIL["phases"][0]] * 65},
        {**DETAIL, "phases": [{"name": "forward", "before_bytes": 1}]},
        {**DETAIL, "peak": {"phase": "backward", "total_bytes": 3}},
        {**DETAIL, "modules": [["h", "Block", 1]]},
        {**DETAIL, "modules": [["h", "Block", -1, 0]]},
        {**DETAIL, "modules": [["h", "Block", 1, 1]] * 301},
        {**DETAIL, "notes": [3]},
        {**SEGMENTS, "segments": [{**SEGMENTS["segments"][0], "total_bytes": 2049}]},
        {**SEGMENTS, "segments": [{"total_bytes": 1, "blocks": [[1, ["free"], None]]}]},
        {**SEGMENTS, "segments": [{"total_bytes": 5, "blocks": [[1, "free", None]] * 5}] * 513},
        {**SEGMENTS, "segments": [{"total_bytes": 9, "blocks": [[1, "free", None]] * 9}] * 500},
        {**STAGES, "stages": STAGES["stages"] * 65},
        {**STAGES, "stages": [7]},
        {**STAGES, "stages": [{**STAGES["stages"][0], "calls": None}]},
        {"type": "job", "models": [{"class": "X", "parameters": 1.5, "trainable_parameters": 0}]},
        {"type": "problem", "message": 7},
    ],
)
def test_what_the_protocol_forbids_ends_that_connection_with_a_clear_problem(server, line):
    server(HELLO, line)
    clients = ProbeClients(1)
    _, problems = read_until(clients, lambda _, problems: problems)
    assert f"probe of pid {os.getpid()} is not read" in problems[0].message
    assert len(problems[0].message) < 400


def test_a_stale_socket_is_removed(directory):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "12-34.sock"))
    listener.close()
    ProbeClients(1).read()
    assert len(list(directory.iterdir())) == 1  # it might only just be starting
    os.utime(directory / "12-34.sock", (1, 1))
    ProbeClients(1).read()
    assert list(directory.iterdir()) == []


def test_foreign_files_in_the_directory_are_left_alone(directory):
    (directory / "notes.txt").write_text("x")
    ProbeClients(1).read()
    assert [p.name for p in directory.iterdir()] == ["notes.txt"]


def test_a_probe_that_closes_is_gone_with_its_last_values(directory):
    script = (
        "import socket, sys, os\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(1, flush=True)\n"
        "p, _ = s.accept(); p.recv(999); p.sendall(sys.argv[2].encode()); sys.stdin.readline()\n"
    )
    lines = "".join(json.dumps(m) + "\n" for m in (HELLO, SAMPLE))
    command = [sys.executable, "-c", script, str(directory / "5-6.sock"), lines]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        clients = ProbeClients(1)
        read_until(clients, lambda p, _: p and p[child.pid].state == "streaming")
        child.kill()
        probes, _ = read_until(clients, lambda p, _: p[child.pid].state == "gone")
        assert probes[child.pid].step == 3
        assert probes[child.pid].ended == "lost"


@pytest.mark.parametrize(
    ("why", "ended"), [("exit", "exit"), ("detached", "detached"), ("whatever is new", "lost")]
)
def test_the_last_line_says_how_a_probe_ended(directory, why, ended):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "4321-1.sock"))
        listener.listen()
        clients = ProbeClients(1)
        clients.read()
        peer, _ = listener.accept()
        (directory / "4321-1.sock").unlink()  # as a probe does before it closes
        for message in (HELLO, SAMPLE, {"type": "bye", "why": why}):
            peer.sendall(json.dumps(message).encode() + b"\n")
        peer.close()
        probes, _ = read_until(clients, lambda p, _: p[os.getpid()].state == "gone")
    assert (probes[os.getpid()].ended, probes[os.getpid()].step) == (ended, 3)


def test_one_that_breaks_the_protocol_is_gone_but_not_lost(server):
    server(HELLO, SAMPLE, b"nonsense\n")
    probes, _ = read_until(
        ProbeClients(1), lambda p, _: os.getpid() in p and p[os.getpid()].state == "gone"
    )
    assert probes[os.getpid()].ended is None


def test_silence_makes_stale(server, monkeypatch):
    server(HELLO, SAMPLE)
    clients = ProbeClients(1)
    read_until(clients, lambda p, _: p and p[os.getpid()].state == "streaming")
    clients._open[next(iter(clients._open))].heard_at -= 10
    assert clients.read()[0][os.getpid()].state == "stale"


def test_a_new_period_is_asked_for(server, directory):
    heard = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "1-1.sock"))
    listener.listen()
    clients = ProbeClients(1)
    clients.read()
    peer, _ = listener.accept()
    clients.set_period(0.25)
    lines = peer.makefile()
    heard = [json.loads(lines.readline()) for _ in range(2)]
    assert [h["period_s"] for h in heard] == [1, 0.25]
    assert [h["history"] for h in heard] == [True, False]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can serve as another user")
def test_the_probe_of_another_user_is_not_read(directory):
    script = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o777)\n"
        "os.setuid(12345); s.listen(); print(1, flush=True); sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", script, str(directory / "5-6.sock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        probes, problems = ProbeClients(1).read()
        assert probes == {}
        assert "belongs to uid 12345" in problems[0].message
        child.kill()
