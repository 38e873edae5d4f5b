"""Each debugger by itself, where nothing else is on the PATH and the user's shell is none."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vramtop.errors import AttachRefused
from vramtop.inject import attacher
from vramtop.inject.debugger import Debugger
from vramtop.inject.gdb import Gdb

# There the interpreter takes the code by itself: test_remote_exec.
pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python 3.14 needs no debugger")

COUNTS = "import time\nfor i in range(10**6): print(i, flush=True); time.sleep(0.01)"


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A plain Python process that may be debugged."""
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))
    with subprocess.Popen(
        [sys.executable, "-c", COUNTS], stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        try:
            Path(f"/proc/{process.pid}/mem").open("rb").close()  # the check that ptrace makes
            yield process
        except PermissionError:
            # A container without CAP_SYS_PTRACE, or Yama: the refusal is tested instead.
            pytest.skip("the kernel does not permit ptrace here")
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["gdb", "lldb"])
def test_it_attaches(name, process, tmp_path, monkeypatch):
    program = shutil.which(name)
    if program is None:  # neither comes with pip; a machine has one of them, if any
        pytest.skip(f"{name} is not installed")
    only = tmp_path / "bin"
    only.mkdir()
    for tool in {program, shutil.which("date")}:
        (only / Path(tool).name).symlink_to(tool)
    monkeypatch.setenv("PATH", str(only))
    # A service's user has such a shell; a cluster's modules set such a home, for another Python
    # than that in the debugger.
    monkeypatch.setenv("SHELL", "/usr/sbin/nologin")
    monkeypatch.setenv("PYTHONHOME", str(tmp_path / "none"))
    attached = attacher.attach(process.pid)
    assert attached.method == name
    assert attached.python == sys.version.split()[0]
    assert attached.torch is None
    assert 0 < attached.pause_s < 10
    assert attacher.attach(process.pid).method == "cooperative"
    attacher.detach(process.pid)
    with pytest.raises(AttachRefused, match="there is no probe"):
        attacher.detach(process.pid)
    assert process.poll() is None
    assert process.stdout.readline()
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("vramtop: stopping 1700000000.250000000", "1700000000.250000000"),
        ("vramtop: stopping 1700000000.", None),  # musl's date knows no %N
        ("vramtop: stopping 1700000000.%N", None),  # nor does busybox's
    ],
)
def test_a_date_without_nanoseconds_tells_no_time(line, said):
    debugger: Debugger = Gdb()
    (time,) = re.search(debugger.stopping, line).groups()
    assert time == said
