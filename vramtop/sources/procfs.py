"""What /proc says about processes; plain reads, since this runs for every process at every tick.

psutil spends ten times as long on the same fields; it stays the oracle in the tests.
"""

from __future__ import annotations

import os
import pwd
import re
import time
from dataclasses import dataclass
from functools import lru_cache

from ..core.model import ProcessState

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_CONTAINER = re.compile(
    rb"(?:docker[-/]|libpod-|cri-containerd-|crio-|containers?/|/)([0-9a-f]{64})\b"
)
_COMMAND_AGE_S = 5.0
_COMMAND_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One process as /proc shows it now; None where it may not be read."""

    state: ProcessState
    started_at: float | None = None
    user: str | None = None
    command: str | None = None
    rss_bytes: int | None = None
    cpu_percent: float | None = None
    container: str | None = None


@dataclass(slots=True)
class _Known:
    ticks: int
    user: str
    container: str | None
    command: str | None
    command_read_at: float
    cpu_ticks: int
    cpu_read_at: float
    had_memory: bool = False


class ProcessTable:
    """Describes processes, remembering what does not change; ask once per tick and process."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._boot_time = _boot_time()
        self._sees_all_pids = _sees_all_pids()

    def describe(self, pid: int) -> ProcessFacts:
        """The facts of a process; a pid that cannot be seen gives its state and nothing else."""
        try:
            fields = _stat(pid)
        except (OSError, ValueError, IndexError):
            self._known.pop(pid, None)
            return ProcessFacts(state=self._missing(pid))
        if fields[0] in {b"Z", b"X"}:
            return self._ended(pid, int(fields[19]))
        now = time.monotonic()
        cpu_ticks = int(fields[11]) + int(fields[12])
        ticks = int(fields[19])
        known = self._known.get(pid)
        cpu_percent = None
        if known is None or known.ticks != ticks:
            known = _Known(ticks, _user(pid), _container(pid), _command(pid), now, cpu_ticks, now)
            self._known[pid] = known
        elif known.had_memory and not int(fields[20]):
            # Killed, and no zombie yet: Linux has freed its memory and with it the command line.
            return self._ended(pid, ticks)
        else:
            age_s = now - known.command_read_at
            if age_s > _COMMAND_AGE_S or _is_name(known.command):  # exec keeps pid and start time
                command = _command(pid)
                # Without the memory that it is read from, there is a name alone: in an exec, and
                # when the process has been killed since its stat was read.
                if known.command is None or not _is_name(command):
                    known.command = command
                known.command_read_at = now
            elapsed = now - known.cpu_read_at
            if elapsed > 0:
                cpu_percent = 100.0 * (cpu_ticks - known.cpu_ticks) / _TICKS_PER_S / elapsed
            known.cpu_ticks, known.cpu_read_at = cpu_ticks, now
        known.had_memory = known.had_memory or int(fields[20]) > 0
        return ProcessFacts(
            state="running",
            started_at=self._boot_time + ticks / _TICKS_PER_S,
            user=known.user,
            command=known.command,
            rss_bytes=int(fields[21]) * _PAGE_BYTES,
            cpu_percent=cpu_percent,
            container=known.container,
        )

    def forget_all_but(self, pids: set[int]) -> None:
        """Drop what is remembered about other processes, so that the table stays bounded."""
        for pid in self._known.keys() - pids:
            del self._known[pid]

    def _ended(self, pid: int, ticks: int) -> ProcessFacts:
        """A zombie, or soon one: its memory is gone, its name in /proc as well."""
        known = self._known.get(pid)
        same = known if known is not None and known.ticks == ticks else None
        return ProcessFacts(
            state="gone",
            started_at=self._boot_time + ticks / _TICKS_PER_S,
            user=same.user if same else None,
            command=same.command if same else None,
            container=same.container if same else None,
        )

    def _missing(self, pid: int) -> ProcessState:
        if not self._sees_all_pids:
            return "invisible"
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return "gone"
        except (OSError, OverflowError):
            return "invisible"
        return "invisible"  # alive, yet /proc hides it (hidepid)


def started_at(pid: int) -> float:
    """Start time of a process in seconds since the epoch.

    Raises:
        OSError: there is no such process, or /proc hides it.
    """
    return _boot_time() + int(_stat(pid)[19]) / _TICKS_PER_S


def resident_bytes() -> dict[int, int]:
    """RSS of every visible process by pid; kernel threads, which have none, are left out."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  half the cost of pathlib
        if name.isdigit():
            try:
                with open(f"/proc/{name}/statm", "rb") as file:  # noqa: PTH123
                    pages = int(file.read().split()[1])
            except (OSError, IndexError, ValueError):
                continue  # it has exited meanwhile
            if pages:
                found[int(name)] = pages * _PAGE_BYTES
    return found


def _stat(pid: int) -> list[bytes]:
    """proc(5) stat from field 3 (state) on.

    [11] utime, [12] stime, [19] start, [20] vsize, [21] rss.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        return file.read().rpartition(b")")[2].split()


@lru_cache(maxsize=1)
def _boot_time() -> float:
    with open("/proc/stat", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"btime "):
                return float(line.split()[1])
    return 0.0


def _sees_all_pids() -> bool:
    try:
        return os.readlink("/proc/self/ns/pid") == _INITIAL_PID_NAMESPACE  # noqa: PTH115
    except OSError:
        return False


def _user(pid: int) -> str:
    uid = os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _container(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:  # noqa: PTH123
            match = _CONTAINER.search(file.read())
    except OSError:
        return None
    return match[1][:12].decode() if match else None


def _is_name(command: str | None) -> bool:
    """Whether it is what stands for a command line that cannot be read."""
    return command is None or command.startswith("[")


def _command(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            raw = file.read(_COMMAND_MAX_BYTES)
        if not raw:
            with open(f"/proc/{pid}/comm", "rb") as file:  # noqa: PTH123
                return f"[{file.read().decode(errors='replace').strip()}]"
    except OSError:
        return None
    return raw.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
