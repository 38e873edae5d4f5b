"""What is said of an attach, where a probe is there already and says nothing."""

from __future__ import annotations

import subprocess
import sys

from vramtop.inject import attacher
from vramtop.inject.words import in_words

# As a probe whose interpreter is in a call that holds the lock: the kernel takes who connects.
SILENT = """
import os, socket, sys, time
from pathlib import Path
from vramtop.protocol import rendezvous
directory = rendezvous.bind_directory()
rendezvous.ensure_directory(directory)
listening = socket.socket(socket.AF_UNIX)
listening.bind(os.fspath(rendezvous.socket_path(directory, os.getpid())))
listening.listen()
print("listens", flush=True)
time.sleep(60)
"""


def test_a_silent_probe_is_not_said_to_wait_for_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(attacher, "_HELLO_S", 0.2)
    with subprocess.Popen([sys.executable, "-c", SILENT], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"listens\n"
            attached = attacher.attach(process.pid)
        finally:
            process.kill()
    assert (attached.method, attached.python, attached.torch) == ("cooperative", None, None)
    said = in_words(attached)
    assert f"process {process.pid} has a probe already, which does not answer now" in said
    assert "torch" not in said
