"""What viewers can do to a training under `vramtop run`: nothing.

One training is attacked in every way in turn; its losses are compared bit by bit with those of a
run that has never heard of vramtop.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

MOST_STEPS = 1500
STDIN = bytes(range(256)) * 1000

VIEWER_PROCESS = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{"type":"subscribe","protocol":1,"period_s":0.05,"history":true}\\n')
while True:
    s.recv(4096)
    print(flush=True)
"""


def losses(stdout):
    return [line.split()[1] for line in stdout.splitlines() if " " in line]


def kill_a_viewer(path, connect):
    viewer = subprocess.Popen([sys.executable, "-c", VIEWER_PROCESS, path], stdout=subprocess.PIPE)
    for _ in range(3):
        viewer.stdout.readline()
    viewer.kill()
    viewer.communicate()


def connect_and_leave(path, connect):
    for i in range(200):
        viewer = connect(path)
        if i % 2:
            viewer.subscribe(history=True)
        viewer.close()


def never_read(path, connect):
    viewers = [connect(path) for _ in range(3)]
    request = b'{"type":"subscribe","protocol":1,"period_s":0.05,"history":true}\n'
    for viewer in viewers:
        viewer.socket.setblocking(False)
        try:
            for _ in range(5000):  # each may be answered; no answer is ever read
                viewer.send(request)
        except OSError:
            pass
    time.sleep(0.5)
    return viewers  # they stay connected until the end


GARBAGE = [
    b"\n" * 5000,
    b"x" * 100_000,
    b"{" * 4000 + b"\n",
    b"[" * 4000 + b"\n",
    b"\xff\xfe\x00\n",
    b'{"type":"subscribe"',
    b'{"type":"subscribe"}\n',
    b'{"type":7}\n{"type":null}\n[]\n7\n"subscribe"\n',
    *(
        b'{"type":"subscribe","protocol":1,"period_s":%b,"history":%b}\n' % (period, history)
        for period in (b"NaN", b"-1", b"1e999", b'"1"', b"null", b"[]", b"0", b"true", b"9" * 999)
        for history in (b"1", b"{}")
    ),
    b'{"type":"subscribe","protocol":"x","period_s":1}\n',
    b'{"type":"hello"}\n{"type":"sample","devices":null}\n{"type":"\\ud800"}\n',
    random.Random(0).randbytes(50_000),
]


def send_garbage(path, connect):
    for data in GARBAGE:
        viewer = connect(path)
        try:
            viewer.send(data)
            viewer.socket.settimeout(0.05)
            viewer.socket.recv(1 << 16)
        except OSError:
            pass  # hanging up on us is its right
        viewer.close()


ATTACKS = (kill_a_viewer, connect_and_leave, never_read, send_garbage)


