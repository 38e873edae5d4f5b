"""What the kernel tells of the ends of processes: its OOM killer's counts, and how one ended."""

from __future__ import annotations

import signal
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MAX_BYTES = 1 << 16


def oom_kills() -> int | None:
    """How many processes the OOM killer has killed since boot; None where it does not say."""
    return _count(Path("/proc/vmstat"), "oom_kill")


def memory_cgroup(pid: int) -> Path | None:
    """The process's cgroup (v2), None where there is none or it may not be seen."""
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:  # noqa: PTH123
            for line in file.read(_MAX_BYTES).decode(errors="replace").splitlines():
                if line.startswith("0::"):
                    return _CGROUPS / line[3:].strip("/")
    except OSError:
        return None
    return None


def oom_kills_in(cgroup: Path) -> int | None:
    """The same in one cgroup, by its limit or the machine's."""
    return _count(cgroup / "memory.events", "oom_kill")


def is_running(pid: int, start_ticks: int | None) -> bool:
    """Whether that very process still is; a zombie has ended."""
    fields = _stat(pid)
    if fields is None or fields[0] in {b"Z", b"X"}:
        return False
    return start_ticks is None or int(fields[19]) == start_ticks


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None: there is no such process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def ending_signal(pid: int) -> int | None:
    """The signal that has ended a process, while its parent has not asked yet; else None.

    It is also told of one whose memory is being freed, which is no zombie yet.
    """
    fields = _stat(pid)
    # Of one that has merely stopped the same field names the signal that stopped it.
    if fields is None or (fields[0] not in {b"Z", b"X"} and fields[20] != b"0"):
        return None
    # Exit code as of wait(2), 0 where it may not be seen (proc(5), stat field 52).
    number = int(fields[49]) & 0x7F
    return number if number in set(signal.Signals) else None


def _stat(pid: int) -> list[bytes] | None:
    """From field 3 (state) on: [19] start time, [20] vsize, [49] exit code."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields if len(fields) > 49 else None


def _count(path: Path, name: str) -> int | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            lines = file.read(_MAX_BYTES).splitlines()
    except OSError:  # a cgroup may go between the two
        return None
    for line in lines:
        word, _, value = line.partition(b" ")
        if word == name.encode() and value.strip().isdigit():
            return int(value)
    return None
