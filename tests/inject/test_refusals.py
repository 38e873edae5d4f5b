"""Processes that cannot be attached to: each is made for real, refused with a reason, unharmed."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from vramtop.errors import AttachRefused
from vramtop.inject import debugger, interpreter, permission, place, preflight
from vramtop.inject.attacher import attach, detach
from vramtop.inject.gdb import Gdb
from vramtop.inject.interpreter import Interpreter
from vramtop.inject.target import Target

PYTHON = "import time; print('ready', flush=True)\nwhile True: time.sleep(0.02)"
NOBODY = 65534
IS_ROOT = os.geteuid() == 0
# The refusal is of a process of somebody else, whom only root can make.
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can have another user's process")


@pytest.fixture(autouse=True)
def _rendezvous(tmp_path, monkeypatch):
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))


@contextmanager
def running(*command, ready=True, **how):
    """A process that has printed a line if it shall; killed at the end, unless already dead."""
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **how
    )
    try:
        if ready:
            assert process.stdout.readline()
        else:
            time.sleep(0.1)  # from fork to exec
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def plain(*options, **how):
    return running(sys.executable, *options, "-c", PYTHON, **how)


def refusal(pid):
    with pytest.raises(AttachRefused) as raised:
        attach(pid)
    return str(raised.value)


def state(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return fields["State"][0], fields["TracerPid"].strip()


def in_child(work):
    """What a forked child says that may change its user and filters; it ends there."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "nothing"
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, str(said).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read().decode()
    os.waitpid(pid, 0)
    return said


# Which process.


def test_no_such_process():
    process = subprocess.Popen(["true"])
    process.wait()
    assert refusal(process.pid).startswith(f"there is no process {process.pid};")


