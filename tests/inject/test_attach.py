"""``vramtop attach`` on real trainings that nobody has prepared, with a real debugger."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vramtop.inject import attacher
from vramtop.sources.probes import ProbeClients

pytest.importorskip("torch")

SCRIPT = Path(__file__).with_name("attached_training.py")
PARAMETER_BYTES = 4 * (64 * 128 + 128 + 128 * 10 + 10)
STATE_BYTES = 2 * PARAMETER_BYTES + 4 * 4  # AdamW: two moments, and a step for each parameter
WAITS_FOR_TORCH = "import time; print(1, flush=True)\nwhile True: time.sleep(0.02)"
COUNTS_SIGNALS = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: None)
while True:
    print(sum(range(10_000)), flush=True)
    time.sleep(0.002)
"""


@pytest.fixture(autouse=True)
def _debugger_works(tmp_path, monkeypatch):
    """Skip where no debugger can be had; a rendezvous directory of this test's own."""
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))
    # Some attaches here are made by a real debugger: without one, or where the kernel forbids
    # it (a container without SYS_PTRACE), there is nothing to test.
    if not (shutil.which("gdb") or shutil.which("lldb")):
        pytest.skip("neither gdb nor lldb is installed")
    sleeping = subprocess.Popen(["sleep", "60"])
    try:
        with Path(f"/proc/{sleeping.pid}/mem").open("rb"):  # the check that ptrace makes
            pass
    except PermissionError:
        pytest.skip("the kernel does not permit ptrace here")
    finally:
        sleeping.kill()
        sleeping.wait()


class Training:
    """A training as its own process, and what it has printed."""

    def __init__(self, folder, command, environment):
        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=environment,
            )
        self.pid = self.process.pid

    def lines(self):
        return self.out.read_text().splitlines()

    def makes_steps(self, count=5):
        aim, until = len(self.lines()) + count, time.monotonic() + 120
        while len(self.lines()) < aim:
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() < until, "the training hangs"
            time.sleep(0.02)

    def ends(self, *, told=True):
        """Its losses, and its registries before and after."""
        if told:
            self.makes_steps(10)  # the thread that has just said bye is ending
            self.process.stdin.close()
        assert self.process.wait(60) == 0, self.err.read_text()
        assert self.err.read_text() == ""
        *losses, before, after = self.lines()
        return losses, before.removeprefix("before "), after.removeprefix("after ")


@pytest.fixture
def train(tmp_path, make_environment):
    """Starts a training (or another command) that does not know of vramtop, and waits for steps."""
    environment = make_environment(tmp_path / "unknown to the training")
    del environment["VRAMTOP_RUNTIME_DIR"]
    started = []

    def train(*arguments, command=None, steps=5):
        folder = tmp_path / str(len(started))
        folder.mkdir()
        own = [sys.executable, SCRIPT, *arguments]
        training = Training(folder, command or own, environment)
        started.append(training)
        training.makes_steps(steps)
        return training

    yield train
    for training in started:
        training.process.kill()
        training.process.wait()


def watched(pid, is_there, limit_s=60.0):
    """The probe of the process as the app sees it, as soon as it is as wanted."""
    clients, until = ProbeClients(0.1), time.monotonic() + limit_s
    try:
        while time.monotonic() < until:
            probe = clients.read()[0].get(pid)
            if probe is not None and is_there(probe):
                return probe
            time.sleep(0.02)
    finally:
        clients.close()
    raise AssertionError(f"not within {limit_s} s: {probe}")


def has_full_breakdown(probe):
    rows = [device.breakdown for device in probe.devices if device.detail and device.breakdown]
    return bool(rows) and rows[0].activation_bytes is not None


def tasks(pid):
    return {path.name for path in Path(f"/proc/{pid}/task").iterdir()}


def test_all_is_seen_and_nothing_stays(train):
    """Attach, look, detach, all of it twice: the losses are those of a run without."""
    training = train()
    threads = tasks(training.pid)
    for _ in range(2):
        attached = attacher.attach(training.pid)
        assert attached.method in {"gdb", "lldb", "remote_exec"}
        assert attached.python == sys.version.split()[0]
        assert attached.torch
        assert attached.pause_s is None or 0 < attached.pause_s < 10
        probe = watched(training.pid, has_full_breakdown)
        assert probe.state == "streaming"
        (device,) = probe.devices
        assert device.breakdown.parameter_bytes == PARAMETER_BYTES
        assert device.breakdown.optimizer_state_bytes == STATE_BYTES
        assert device.detail.peak.total_bytes > PARAMETER_BYTES + STATE_BYTES
        assert [model.class_name for model in probe.models] == ["Sequential"]
        assert [optimizer.class_name for optimizer in probe.optimizers] == ["AdamW"]
        second = attacher.attach(training.pid)  # by another viewer: nothing is injected again
        assert (second.method, second.torch) == ("cooperative", attached.torch)
        assert tasks(training.pid) > threads
        attacher.detach(training.pid)
        training.makes_steps()
        assert tasks(training.pid) == threads
    losses, before, after = training.ends()
    assert json.loads(after) == json.loads(before)
    assert train("--steps", len(losses)).ends(told=False)[0] == losses


