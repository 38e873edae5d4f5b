"""The server's promises to the training and to viewers, whatever a peer does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vramtop.errors import RendezvousRefused
from vramtop.probe import server as server_module
from vramtop.probe.faults import Faults
from vramtop.probe.history import History
from vramtop.probe.server import Server
from vramtop.probe.updates import Updates


class Content:
    """As little as a server can send, and as much as a test wants."""

    def __init__(self, padding=0):
        self.period_s = "never told"
        self.past = History()
        self.updates = Updates()
        self.padding = "x" * padding
        self.detached = False

    def hello(self):
        return {"type": "hello", "protocol": 1}

    def job(self):
        return {"type": "job", "models": [], "optimizers": [{"class": "A", "steps": 1}]}

    def sample(self):
        return {"type": "sample", "at": time.time(), "padding": self.padding}

    def history(self):
        return self.past.lines(500)

    def watched(self, period_s):
        self.period_s = period_s

    def detach(self):
        self.detached = True

    def chores(self):
        return None


@pytest.fixture
def serve(runtime_dir):
    started = []

    def serve(content):
        server = Server(content, Faults())
        server.start()
        started.append(server)
        return server

    yield serve
    for server in started:
        server.stop()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_socket_is_private_and_goes_with_the_server(serve, runtime_dir):
    server = serve(Content())
    (path,) = runtime_dir.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.name.startswith(f"{os.getpid()}-")
    server.stop()
    assert list(runtime_dir.iterdir()) == []


def test_two_hundred_connects_leave_nothing_behind(serve, runtime_dir, connect):
    content = Content()
    serve(content)
    connect(runtime_dir, os.getpid()).close()
    wait_until(lambda: content.period_s is None)
    before = descriptors()
    for index in range(200):
        viewer = connect(runtime_dir, os.getpid())
        if index % 2:
            viewer.next("sample")
        viewer.close()
    wait_until(lambda: descriptors() <= before)
    wait_until(lambda: content.period_s is None)
    assert connect(runtime_dir, os.getpid()).next("sample")


def test_viewer_that_never_reads_loses_samples_only(serve, runtime_dir, connect):
    serve(Content(padding=100_000))
    (path,) = runtime_dir.iterdir()
    lazy = connect(runtime_dir, os.getpid())
    busy = connect(runtime_dir, os.getpid())
    for _ in range(20):
        assert busy.next("sample")["dropped"] == 0
    time.sleep(0.2)
    samples = [lazy.next("sample") for _ in range(12)]
    assert samples[-1]["dropped"] > 0
    assert path.exists()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\xff\x00\x01\n",
        b"[" * 4000 + b"\n",
        b"x" * 10_000,
        b'{"type":"subscribe","period_s":"soon"}\n',
        b'{"type":"subscribe","period_s":NaN}\n',
        b'{"no":"type"}\n',
    ],
)
def test_rubbish_ends_that_viewer_only(serve, runtime_dir, connect, rubbish):
    serve(Content())
    good = connect(runtime_dir, os.getpid())
    bad = connect(runtime_dir, os.getpid())
    bad.next("sample")
    with contextlib.suppress(BrokenPipeError):
        bad.socket.sendall(rubbish)
    with pytest.raises((EOFError, ConnectionResetError)):
        bad.next("nothing")
    assert good.now()


def test_unknown_requests_are_ignored_and_periods_clamped(serve, runtime_dir, connect):
    content = Content()
    serve(content)
    viewer = connect(runtime_dir, os.getpid())
    viewer.next("sample")
    viewer.socket.sendall(b'{"type":"dance"}\n{"type":"subscribe","period_s":1e400,"more":1}\n')
    wait_until(lambda: content.period_s == 60.0)
    viewer.socket.sendall(b'{"type":"subscribe","period_s":0}\n')
    wait_until(lambda: content.period_s == 0.05)


def test_late_viewer_gets_the_history(serve, runtime_dir, connect):
    content = Content()
    for second in range(1200):
        content.past.add(float(second), {"cpu": [float(second), second, 1, 2, 3, None, None, 0]})
    serve(content)
    viewer = connect(runtime_dir, os.getpid(), history=True)
    lines = [viewer.next("history") for _ in range(3)]
    assert [point[1] for line in lines for point in line["points"]] == list(range(1200))
    assert max(len(line["points"]) for line in lines) <= 500


def test_faults_are_told_to_every_viewer_once(runtime_dir, connect):
    faults = Faults()
    server = Server(Content(), faults)
    server.start()
    try:
        faults.report("the count of odd tensors", ValueError("odd"))
        faults.report("the count of odd tensors", ValueError("odd again"))
        for _ in range(2):
            viewer = connect(runtime_dir, os.getpid())
            told = [viewer.read() for _ in range(6)]
            problems = [m["message"] for m in told if m["type"] == "problem"]
            assert problems == ["the count of odd tensors is off: ValueError: odd"]
    finally:
        server.stop()


def test_lost_socket_file_is_bound_again(serve, runtime_dir, connect, monkeypatch):
    monkeypatch.setattr(server_module, "SOCKET_CHECK_S", 0.1)
    serve(Content())
    (path,) = runtime_dir.iterdir()
    viewer = connect(runtime_dir, os.getpid())
    path.unlink()
    wait_until(path.exists)
    assert connect(runtime_dir, os.getpid()).next("sample")
    assert viewer.now()  # who was connected stays connected


@pytest.mark.parametrize(("why", "last"), [("exit", "exit"), (None, None)])
def test_the_last_line_says_why_it_ends(serve, runtime_dir, connect, why, last):
    server = serve(Content())
    viewer = connect(runtime_dir, os.getpid())
    assert viewer.next("sample")
    server.stop(why)
    heard = []
    with contextlib.suppress(EOFError):
        while True:
            heard.append(viewer.read())
    assert [m["why"] for m in heard if m["type"] == "bye"] == ([last] if last else [])
    assert last is None or heard[-1]["type"] == "bye"


def test_who_does_not_read_does_not_keep_it_from_ending(serve, runtime_dir, connect):
    server = serve(Content(padding=1 << 17))
    deaf, alert = connect(runtime_dir, os.getpid()), connect(runtime_dir, os.getpid())
    assert alert.now()
    # By now the deaf one's socket is full, whatever the kernel gives it.
    wait_until(lambda: any(viewer.full for viewer in list(server._viewers.values())))
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 1.9
    assert deaf.socket.fileno() >= 0


def test_another_content_takes_over_without_viewers_being_cut_off(serve, runtime_dir, connect):
    first, second = Content(), Content(padding=3)
    server = serve(first)
    viewer = connect(runtime_dir, os.getpid())
    assert viewer.next("sample")["padding"] == ""
    faults = Faults()
    faults.say("the search", "too many objects")
    server.hand_over(second, faults)
    assert viewer.next("problem")["message"] == "the search is off: too many objects"
    server.hand_over(second, faults)  # attached to once more
    heard = [viewer.read() for _ in range(5)]
    assert {message["type"] for message in heard} <= {"sample", "job"}
    assert heard[-1]["padding"] == "xxx"
    assert second.period_s == 0.05
    viewer.socket.sendall(b'{"type": "detach", "protocol": 1}\n')
    wait_until(lambda: second.detached)
    assert not first.detached


def test_chores_end_the_server_from_within(runtime_dir, connect):
    class Leaving(Content):
        def chores(self):
            if self.detached:
                self.server.end()
            return 0.01

    before = descriptors()
    content = Leaving()
    content.server = Server(content, Faults())
    content.server.start()
    viewer = connect(runtime_dir, os.getpid())
    viewer.socket.sendall(b'{"type": "detach", "protocol": 1}\n')
    assert viewer.next("bye")["why"] == "detached"
    with pytest.raises(EOFError):
        viewer.read()
    content.server._thread.join(5)
    assert list(runtime_dir.iterdir()) == []
    viewer.close()
    assert descriptors() == before


def test_planted_directory_is_refused(runtime_dir, monkeypatch):
    planted = runtime_dir / "elsewhere"
    planted.mkdir(mode=0o700)
    link = runtime_dir / "link"
    link.symlink_to(planted)
    monkeypatch.setattr(server_module.rendezvous, "bind_directory", lambda: link)
    with pytest.raises(RendezvousRefused, match="not a directory"):
        Server(Content(), Faults()).start()
    assert list(planted.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_other_users_get_nothing(serve, runtime_dir):
    serve(Content())
    (path,) = runtime_dir.iterdir()
    runtime_dir.chmod(0o711)  # the directory alone would keep them out
    path.chmod(0o666)
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534);"
        f"s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); print(s.recv(9))"
    )
    python = Path(sys.executable).resolve()
    found = subprocess.run(
        [python, "-S", "-c", code], capture_output=True, text=True, cwd="/", timeout=20
    )
    if "PermissionError" in found.stderr:
        pytest.skip("this Python cannot be run by another user")
    assert found.stdout == "b''\n", found.stderr


def test_asleep_while_nobody_watches(serve):
    serve(Content())
    time.sleep(0.2)
    (thread,) = [
        p for p in Path("/proc/self/task").iterdir() if "vramtop" in (p / "comm").read_text()
    ] or [None]
    if thread is None:
        pytest.skip("this Python does not name its threads for the kernel")
    before = (thread / "status").read_text()
    time.sleep(1.0)
    assert switches(before) == switches((thread / "status").read_text())


def switches(status):
    return [line for line in status.splitlines() if "ctxt_switches" in line]


def test_protocol_lines_are_json(serve, runtime_dir):
    serve(Content())
    (path,) = runtime_dir.iterdir()
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(str(path))
        assert json.loads(plain.recv(1000)) == {"type": "hello", "protocol": 1}


def test_updates_are_told_once_to_each_viewer_and_when_they_change(serve, runtime_dir, connect):
    content = Content()
    serve(content)
    content.updates.put("detail cpu", {"type": "detail", "number": 1})
    first, second = (connect(runtime_dir, os.getpid()) for _ in range(2))
    for viewer in (first, second):
        assert viewer.next("detail")["number"] == 1
    heard = [first.read()["type"] for _ in range(4)]
    assert "detail" not in heard
    content.updates.put("detail cpu", {"type": "detail", "number": 2})
    for viewer in (first, second):
        assert viewer.next("detail")["number"] == 2
