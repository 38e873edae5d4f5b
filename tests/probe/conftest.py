"""Real parts for the probe's tests: a viewer on a raw socket, a probed process, a count by hand."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "vramtop"

PREAMBLE = f"""
import sys, types
_root = types.ModuleType("_vramtop_injected")
_root.__path__ = [{str(PACKAGE)!r}]
sys.modules["_vramtop_injected"] = _root
from _vramtop_injected.probe import boot
boot.install()
"""
"""How an injected probe gets into a process: under a private name, before anything else."""


ENTRY = PACKAGE / "inject" / "entry" / "attached.py"

ATTACHABLE = f"""
import os as _os, signal as _signal
def _attached(*_):
    # As a debugger has it run: on the main thread, between any two bytecodes.
    with open({str(ENTRY)!r}, "rb") as file:
        code = compile(file.read(), {str(ENTRY)!r}, "exec")
    names = {{"__name__": "entry", "__file__": {str(ENTRY)!r}, "TICKET": _os.environ["TICKET"]}}
    try:
        exec(code, names)
    except:
        pass
_signal.signal(_signal.SIGUSR1, _attached)
"""
"""Lines by which SIGUSR1 stands for a debugger."""


class RawViewer:
    """Speaks the protocol by hand, so that it does not share the product's client."""

    def __init__(self, path, period_s=0.05, history=False):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self._lines = self.socket.makefile("rb")
        self.job = None  # the last one that came
        self.hello = self.read()
        request = {"type": "subscribe", "protocol": 1, "period_s": period_s, "history": history}
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def read(self):
        line = self._lines.readline()
        if not line:
            raise EOFError
        message = json.loads(line)
        if message["type"] == "job":
            self.job = message
        return message

    def next(self, kind, timeout_s=20.0):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            message = self.read()
            if message["type"] == kind:
                return message
        raise AssertionError(f"no {kind} within {timeout_s} s")

    def now(self):
        """A sample taken after this call."""
        asked = time.time()
        while True:
            sample = self.next("sample")
            if sample["at"] > asked:
                return sample

    def breakdown(self, device="cpu"):
        (row,) = [d["breakdown"] for d in self.now()["devices"] if d["device"] == device]
        return row

    def close(self):
        self._lines.close()
        self.socket.close()


def find_socket(directory, pid, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = list(Path(directory).glob(f"{pid}-*.sock"))
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no socket of {pid} in {directory}")


@pytest.fixture
def runtime_dir(monkeypatch):
    """Short, because a socket's path must fit into 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(path))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start(runtime_dir, tmp_path):
    """Starts Python code as a process of its own, with an injected probe or without."""
    running = []

    def start(code, probed=True, python=sys.executable, name="train.py", **env):
        script = tmp_path / name
        script.write_text((PREAMBLE if probed else "") + code)
        process = subprocess.Popen(
            [python, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def attachable(start, tmp_path):
    """Starts Python code that knows nothing of vramtop; ``attach`` it, when it has printed."""

    def run(code, **options):
        process = start(
            ATTACHABLE + code, probed=False, TICKET=str(tmp_path / "ticket.attach"), **options
        )
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    return run


@pytest.fixture
def attach(tmp_path, runtime_dir):
    """Has the entry run in a process, and gives its answer."""
    ticket = tmp_path / "ticket.attach"
    answer = tmp_path / "ticket.attach.answer"

    def attach(process, directory=runtime_dir, send=True):
        asked = {"action": "attach", "directory": str(directory), "package": str(PACKAGE)}
        ticket.write_text(json.dumps(asked))
        if send:
            process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 30
        while not answer.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no answer"
            time.sleep(0.01)
        assert stat.S_IMODE(answer.stat().st_mode) == 0o600
        said = json.loads(answer.read_text())
        answer.unlink()
        assert not ticket.exists()  # it was taken
        return said

    return attach


@pytest.fixture
def run(start):
    """Runs code to its end: (exit code, stdout, stderr)."""

    def run(code, probed=True, **options):
        process = start(code, probed, **options)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    return run


@pytest.fixture
def connect():
    """Connects a viewer to a process's probe, waiting for its socket."""
    viewers = []

    def connect(directory, pid, **options):
        viewer = RawViewer(find_socket(directory, pid), **options)
        viewers.append(viewer)
        return viewer

    yield connect
    for viewer in viewers:
        viewer.close()


@pytest.fixture(scope="session")
def own_probe():
    """The probe in this very process, counting at every boundary."""
    import torch  # noqa: F401

    from vramtop.probe import discovery
    from vramtop.probe.session import session

    directory = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    before = os.environ.get("VRAMTOP_RUNTIME_DIR")
    os.environ["VRAMTOP_RUNTIME_DIR"] = str(directory)
    try:
        probe = session()
        probe.pace.due_at = lambda: 0.0
        discovery._SEARCH_SPACING_S = 0.0  # a process that trains so many models is no training
        probe.install_hooks()
        assert probe.serve()
    finally:
        if before is None:
            del os.environ["VRAMTOP_RUNTIME_DIR"]
        else:
            os.environ["VRAMTOP_RUNTIME_DIR"] = before
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def viewer(own_probe, connect):
    """A viewer of this very process."""
    import gc

    from vramtop.probe.session import session

    gc.collect()  # what earlier tests trained is no part of this one
    yield connect(own_probe, os.getpid())
    # A round that no later step ends would see, and change, what the tests that follow run.
    for detail in session().observer._details.values():
        detail.stop()


@pytest.fixture
def by_hand():
    """Counts storages the plain way: what a person would write down from the live objects."""
    import torch

    def tensors_in(value):
        if isinstance(value, torch.Tensor):
            if value.is_sparse:
                yield from (value._indices(), value._values())
            else:
                yield value
        elif isinstance(value, dict):
            for item in value.values():
                yield from tensors_in(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from tensors_in(item)

    def by_hand(models, optimizers):
        models = models if isinstance(models, list) else [models]
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        held = [p for m in models for p in m.parameters()]
        held += [p for o in optimizers for g in o.param_groups for p in g["params"]]
        held += [b for m in models for b in m.buffers()]
        gradients = [p.grad for p in held if p.grad is not None]
        states = [dict(o.state) for o in optimizers]
        taken, sums = set(), []
        for group in (held, gradients, states):
            total = 0
            for tensor in tensors_in(group):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in taken:
                    taken.add(storage.data_ptr())
                    total += storage.nbytes()
            sums.append(total)
        return tuple(sums)

    return by_hand


@pytest.fixture
def three():
    """The three counted categories of a breakdown."""
    names = ("parameter_bytes", "gradient_bytes", "optimizer_state_bytes")
    return lambda breakdown: tuple(breakdown[name] for name in names)


@pytest.fixture
def preamble():
    """The lines that put an injected probe into a process."""
    return PREAMBLE