def test_once_json_of_the_command_line(train):
    training = train()
    command = [sys.executable, "-m", "vramtop", "attach", str(training.pid), "--once", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"attached to {training.pid}" in done.stderr
    (process,) = json.loads(done.stdout)["processes"]
    assert process["pid"] == training.pid
    (device,) = process["probe"]["devices"]
    assert device["breakdown"]["parameter_bytes"] == PARAMETER_BYTES
    assert device["breakdown"]["activation_bytes"] is not None
    training.makes_steps()
    gone = subprocess.run(
        [*command[:5], "--detach"], capture_output=True, text=True, timeout=60, check=True
    )
    assert str(training.pid) in gone.stderr + gone.stdout
    assert not list(Path(os.environ["VRAMTOP_RUNTIME_DIR"]).glob("*.sock"))
    training.ends()


def test_workers_of_a_dataloader_are_left_alone(train):
    """Neither those that were there nor those that are forked while the probe is in."""
    training = train("--workers", 2)
    attacher.attach(training.pid)
    watched(training.pid, has_full_breakdown)
    training.makes_steps(17)  # two epochs at least, each with new workers
    sockets = list(Path(os.environ["VRAMTOP_RUNTIME_DIR"]).glob("*.sock"))
    assert [int(path.name.split("-")[0]) for path in sockets] == [training.pid]
    losses, _, _ = training.ends()
    assert train("--workers", 2, "--steps", len(losses)).ends(told=False)[0] == losses


def test_without_torch_it_waits_for_it(train, other_python):
    """Another interpreter, which knows nothing of torch or vramtop."""
    python = other_python("3.9")
    training = train(command=[python, "-c", WAITS_FOR_TORCH], steps=1)
    command = [sys.executable, "-m", "vramtop", "attach", str(training.pid), "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Python 3.9" in done.stderr
    assert "not imported torch yet" in done.stderr
    probe = watched(training.pid, lambda probe: probe.python is not None)
    assert (probe.torch, probe.devices) == (None, ())
    attacher.detach(training.pid)
    assert training.process.poll() is None


def test_signals_of_its_own_come_through(train):
    """Those that arrive during the debugger's call, too."""
    training = train(command=[sys.executable, "-c", COUNTS_SIGNALS], steps=1)
    ended = threading.Event()

    def send():
        while not ended.wait(0.0005):
            os.kill(training.pid, signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        attached = attacher.attach(training.pid)
    finally:
        ended.set()
        sender.join()
    assert attached.torch is None
    attacher.detach(training.pid)
    training.makes_steps(10)


def test_a_process_with_its_own_folders(train, tmp_path):
    """As in a container: another /tmp, and no file of this package."""
    # Mounts of one's own are root's, and a container may forbid them even to it.
    if os.getuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare(1)")
    package = Path(attacher.__file__).parents[1]
    elsewhere = tmp_path / "script.py"
    shutil.copy(SCRIPT, elsewhere)
    # What lies below /tmp itself, as this interpreter may, is put back; /mnt has all as it was.
    hide = (
        f"mount --rbind / /mnt && mount -t tmpfs none /tmp && mkdir -p {sys.prefix} {package}"
        f" && mount --bind /mnt{sys.prefix} {sys.prefix}"
        f" && mount -t tmpfs none {package} && cp /mnt{elsewhere} {package}"
    )
    run = f"exec {sys.executable} {package}/{elsewhere.name}"
    shell = ["unshare", "-m", "sh", "-c", f"{hide} && {run}"]
    probe_unshare = subprocess.run([*shell[:4], hide], capture_output=True, text=True)
    if probe_unshare.returncode:
        pytest.skip(f"cannot mount here: {probe_unshare.stderr}")
    training = train(command=shell)
    attacher.attach(training.pid)
    watched(training.pid, has_full_breakdown)
    attacher.detach(training.pid)
    _, before, after = training.ends()
    assert json.loads(after) == json.loads(before)
