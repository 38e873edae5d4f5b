"""Commands with and without `vramtop run`, a probe stand-in, and a viewer that shares no code."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vramtop

PACKAGE = Path(vramtop.__file__).parent
UNDER_RUN = [sys.executable, "-m", "vramtop", "run", "--"]


@pytest.fixture(scope="session")
def make_environment():
    """The environment of a user who has never heard of vramtop, but for the runtime directory."""
    dropped = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONSAFEPATH", "PYTHONHASHSEED"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return lambda runtime_directory: {**kept, "VRAMTOP_RUNTIME_DIR": str(runtime_directory)}


@pytest.fixture
def plain_environment(make_environment, tmp_path):
    return make_environment(tmp_path / "run")


@pytest.fixture
def stub(tmp_path):
    """A copy of the real sitecustomize beside a probe whose `boot.install` writes its pid down."""
    return Stub(tmp_path / "stub")


class Stub:
    def __init__(self, directory):
        self.site = directory / "inject" / "site"
        self.site.mkdir(parents=True)
        shutil.copy(PACKAGE / "inject" / "site" / "sitecustomize.py", self.site)
        (directory / "probe").mkdir()
        (directory / "probe" / "__init__.py").touch()
        self.pids = directory / "pids"
        self.pids.touch()
        self.boot = directory / "probe" / "boot.py"
        self.boot.write_text(
            "import os\n"
            "def install():\n"
            f"    with open({str(self.pids)!r}, 'a') as file:\n"
            "        file.write('%d\\n' % os.getpid())\n"
        )

    def environment(self, base):
        before = base.get("PYTHONPATH")
        return {**base, "PYTHONPATH": f"{self.site}:{before}" if before else str(self.site)}

    def booted(self):
        return [int(line) for line in self.pids.read_text().split()]


class Viewer:
    """Speaks the protocol as its specification says it, with nothing of ours."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))  # waits while the backlog is full
        self.socket.settimeout(10)
        self._file = self.socket.makefile("rb")

    def subscribe(self, period_s=0.05, **extra):
        message = {"type": "subscribe", "protocol": 1, "period_s": period_s, "history": False}
        self.send(json.dumps({**message, **extra}).encode() + b"\n")

    def send(self, data):
        self.socket.sendall(data)

    def until(self, kind):
        for line in self._file:
            message = json.loads(line)
            if message["type"] == kind:
                return message
        raise AssertionError(f"the probe hung up before it sent a {kind}")

    def close(self):
        self._file.close()
        self.socket.close()


@pytest.fixture(scope="session")
def connect():
    return Viewer


@pytest.fixture(scope="session")
def tiny_training():
    """The command of a training that takes milliseconds a step."""
    script = Path(__file__).with_name("tiny_training.py")
    return lambda *arguments: [sys.executable, str(script), *map(str, arguments)]


@pytest.fixture(scope="session")
def wait_for():
    def wait_for(condition, *, limit_s=30.0, what="the condition"):
        deadline = time.monotonic() + limit_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"waited {limit_s} s for {what}"
            time.sleep(0.02)
        return value

    return wait_for


@pytest.fixture(scope="session")
def start():
    """Starts a command, with `vramtop run` before it or as it is; pipes unless told otherwise."""

    def start(command, *, under_run=True, **kwargs):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        before = UNDER_RUN if under_run else []
        return subprocess.Popen([*before, *map(str, command)], **{**pipes, **kwargs})

    return start


@pytest.fixture
def both(start, plain_environment):
    """Runs a command as it is and under `vramtop run`, at the same time: two finished processes."""

    def both(command, *, stdin=b"", do=None, env=None, **kwargs):
        environment = {**plain_environment, **(env or {})}
        processes = [
            start(command, under_run=under_run, env=environment, **kwargs)
            for under_run in (False, True)
        ]
        if do:
            for process in processes:
                do(process)
        done = []
        for process in processes:
            out, err = process.communicate(stdin, timeout=60)
            done.append(subprocess.CompletedProcess(command, process.returncode, out, err))
        return done

    return both
