"""An attach that is given up, by Ctrl-C or by the clock, leaves the process as it was."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vramtop.errors import AttachFailed
from vramtop.inject import debugger, interpreter
from vramtop.inject.attacher import attach
from vramtop.inject.gdb import Gdb
from vramtop.inject.target import Target

# What is interrupted here is gdb; lldb is asked by hand.
# What is given up is an attach that a debugger has begun.
pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")

# Until its input ends it is in Python now and then, or asleep in C but for a moment a line. Says
# everything that reaches it, and at the end what it has loaded.
AWAKE, ASLEEP = "while not select.select([0], [], [], 0.02)[0]: pass", "for _ in sys.stdin: pass"
PROGRAM = """
import select, sys
print("ready", flush=True)
try:
    exec(sys.argv[1])
    print("ended", flush=True)
except BaseException as error:
    print("raised", repr(error), flush=True)
strange = sorted(name for name in sys.modules if "vramtop" in name)
print("modules", strange, flush=True)
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))
    with subprocess.Popen(["sleep", "9"]) as process:
        try:
            Path(f"/proc/{process.pid}/mem").open("rb").close()
        except PermissionError:
            pytest.skip("ptrace is not permitted here")
        finally:
            process.kill()
    return tmp_path / "run"


class Program:
    def __init__(self, loop):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, loop],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def status(self):
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return fields["State"][0], fields["TracerPid"].strip()

    def wake(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def rest(self):
        """What it says once its input has ended."""
        said, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, said
        return said.splitlines()


def left(directory):
    return sorted(path.name for path in directory.iterdir())


def command(program, *options):
    """`vramtop attach`, in a process group of its own as a shell would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "vramtop", "attach", "--once", *options, str(program.pid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def test_a_main_thread_that_sleeps_is_waited_for_and_given_up(runtime):
    told = []
    with Program(ASLEEP) as program:
        with pytest.raises(AttachFailed, match="given up after 2 s: the main thread of process"):
            attach(program.pid, told.append, wait_s=2)
        assert any("waiting for the interpreter: the main thread sleeps" in text for text in told)
        assert any("1 s of 2 s" in text for text in told)
        assert left(runtime) == []
        # The call is still queued, and does nothing when its time comes.
        assert program.rest() == ["ended", "modules []"]
        assert left(runtime) == []


def test_a_main_thread_that_comes_back_in_time_gets_the_probe():
    with Program(ASLEEP) as program:

        def tell(text):
            if "waiting for the interpreter" in text:
                program.wake()

        attached = attach(program.pid, tell)
        assert attached.method == "gdb"
        assert attached.torch is None
        assert 0 < attached.pause_s < 10
        assert 1 < attached.waited_s < 30


def test_ctrl_c_while_waiting(runtime):
    with Program(ASLEEP) as program:
        attaching = command(program)
        ticket = _wait_for(lambda: list(runtime.glob("*.attach")))
        _wait_for(lambda: program.status()[1] == "0" and ticket and _is_past_gdb(attaching))
        os.killpg(attaching.pid, signal.SIGINT)
        out, err = attaching.communicate(timeout=30)
        assert attaching.returncode == 130
        assert out == ""
        assert f"given up; process {program.pid} runs on" in err
        assert left(runtime) == []
        assert program.rest() == ["ended", "modules []"]


def test_ctrl_c_while_gdb_holds_it(runtime, tmp_path, monkeypatch):
    # A gdb that takes its time once it has stopped the process.
    slow = tmp_path / "bin" / "gdb"
    slow.parent.mkdir()
    slow.write_text(
        f"#!/bin/sh\nsed -i '/^attach /a shell sleep 2' script\nexec {shutil.which('gdb')} \"$@\"\n"
    )
    slow.chmod(slow.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    with Program(AWAKE) as program:
        attaching = command(program)
        _wait_for(lambda: program.status()[0] == "t")
        os.killpg(attaching.pid, signal.SIGINT)
        out, err = attaching.communicate(timeout=60)
        assert attaching.returncode == 130, err
        assert out == ""
        assert f"given up; process {program.pid} runs on" in err
        assert program.status()[1] == "0"
        assert program.status()[0] in {"R", "S"}
        assert "ended" in program.rest()
        assert [name for name in left(runtime) if "attach" in name] == []


def test_a_call_that_does_not_return_is_undone(monkeypatch):
    monkeypatch.setattr(debugger, "STOP_LIMIT_S", 2.0)
    with Program(AWAKE) as program:
        target = Target(program.pid)
        found = interpreter.find(target)
        found.addresses["mmap"] = _address_of(target, "pause")
        with pytest.raises(AttachFailed, match="gdb took too long and was told to let go"):
            debugger.queue_line(target, found, Gdb(), "pass")
        assert program.status()[1] == "0"
        assert program.status()[0] in {"R", "S"}
        # Neither the interrupt nor the call that was under way has reached it.
        assert program.rest() == ["ended", "modules []"]


def test_one_that_is_killed_while_it_is_waited_for(runtime):
    with Program(ASLEEP) as program:

        def tell(_):
            program.process.kill()

        with pytest.raises(AttachFailed, match="has ended"):
            attach(program.pid, tell)
        assert left(runtime) == []


def test_tickets_of_the_dead_are_cleared_away(runtime):
    runtime.mkdir(mode=0o700)
    with subprocess.Popen(["true"]) as process:
        pass
    for name in (f"{process.pid}-1-ab.attach", f"{process.pid}-1-ab.attach.answer"):
        (runtime / name).touch()
    mine = runtime / f"{os.getpid()}-{_ticks()}-ab.attach"
    mine.touch()
    with Program(ASLEEP) as program, pytest.raises(AttachFailed):
        attach(program.pid, wait_s=0.2)
    assert left(runtime) == [mine.name]


def _ticks():
    return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]


def _address_of(target, name):
    for mapping in target.mappings():
        if mapping.is_code and Path(mapping.path).name.startswith("libc."):
            file = interpreter.ElfFile(Path(mapping.path))
            return file.symbols({name})[name].address + file.bias(
                mapping.start, mapping.file_offset
            )
    raise AssertionError("no libc")


def _is_past_gdb(process):
    """Whether a process that has started gdb has it no more."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    seen = getattr(process, "has_had_child", False)
    now = any(thread.read_text() for thread in children.parents[1].glob("*/children"))
    process.has_had_child = seen or now
    return seen and not now


def _wait_for(condition, limit_s=60):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError("it did not happen")
