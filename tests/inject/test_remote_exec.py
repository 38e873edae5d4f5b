"""Python 3.14 takes the probe by itself; run where a ``python3.14`` is on the PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest

from vramtop.errors import AttachFailed, AttachRefused
from vramtop.inject import remote_exec
from vramtop.inject.attacher import attach, detach

PYTHON = shutil.which("python3.14")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="no python3.14 is on the PATH")
BUSY = "print('ready', flush=True)\nwhile True: sum(range(1000))"
ASLEEP = """
import sys, time
print("ready", flush=True)
time.sleep(4)
print([name for name in sys.modules if "vramtop" in name], flush=True)
"""


@pytest.fixture(autouse=True)
def _rendezvous(tmp_path, monkeypatch):
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))


@contextmanager
def running(code, *options, **variables):
    command = [PYTHON, *options, "-c", code]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_is_attached_to_without_being_stopped(monkeypatch):
    with running(BUSY) as process:
        monkeypatch.setattr("vramtop.inject.preflight.Gdb", None)  # no debugger is even looked for
        attached = attach(process.pid)
        assert attached.method == "remote_exec"
        assert attached.python.startswith("3.14.")
        assert attached.pause_s is None
        assert attach(process.pid).method == "cooperative"
        detach(process.pid)
        with pytest.raises(AttachRefused, match="there is no probe"):
            detach(process.pid)
        assert process.poll() is None


def test_a_sleeping_one_is_given_up_and_stays_as_it_was():
    with running(ASLEEP) as process:
        with pytest.raises(AttachFailed, match="given up after 1 s: the main thread"):
            attach(process.pid, wait_s=1)
        assert process.communicate(timeout=30) == ("[]\n", "")
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "variables", "how"),
    [
        (["-X", "disable-remote-debug"], {}, "-X disable-remote-debug"),
        ([], {"PYTHON_DISABLE_REMOTE_DEBUG": "1"}, "PYTHON_DISABLE_REMOTE_DEBUG is set"),
    ],
)
def test_switched_off(options, variables, how, monkeypatch):
    with running(BUSY, *options, **variables) as process:
        with pytest.raises(AttachRefused, match=how):
            attach(process.pid)
        # What the interpreter itself answers, had we not seen it.
        monkeypatch.setattr("vramtop.inject.preflight._check_remote_debug", lambda _: None)
        with pytest.raises((AttachRefused, AttachFailed)) as raised:
            attach(process.pid, wait_s=1)
        assert "remote" in str(raised.value)
        assert process.poll() is None


def test_an_interpreter_that_cannot_be_run_from_here(monkeypatch):
    monkeypatch.setattr(remote_exec, "_interpreter", lambda _: ["/no/such/python"])
    with running(BUSY) as process:
        with pytest.raises(AttachRefused, match=r"cannot be run from here .*run vramtop where it"):
            attach(process.pid)
        assert process.poll() is None
