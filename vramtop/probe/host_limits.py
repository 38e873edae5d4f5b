"""How much memory the host would still give this process, and what sets the limit."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CGROUPS = Path("/sys/fs/cgroup")

ADDRESS_SPACE, CGROUP, RAM = "address_space", "cgroup", "ram"


class Room(NamedTuple):
    """Bytes free below the limit that is nearest, and that limit."""

    limited_by: str
    free_bytes: int
    total_bytes: int


def room() -> Room | None:
    """The least room of all limits that can be read, None where none can."""
    found = [limit for limit in (_address_space(), _cgroup(), _ram()) if limit is not None]
    return min(found, key=lambda limit: limit.free_bytes) if found else None


def resident_bytes() -> int:
    """RSS of this process (proc(5), statm field 2)."""
    return _statm(1)


def _statm(field: int) -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  on the training thread
        return int(file.read().split()[field]) * _PAGE_BYTES


def _address_space() -> Room | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    return Room(ADDRESS_SPACE, max(0, limit - _statm(0)), limit)


def _cgroup() -> Room | None:
    """Of the memory controller of cgroup v2, the tightest on the way to the root."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next((line[3:] for line in lines if line.startswith("0::")), None)
        if own is None:
            return None
        folder = _CGROUPS / own.strip("/")
        found = None
        for group in (folder, *folder.parents):
            limit = _number(group / "memory.max")
            used = _number(group / "memory.current")
            if limit is not None and used is not None:
                used -= _cached(group)
                room = Room(CGROUP, min(max(0, limit - used), limit), limit)
                if found is None or room.free_bytes < found.free_bytes:
                    found = room
            if group == _CGROUPS:
                break
        return found
    except (OSError, ValueError):
        return None


def _cached(group: Path) -> int:
    """What was read of files, which the kernel gives up first: it fills a cgroup to its limit."""
    lines = [line.split() for line in (group / "memory.stat").read_text().splitlines()]
    return sum(int(size) for name, size in lines if name in ("active_file", "inactive_file"))


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _ram() -> Room | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = {line.partition(":")[0]: line.split()[1] for line in lines if len(line.split()) > 1}
    try:
        return Room(RAM, int(sizes["MemAvailable"]) << 10, int(sizes["MemTotal"]) << 10)
    except (KeyError, ValueError):
        return None