def resources(pid):
    """Open files and threads of a process."""
    return tuple(len(list(Path(f"/proc/{pid}/{what}").iterdir())) for what in ("fd", "task"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("harm")


@pytest.fixture(scope="module")
def undisturbed(start, make_environment, tiny_training, directory):
    """The losses without vramtop, of more steps than any other run makes."""
    command = tiny_training("--at-least", MOST_STEPS, "--at-most", MOST_STEPS)
    process = start(command, under_run=False, env=make_environment(directory / "none"))
    out, err = process.communicate(STDIN, timeout=60)
    assert (process.returncode, err) == (0, b"")
    return losses(out.decode())


@pytest.fixture(scope="module")
def attacked(start, make_environment, tiny_training, connect, wait_for, directory):
    """One training after all attacks, and what was seen after each."""
    output = directory / "stdout"
    environment = make_environment(directory / "run")
    command = tiny_training("--at-most", MOST_STEPS, "--sleep-s", 0.003, "--end", "exit")
    with output.open("wb") as file:
        process = start(command, env=environment, stdout=file)
    try:
        seen = SimpleNamespace(pid=process.pid, after={})
        wait_for(lambda: len(losses(output.read_text())) > 20, what="the first steps")
        (path,) = (directory / "run").glob("[0-9]*.sock")
        once = [sys.executable, "-m", "vramtop", "--once", "--json", "--backend", "host"]
        seen.shown = json.loads(subprocess.check_output(once, env=environment))
        idle = resources(process.pid)
        held = []
        for attack in ATTACKS:
            held.append(attack(str(path), connect))
            seen.after[attack.__name__] = look(path, connect)
        for viewer in filter(None, held):
            for connection in viewer:
                connection.close()
        wait_for(lambda: resources(process.pid) == idle, what="files and threads to be given back")
        _, seen.stderr = process.communicate(STDIN, timeout=60)
    finally:
        process.kill()
    seen.returncode = process.returncode
    seen.losses = losses(output.read_text())
    seen.stdin_digest = output.read_text().splitlines()[-1]
    seen.left = list((directory / "run").iterdir())
    return seen


def look(path, connect):
    """What a well-behaved viewer gets: the greeting, and samples while 20 steps are made."""
    viewer = connect(path)
    viewer.subscribe()
    hello = viewer.until("hello")
    first = last = viewer.until("sample")
    while last["step"] < first["step"] + 20:
        last = viewer.until("sample")
    viewer.close()
    return hello, last


def test_a_real_viewer_sees_it(attacked):
    """The positive control: there is a probe to be attacked."""
    (row,) = [row for row in attacked.shown["processes"] if row["pid"] == attacked.pid]
    assert row["probe"]["state"] == "streaming"
    assert row["probe"]["step"] > 0


@pytest.mark.parametrize("attack", [attack.__name__ for attack in ATTACKS])
def test_after_an_attack_the_next_viewer_is_served(attacked, attack):
    hello, sample = attacked.after[attack]
    assert hello["pid"] == attacked.pid
    assert sample["devices"][0]["breakdown"]["parameter_bytes"] == 4 * (64 * 128 + 128 + 1290)


def test_the_losses_are_bit_equal(attacked, undisturbed):
    assert 100 < len(attacked.losses) <= MOST_STEPS
    assert attacked.losses == undisturbed[: len(attacked.losses)]


def test_its_end_is_its_own(attacked):
    assert attacked.returncode == 7
    assert attacked.stderr == b""
    assert attacked.stdin_digest == hashlib.sha256(STDIN).hexdigest()
    assert attacked.left == [], "the socket goes with the process"


def test_an_exception_after_forked_workers_is_as_without(both, tiny_training):
    without, with_run = both(tiny_training("--workers", 2, "--end", "raise"), stdin=STDIN)
    assert with_run.stdout == without.stdout
    assert with_run.stderr == without.stderr
    assert b"of the user's own" in without.stderr
    assert with_run.returncode == without.returncode == 1


def test_a_death_by_signal_stays_one(start, plain_environment, tiny_training, undisturbed):
    process = start(tiny_training("--end", "kill"), env=plain_environment)
    out, err = process.communicate(b"", timeout=60)
    assert (process.returncode, err) == (-signal.SIGKILL, b"")
    assert losses(out.decode()) == undisturbed[:40]


def test_ctrl_c_is_as_without(both, tiny_training):
    def interrupt(process):
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)

    command = tiny_training("--at-most", 100_000)
    without, with_run = both(command, do=interrupt, start_new_session=True)
    assert with_run.returncode == without.returncode == -signal.SIGINT
    for done in (without, with_run):
        assert done.stderr.decode().splitlines()[-1] == "KeyboardInterrupt"


def test_a_runtime_directory_that_is_not_ours_stops_nothing(
    start, make_environment, tiny_training, undisturbed, tmp_path
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / "planted").symlink_to(elsewhere)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    names = ["planted", "open", "no/such/parent"]
    processes = [start(tiny_training(), env=make_environment(tmp_path / name)) for name in names]
    for process in processes:
        out, err = process.communicate(b"", timeout=60)
        assert (process.returncode, err) == (0, b"")
        assert losses(out.decode()) == undisturbed[:40]
    assert list(elsewhere.iterdir()) == []
    assert list((tmp_path / "open").iterdir()) == []
