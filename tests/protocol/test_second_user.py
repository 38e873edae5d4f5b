"""Another user of the machine, a real one: nothing is read from, sent to or written for them."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.fuzz.probe_wire import Content
from vramtop.errors import AttachRefused, RendezvousRefused, VramtopError
from vramtop.inject import attacher
from vramtop.probe.faults import Faults
from vramtop.probe.server import Server
from vramtop.protocol import postmortem, rendezvous
from vramtop.sources.probes import ProbeClients
from vramtop.sources.recording.writer import Writer

NOBODY = 65534
HELLO = b'{"type":"hello","protocol":1,"version":"9","pid":1,"python":"3.9.1"}\n'

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


@contextlib.contextmanager
def nobody(function, *arguments):
    """The function runs in a process of that user's; gives its pid and ends it."""
    child = os.fork()  # not a new Python: this one may lie where nobody else can read it
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            function(*arguments)
        finally:
            os._exit(0)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def as_nobody(function, *arguments):
    """What the function returns there, or the name and the words of what it raises."""
    read, write = os.pipe()

    def tell():
        try:
            said = function(*arguments)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, json.dumps(said).encode())

    with nobody(tell):
        ready, _, _ = select.select([read], [], [], 30)
        assert ready
        answer = os.read(read, 1 << 16)
    os.close(read)
    os.close(write)
    return json.loads(answer)


@pytest.fixture
def folder():
    """Where both users may go; short, because a socket's path must fit into 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def directory(folder, monkeypatch):
    """The rendezvous of this user."""
    path = folder / "run"
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(path))
    rendezvous.ensure_directory(path)
    return path


@pytest.fixture
def probe(directory):
    """The socket of a server that listens."""
    server = Server(Content(), Faults())
    server.start()
    yield next(directory.glob("*.sock"))
    server.stop()


def receive(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(path)
    try:
        client.sendall(b'{"type":"subscribe","protocol":1,"period_s":0.05}\n')
        return client.recv(1 << 16).decode()
    except (BrokenPipeError, ConnectionResetError):
        return ""


def test_the_directory_keeps_them_from_the_socket(probe):
    assert as_nobody(receive, str(probe)).startswith("PermissionError")
    assert as_nobody(os.listdir, str(probe.parent)).startswith("PermissionError")


def test_with_the_directory_open_the_probe_sends_them_nothing(probe):
    probe.parent.chmod(0o755)
    probe.chmod(0o666)
    assert as_nobody(receive, str(probe)) == ""
    assert "hello" in receive(str(probe))  # and goes on for its own user


def test_they_cannot_have_a_probe_leave(probe):
    probe.parent.chmod(0o755)
    probe.chmod(0o666)

    def detach():
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(probe))
        client.sendall(b'{"type":"detach","protocol":1}\n')

    as_nobody(detach)
    assert "hello" in receive(str(probe))


def serve(path, bound):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    os.write(bound, b"x")
    peer, _ = listener.accept()
    peer.sendall(HELLO)
    time.sleep(60)


def test_they_cannot_feed_a_viewer(directory):
    directory.chmod(0o777)  # as if it had been open for a moment
    path = directory / "4321-1.sock"
    read, write = os.pipe()
    with nobody(serve, path, write):
        assert os.read(read, 1) == b"x"
        directory.chmod(0o700)
        probes, problems = ProbeClients(1).read()
    os.close(read)
    os.close(write)
    assert probes == {}
    assert f"belongs to uid {NOBODY}; not read" in problems[0].message


def test_their_directory_is_neither_scanned_nor_bound_in(folder, monkeypatch):
    path = folder / "theirs"
    as_nobody(os.mkdir, str(path), 0o700)
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(path))
    (_, problems), before = ProbeClients(1).read(), path.stat()
    assert f"belongs to uid {NOBODY}" in problems[0].message
    with pytest.raises(RendezvousRefused, match=f"uid {NOBODY}"):
        Server(Content(), Faults()).start()
    assert (list(path.iterdir()), path.stat().st_mode) == ([], before.st_mode)


def test_in_the_session_s_directory_too(folder, monkeypatch):
    as_nobody(os.mkdir, str(folder / "vramtop"), 0o700)
    monkeypatch.delenv("VRAMTOP_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(rendezvous, "bind_directory", lambda: folder / "own")
    _, problems = ProbeClients(1).read()
    assert [p.message for p in problems] == [
        f"{folder / 'vramtop'} belongs to uid {NOBODY}; remove it"
    ]


def test_they_cannot_attach_nor_be_attached_to(directory):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as own:

        def attach():
            attacher.attach(own.pid, wait_s=1)

        said = as_nobody(attach)
        own.communicate(b"\n")
    assert said.startswith("AttachRefused"), said
    with nobody(time.sleep, 60) as theirs:
        until = time.monotonic() + 10
        while Path(f"/proc/{theirs}").stat().st_uid != NOBODY:
            assert time.monotonic() < until
        with pytest.raises(AttachRefused, match="belongs to"):
            attacher.attach(theirs, wait_s=1)
    assert list(directory.iterdir()) == []


# What they plant.


def plants(folder):
    """By name, a victim's directory and something in place of the rendezvous that leads there."""
    victim = folder / "victim"
    victim.mkdir(mode=0o700)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(victim / "12-34.sock"))  # what a viewer would remove in its own directory
    stale.close()
    os.utime(victim / "12-34.sock", (1, 1))
    return victim


