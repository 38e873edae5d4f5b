"""Oracle: psutil, which reads the same files with other code."""

import subprocess
import sys
import time
from contextlib import contextmanager

import psutil

from vramtop.sources import procfs
from vramtop.sources.procfs import ProcessTable, resident_bytes, started_at

BUSY = "import time; t = time.time()\nwhile time.time() - t < 30: pass"


def test_a_running_process_is_described_as_psutil_does():
    with subprocess.Popen([sys.executable, "-c", BUSY]) as child:
        try:
            oracle = psutil.Process(child.pid)
            table = ProcessTable()
            table.describe(child.pid)
            oracle.cpu_percent()
            time.sleep(0.5)
            facts, cpu = table.describe(child.pid), oracle.cpu_percent()
            assert facts.state == "running"
            assert facts.user == oracle.username()
            assert facts.command == " ".join(oracle.cmdline())
            assert abs(facts.started_at - oracle.create_time()) < 0.02
            assert started_at(child.pid) == facts.started_at
            assert abs(facts.rss_bytes - oracle.memory_info().rss) < 4 << 20
            assert abs(facts.cpu_percent - cpu) < 15
        finally:
            child.kill()


def test_a_process_that_has_ended_is_gone_not_zero():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    facts = ProcessTable().describe(child.pid)
    assert facts.state in {"gone", "invisible"}  # invisible inside a pid namespace
    assert facts.rss_bytes is None
    assert facts.command is None


def test_a_zombie_counts_as_gone():
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 10
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    facts = ProcessTable().describe(child.pid)
    assert facts.state == "gone"
    assert facts.rss_bytes is None
    assert abs(facts.started_at - psutil.Process(child.pid).create_time()) < 0.02
    child.wait()


def test_the_command_follows_an_exec():
    script = (
        "import os, sys; print(1, flush=True); input()\n"
        "os.execv(sys.executable, [sys.executable, '-c', 'input()', 'new'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()  # before that it may still be the copy of this process
        table = ProcessTable()
        assert "execv" in table.describe(child.pid).command
        child.stdin.write(b"\n")
        child.stdin.flush()
        deadline = time.monotonic() + 10
        while "new" not in psutil.Process(child.pid).cmdline():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        table._known[child.pid].command_read_at -= 10  # as if the refresh were due
        assert table.describe(child.pid).command.endswith("input() new")
        child.kill()


def test_resident_bytes_agree_with_psutil():
    with subprocess.Popen(
        [sys.executable, "-c", "x = b'1' * (64 << 20); print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        child.stdout.readline()
        assert resident_bytes()[child.pid] == psutil.Process(child.pid).memory_info().rss
        child.kill()


def test_the_table_forgets():
    table = ProcessTable()
    table.describe(1)
    table.forget_all_but(set())
    assert not table._known


@contextmanager
def waiting():
    """A process that is past its exec: until then its command line cannot be read."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()


def without_memory(fields):
    """The fields of a stat line as they are once the memory has been freed."""
    return [*fields[:20], b"0", b"0", *fields[22:]]


def test_a_process_whose_memory_has_been_freed_is_gone_under_its_own_name(monkeypatch):
    # Between SIGKILL and the zombie: 0 of memory and no command line, as of a kernel thread.
    with waiting() as child:
        table = ProcessTable()
        alive = table.describe(child.pid)
        fields = without_memory(procfs._stat(child.pid))
        monkeypatch.setattr(procfs, "_stat", lambda pid: fields)
        monkeypatch.setattr(procfs, "_command", lambda pid: "[python3]")
        table._known[child.pid].command_read_at -= 10  # as if the refresh were due
        dying = table.describe(child.pid)
        assert (dying.state, dying.rss_bytes) == ("gone", None)
        assert (dying.command, dying.user) == (alive.command, alive.user)
        assert dying.started_at == alive.started_at


def test_a_process_that_is_swapped_out_is_running(monkeypatch):
    with waiting() as child:
        table = ProcessTable()
        table.describe(child.pid)
        fields = procfs._stat(child.pid)
        monkeypatch.setattr(procfs, "_stat", lambda pid: [*fields[:21], b"0", *fields[22:]])
        found = table.describe(child.pid)
        assert (found.state, found.rss_bytes) == ("running", 0)


def test_a_command_line_lost_between_two_reads_stays_known(monkeypatch):
    with waiting() as child:
        table = ProcessTable()
        command = table.describe(child.pid).command
        monkeypatch.setattr(procfs, "_command", lambda pid: "[python3]")
        table._known[child.pid].command_read_at -= 10
        assert table.describe(child.pid).command == command


def test_a_kernel_thread_never_had_memory_and_runs(monkeypatch):
    with waiting() as child:
        fields = without_memory(procfs._stat(child.pid))
        monkeypatch.setattr(procfs, "_stat", lambda pid: fields)
        monkeypatch.setattr(procfs, "_command", lambda pid: "[kworker/0:1]")
        table = ProcessTable()
        facts = [table.describe(child.pid) for _ in range(2)]
        assert [found.state for found in facts] == ["running", "running"]
        assert facts[1].command == "[kworker/0:1]"