def test_a_thread_is_told_from_its_process():
    code = (
        "import threading, time\n"
        "thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)\n"
        "thread.start()\nprint(thread.native_id, flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        thread = int(process.stdout.readline())
        said = refusal(thread)
        assert f"{thread} is a thread of process {process.pid}; attach to {process.pid}" in said
    finally:
        process.kill()
        process.communicate()


def test_a_zombie():
    process = subprocess.Popen(["true"])
    deadline = time.monotonic() + 10
    while state(process.pid)[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "has ended" in refusal(process.pid)
    process.wait()


def test_one_that_ends_between_the_checks():
    with plain() as process:
        target = Target(process.pid)
        assert target.is_alive()
        process.kill()
        process.wait()
        assert not target.is_alive()
        with pytest.raises(AttachRefused, match=f"process {process.pid} has ended"):
            target.refresh()


@pytest.mark.skipif(not IS_ROOT, reason="only root chooses the next pid")
def test_a_pid_that_was_reused_between_the_checks():
    with plain() as process:
        target = Target(process.pid)
        process.kill()
        process.wait()
        time.sleep(0.02)  # the start times of two processes shall differ
        # The kernel gives pids to the whole machine: another process may be quicker.
        if not _reuse(process.pid):
            pytest.skip("the pid went to somebody else")
        try:
            assert Path(f"/proc/{process.pid}").exists()
            assert not target.is_alive()
            with pytest.raises(AttachRefused, match="has ended"):
                target.refresh()
        finally:
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)


def _reuse(pid):
    """Fork a child with that pid; False where that does not succeed."""
    for _ in range(20):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        except OSError:
            return False
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        if child == pid:
            return True
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return False


# What runs in it.


def test_no_python():
    with running("sleep", "60", ready=False) as process:
        said = refusal(process.pid)
        assert (
            said == f"process {process.pid} (sleep) is not a Python process; nothing to attach to"
        )


def test_a_kernel_thread():
    # In a pid namespace of its own, as a container has, there is none.
    if not IS_ROOT or Path("/proc/2/comm").read_text().strip() != "kthreadd":
        pytest.skip("no kernel thread to be seen")
    assert "kernel thread" in refusal(2)


def test_an_old_python():
    found = sorted(Path.home().glob(".pyenv/versions/2.7*/bin/python"))
    found += sorted(Path.home().glob(".pyenv/versions/3.[678].*/bin/python"))
    # Most machines have none left; pyenv has them where vramtop is developed.
    if not found:
        pytest.skip("no Python older than 3.9 is installed")
    code = (
        "import sys, time\n"
        "print('%d.%d' % sys.version_info[:2])\n"
        "sys.stdout.flush()\ntime.sleep(60)"
    )
    for python in found:
        with subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            version = process.stdout.readline().strip()
            try:
                said = refusal(process.pid)
                assert f"runs Python {version}; the probe needs 3.9 or newer" in said
            finally:
                process.kill()


def _file_with_symbols(pid):
    target = Target(pid)
    for mapping in target.mappings():
        name = Path(mapping.path).name
        if "libpython" in name or mapping.path == target.executable:
            file = interpreter.ElfFile(Path(mapping.path))
            if interpreter.ADD_PENDING_CALL in file.symbols({interpreter.ADD_PENDING_CALL}):
                return Path(mapping.path), mapping.path == target.executable
    raise AssertionError("a Python without symbols")


@contextmanager
def _running_copy(folder, change=lambda _: None):
    """A Python whose symbols come from a copy of its file."""
    folder.mkdir(exist_ok=True)
    with plain() as process:
        path, is_executable = _file_with_symbols(process.pid)
    copy = folder / path.name
    shutil.copy(path, copy)
    change(copy)
    environment = dict(os.environ)
    command = [sys.executable]
    if is_executable:
        command = [copy]
        environment["PYTHONHOME"] = sys.base_prefix
    else:
        environment["LD_PRELOAD"] = str(copy)
    with running(*command, "-c", PYTHON, env=environment) as process:
        yield process, copy


def _without_sections(path):
    """What remains of a file whose symbol tables nobody can find: it runs as before."""
    with path.open("r+b") as file:
        file.seek(0x28)  # e_shoff
        file.write(struct.pack("<Q", 0))
        file.seek(0x3C)  # e_shnum, e_shstrndx
        file.write(struct.pack("<HH", 0, 0))


def test_a_python_without_symbols(tmp_path):
    with _running_copy(tmp_path / "lib", _without_sections) as (process, _):
        said = refusal(process.pid)
        assert (
            "is a Python whose symbols are missing (Py_AddPendingCall, PyRun_SimpleString" in said
        )
        assert "vramtop run -- python" in said


def test_a_file_that_was_replaced_since_is_never_called_into(tmp_path):
    with _running_copy(tmp_path / "lib") as (process, copy):
        before = interpreter.find(Target(process.pid))
        other = copy.with_suffix(".other")
        data = bytearray(copy.read_bytes())
        # The same tables, other code: what a rebuilt library looks like from its symbols.
        at = interpreter.ElfFile(copy).symbols({"Py_AddPendingCall"})["Py_AddPendingCall"]
        data[at.file_offset : at.file_offset + 16] = bytes(16)
        other.write_bytes(data)
        other.replace(copy)
        target = Target(process.pid)
        if IS_ROOT:  # who may open what is mapped itself: /proc/PID/map_files
            assert interpreter.find(target).addresses == before.addresses
        else:
            with pytest.raises(AttachRefused, match="replaced since it started"):
                interpreter.find(target)


def test_addresses_are_those_that_the_linker_gave():
    found = interpreter.find(Target(os.getpid()))
    assert found.version == sys.version_info[:2]
    libc = ctypes.CDLL(None)
    assert found.addresses == {
        name: ctypes.cast(function, ctypes.c_void_p).value
        for name, function in {
            "Py_AddPendingCall": ctypes.pythonapi.Py_AddPendingCall,
            "PyRun_SimpleString": ctypes.pythonapi.PyRun_SimpleString,
            "mmap": libc.mmap,
        }.items()
    }


def test_a_library_that_is_none(tmp_path):
    """What is mapped under a name that is worth reading may be anything in a container."""
    short = tmp_path / "libc.so.6"
    short.write_bytes(b"\x7fELF\x02\x01" + bytes(14))
    code = (
        "import mmap, sys, time\nfile = open(sys.argv[1])\n"
        "m = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    with running(sys.executable, "-c", code, short) as process:
        assert interpreter.find(Target(process.pid)).version == sys.version_info[:2]


# What state it is in.


def test_a_stopped_one_stays_stopped():
    with plain() as process:
        process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while state(process.pid)[0] != "T" and time.monotonic() < deadline:
            time.sleep(0.01)
        said = refusal(process.pid)
        assert f"process {process.pid} is stopped; let it go on with: kill -CONT" in said
        assert state(process.pid) == ("T", "0")


@pytest.mark.parametrize("is_seen_before", [True, False])
def test_one_that_is_traced_already(is_seen_before, monkeypatch):
    if not is_seen_before:  # two attaches at once: both look before either has begun
        monkeypatch.setattr(preflight, "check_state", lambda target: target.refresh())
    seize = (
        "import ctypes, sys, time\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.ptrace(0x4206, int(sys.argv[1]), None, None) == 0\n"  # PTRACE_SEIZE
        "print('traced', flush=True)\ntime.sleep(60)"
    )
    with plain() as process:
        tracer = subprocess.Popen(
            [sys.executable, "-c", seize, str(process.pid)], stdout=subprocess.PIPE
        )
        try:
            # A container may forbid ptrace to the test itself.
            if not tracer.stdout.readline():
                pytest.skip("ptrace is not permitted here")
            said = refusal(process.pid)
            if is_seen_before:
                assert f"is already traced by process {tracer.pid}" in said
            else:
                assert f"another debugger holds process {process.pid}" in said
            assert state(process.pid)[1] == str(tracer.pid)
        finally:
            tracer.kill()
            tracer.communicate()


# Who may.


@needs_root
def test_another_users_process():
    with running("sleep", "60", ready=False, user=NOBODY) as process:
        said = refusal(process.pid)
        assert "belongs to nobody; run as that user: sudo -u nobody vramtop attach" in said


@needs_root
def test_a_user_without_a_name():
    with running("sleep", "60", ready=False, user=12345) as process:
        # The shell takes a bare # for the begin of a comment.
        assert "sudo -u '#12345' vramtop attach" in refusal(process.pid)


@needs_root
def test_roots_process_is_none_of_a_users():
    with plain() as process:

        def work():
            os.setuid(NOBODY)
            attach(process.pid)

        assert "belongs to root; run as that user: sudo -u root" in in_child(work)


@needs_root
@pytest.mark.parametrize(
    ("scope", "advice"),
    [
        ("1", "sudo sysctl kernel.yama.ptrace_scope=0"),
        ("2", "sudo sysctl kernel.yama.ptrace_scope=0"),
        ("3", "ptrace_scope is 3 until the next boot"),
    ],
)
def test_yama_forbids_it_to_a_user(scope, advice):
    with tempfile.NamedTemporaryFile("w") as file:  # the other user cannot enter tmp_path
        file.write(f"{scope}\n")
        file.flush()
        Path(file.name).chmod(0o644)
        said = _as_nobody_with(Path(file.name))
    assert advice in said
    assert "vramtop run -- python" in said


def _as_nobody_with(yama):
    with running("sleep", "60", ready=False, user=NOBODY) as process:
        target = Target(process.pid)

        def work():
            os.setuid(NOBODY)
            permission.check_ptrace(target, yama)

        return in_child(work)


def test_yama_is_named_where_the_memory_may_not_be_read(tmp_path, monkeypatch):
    """Under Yama a user may read all of /proc but that: no file is told to lack its symbols."""
    scope = tmp_path / "scope"
    scope.write_text("1\n")
    monkeypatch.setattr(permission, "has_capability", lambda: False)
    check = partial(permission.check_ptrace, yama=scope)
    monkeypatch.setattr(interpreter, "check_ptrace", check)
    with plain() as process:
        target = Target(process.pid)
        seen = tmp_path / "proc"
        seen.mkdir()
        for name in ("exe", "maps", "root", "status"):
            (seen / name).symlink_to(target.proc / name)
        target.proc = seen  # without mem
        with pytest.raises(AttachRefused, match=r"kernel\.yama\.ptrace_scope is 1"):
            interpreter.find(target)


def test_without_yama_a_user_may(tmp_path):
    with plain() as process:
        target = Target(process.pid)
        try:
            (target.proc / "mem").open("rb").close()
        except PermissionError:  # this kernel has Yama, or the container forbids it
            pytest.skip("ptrace is not permitted here")
        permission.check_ptrace(target, tmp_path / "no such file")


@needs_root
def test_one_that_has_made_itself_private():
    code = (
        "import ctypes, time\nctypes.CDLL(None).prctl(4, 0)\n"  # PR_SET_DUMPABLE
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    python = shutil.which("python3", path="/usr/bin")
    if python is None:
        pytest.skip("no Python that another user can run")
    with running(python, "-c", code, user=NOBODY) as process:

        def work():
            os.setuid(NOBODY)
            attach(process.pid)

        said = in_child(work)
        assert "may not be looked at" in said
        assert "PR_SET_DUMPABLE" in said


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the filter names x86-64's calls")
@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_a_seccomp_filter_forbids_ptrace():
    with plain() as process:

        def work():
            _forbid_ptrace()
            attach(process.pid)

        said = in_child(work)
        assert f"AttachRefused: the kernel does not let you debug process {process.pid}" in said
        assert "CAP_SYS_PTRACE" in said
        assert state(process.pid)[0] in {"S", "R"}
        assert process.poll() is None


def _forbid_ptrace():
    """As docker's default profile did before kernel 4.8: EPERM for ptrace(2)."""
    rules = (
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, 101),  # ptrace?
        (0x06, 0, 0, 0x00050001),  # SECCOMP_RET_ERRNO | EPERM
        (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *rule) for rule in rules))
    program = struct.pack("<HxxxxxxQ", len(rules), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0  # PR_SET_SECCOMP


# By which way.


def test_no_debugger_is_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with plain() as process:
        if sys.version_info >= (3, 14):
            pytest.skip("this Python needs no debugger")
        said = refusal(process.pid)
        assert "neither gdb nor lldb is installed: apt install gdb, or dnf install gdb" in said


@pytest.mark.parametrize(
    ("options", "variables", "how"),
    [
        (["-X", "disable-remote-debug"], {}, "-X disable-remote-debug"),
        (["-Xdisable_remote_debug"], {}, "-X disable-remote-debug"),
        ([], {"PYTHON_DISABLE_REMOTE_DEBUG": "1"}, "PYTHON_DISABLE_REMOTE_DEBUG is set"),
    ],
)
def test_remote_debugging_is_switched_off(options, variables, how):
    # A Python before 3.14 takes the option as well, and we take it for a 3.14.
    environment = {**os.environ, **variables}
    with plain(*options, env=environment) as process:
        target = Target(process.pid)
        with pytest.raises(AttachRefused, match=how):
            preflight.choose(target, Interpreter((3, 14)))
    with plain() as process:
        assert preflight.choose(Target(process.pid), Interpreter((3, 14))) is None


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_a_full_disk(tmp_path):
    with plain() as process:

        def attach_it():
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            attach(process.pid)

        said = in_child(attach_it)
        assert said.startswith(f"AttachRefused: nothing can be written into {tmp_path}/run: ")
        assert list((tmp_path / "run").iterdir()) == []

        def debug_it():
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            target = Target(process.pid)
            debugger.queue_line(target, interpreter.find(target), Gdb(), "pass")

        assert in_child(debug_it).startswith("AttachFailed: gdb could not be used: ")
        assert process.poll() is None


def test_two_attaches_copy_the_probe_at_once(tmp_path, monkeypatch):
    copyfile, others = shutil.copyfile, []

    def copy(source, to):
        copyfile(source, to)
        if not others:  # another viewer does the same, and has it done first
            others.append("begun")
            others.append(place._copy_package(tmp_path))

    monkeypatch.setattr(shutil, "copyfile", copy)
    name = place._copy_package(tmp_path)
    assert others == ["begun", name]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "inject/entry/attached.py").is_file()


def test_nothing_to_detach():
    no_probe = "there is no probe of vramtop in process"
    with plain() as process, pytest.raises(AttachRefused, match=no_probe):
        detach(process.pid)


def test_the_command_says_it_in_one_line(tmp_path):
    with running("sleep", "60", ready=False) as process:
        done = subprocess.run(
            [sys.executable, "-m", "vramtop", "attach", str(process.pid), "--once", "--json"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"vramtop: process {process.pid} (sleep) is not a Python process")


@pytest.mark.parametrize("pid", ["0", "-1", "x", "99999999999999"])
def test_what_is_no_pid_is_wrong_usage(pid):
    done = subprocess.run(
        [sys.executable, "-m", "vramtop", "attach", "--", pid], capture_output=True, timeout=60
    )
    assert done.returncode == 2