@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "group's", "others'"])
def test_what_stands_in_its_place_is_refused_and_left_alone(folder, monkeypatch, kind):
    victim = plants(folder)
    path = folder / "vramtop-0"
    if kind == "link":
        as_nobody(os.symlink, str(victim), str(path))
    elif kind == "dangling link":
        as_nobody(os.symlink, str(folder / "to be made"), str(path))
    elif kind == "file":
        path.write_text("mine")
    else:
        victim.rename(path)
        path.chmod(0o770 if kind == "group's" else 0o705)
    before = listing(folder)
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(path))
    with pytest.raises(RendezvousRefused):
        Server(Content(), Faults()).start()
    probes, problems = ProbeClients(1).read()
    assert probes == {}
    assert str(path) in problems[0].message
    assert listing(folder) == before


TRAINING = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(5):
    loss = model(torch.ones(4, 8)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(loss.item().hex())
"""


def test_a_training_behind_a_planted_link_goes_on_as_without_a_probe(folder, monkeypatch):
    victim = plants(folder)
    before = listing(victim)
    path = folder / "vramtop-0"
    as_nobody(os.symlink, str(victim), str(path))
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(path))
    plain = [sys.executable, "-c", TRAINING]
    probed = [sys.executable, "-m", "vramtop", "run", "--", *plain]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(plain, **pipes) as first, subprocess.Popen(probed, **pipes) as second:
        try:
            expected, said = first.communicate(timeout=150), second.communicate(timeout=150)
        finally:
            first.kill()
            second.kill()
    assert first.returncode == 0, expected
    assert (second.returncode, said) == (0, expected)
    assert listing(victim) == before


def listing(folder):
    return sorted((str(p), p.lstat().st_mode, p.lstat().st_ino) for p in folder.rglob("*"))


def test_a_race_for_the_name_is_never_won(folder, monkeypatch):
    """They plant and take away a link as fast as they can, while probes bind there."""
    victim = plants(folder)
    before = listing(victim)
    path = folder / "vramtop-0"

    def plant():
        while True:
            with contextlib.suppress(OSError):
                path.symlink_to(victim)
                path.unlink()

    outcomes = set()
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(path))
    with nobody(plant):
        began = time.monotonic()
        # On a busy machine the two may not meet for a while.
        while time.monotonic() < began + (1 if len(outcomes) == 2 else 30):
            try:
                server = Server(Content(), Faults())
                server.start()
                outcomes.add("bound")
                server.stop()
            except (RendezvousRefused, OSError):
                outcomes.add("refused")
            with contextlib.suppress(OSError):
                path.rmdir()
    assert listing(victim) == before
    assert outcomes == {"bound", "refused"}


def test_a_recording_is_not_written_into_a_file_of_theirs(folder):
    path = folder / "night.vramtop"
    as_nobody(lambda: path.touch(0o666))
    with pytest.raises(VramtopError, match="belongs to another user"):
        Writer(path)
    assert path.stat().st_size == 0


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_planted_name_does_not_redirect_a_post_mortem(directory, folder, overwrite):
    victim = folder / "victim"
    victim.write_text("precious")
    name = f"12-34-0{postmortem.SUFFIX}"
    for planted in (name, f".{name}.{os.getpid()}"):
        (directory / planted).symlink_to(victim)
    try:
        postmortem.write(directory / name, b"{}", overwrite=overwrite)
    except FileExistsError:
        assert not overwrite
    assert victim.read_text() == "precious"
