"""Processes that ended without a word: what is known of them is written down by the viewer.

The socket of a process closes a moment before it is gone, and an exec or a fault of the probe
closes one of a process that lives on: so it is waited until the process has ended.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.failure import Failure
from ..core.model import Device, DeviceUse, Probe, Process, Snapshot
from ..errors import FileUnreadable, ProtocolError
from ..protocol.postmortem import SCHEMA, SUFFIX, encode, write
from ..protocol.rendezvous import SUFFIX as SOCKET_SUFFIX
from . import fields, kernel, postmortem
from .last_seen import LastSeen, Readings, with_resident
from .last_words import LastWords
from .signals import was_asked_to_end

_PATIENCE_S = 10.0
_ASKED_TO_END = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_MAX_WAITING = 64

Found = Callable[[int, Probe], None]


@dataclass(frozen=True, slots=True)
class Marks:
    """The OOM killer's counts when a process was first seen, and which process it is."""

    pid: int
    start_ticks: int | None
    cgroup: Path | None
    in_cgroup: int | None

    @classmethod
    def of(cls, pid: int) -> Marks:
        """Of a process, by the pid as we see it."""
        cgroup = kernel.memory_cgroup(pid)
        in_cgroup = None if cgroup is None else kernel.oom_kills_in(cgroup)
        return cls(pid, kernel.start_ticks(pid), cgroup, in_cgroup)


@dataclass(frozen=True, slots=True)
class _Closed:
    at: float
    socket: Path
    marks: Marks
    probe: Probe
    words: LastWords
    machine: Snapshot | None
    kills_before: int | None
    row: Process | None
    """The process as it was seen last."""
    resident: Readings
    ending: int | None
    """The signal that has ended it, where that was seen."""
    was_asked: bool
    """Its end is by a key of this viewer's."""


class Lost:
    """Told of every socket that closed without a bye; used from the thread that reads."""

    def __init__(self) -> None:
        self._machine: Snapshot | None = None
        self._seen = LastSeen()
        self._waiting: list[_Closed] = []
        self._kills: int | None = None

    def see(self, machine: Snapshot) -> None:
        """Take in what was read of the machine and its processes."""
        self._machine = machine
        self._seen.take(machine)

    def look(self) -> None:
        """Note the OOM killer's count, while all is well."""
        if not self._waiting:
            self._kills = kernel.oom_kills()

    def closed(self, socket: Path, marks: Marks, probe: Probe, words: LastWords) -> None:
        """A socket has closed without a bye; the probe's last state."""
        if len(self._waiting) < _MAX_WAITING:
            pid = marks.pid
            self._waiting.append(
                _Closed(
                    at=time.monotonic(),
                    socket=socket,
                    marks=marks,
                    probe=probe,
                    words=words,
                    machine=self._machine,
                    kills_before=self._kills,
                    row=self._seen.row(pid),
                    resident=self._seen.resident(pid),
                    ending=kernel.ending_signal(pid) or self._seen.ending(pid),
                    was_asked=was_asked_to_end(pid, marks.start_ticks),
                )
            )

    def add_machine(self, socket: Path, pid: int) -> None:
        """Put what is known of the machine into the file that a process has written itself."""
        path = _own_file(socket)
        if path is None or self._machine is None:
            return
        with suppress(FileUnreadable, OSError, ValueError):
            data = postmortem.content(path)
            if postmortem.decode(data, str(path)).snapshot.devices:
                return  # another viewer was first
            row = self._seen.row(pid)
            contents = {**json.loads(data), "host": _host(self._machine, row)}
            contents["user"] = contents.get("user") or (None if row is None else row.user)
            write(path, encode(contents), overwrite=True)

    def settle(self, found: Found) -> None:
        """Tell of each process that has ended since: its pid, and its probe with the failure."""
        for closed in list(self._waiting):
            pid = closed.marks.pid
            # Of another pid namespace nothing can be seen.
            if pid <= 0 or not kernel.is_running(pid, closed.marks.start_ticks):
                self._waiting.remove(closed)
                found(pid, self._with_failure(closed))
            elif time.monotonic() - closed.at > _PATIENCE_S:
                self._waiting.remove(closed)  # it lives on, its probe does not
                found(pid, replace(closed.probe, ended=None))

    def _with_failure(self, closed: _Closed) -> Probe:
        probe = replace(closed.probe, ended="lost")
        own = _own_file(closed.socket)
        if own is not None:
            self.add_machine(closed.socket, closed.marks.pid)
            try:
                failure = postmortem.read(own).failure
            except FileUnreadable:
                return probe
            if not replace(probe, failure=failure).has_outlived_failure:
                return replace(probe, failure=failure)
        ending = kernel.ending_signal(closed.marks.pid) or closed.ending
        if ending in _ASKED_TO_END or closed.was_asked:
            return probe
        strikes = _strikes(closed)
        if not probe.devices and ending is None and not strikes:
            return probe  # before its first step it may as well have ended in order
        failure = Failure(
            kind="lost",
            at=time.time(),
            step=probe.step,
            phase=_last_phase(probe),
            message=_circumstances(ending, strikes),
        )
        return replace(probe, failure=_written(closed, failure))


def _circumstances(ending: int | None, strikes: list[str]) -> str | None:
    said = [] if ending is None else [f"{signal.Signals(ending).name} ended it"]
    return "; ".join([*said, *strikes]) or None


def _strikes(closed: _Closed) -> list[str]:
    """What the kernel says of its OOM killer since all was well."""
    said = []
    cgroup, before = closed.marks.cgroup, closed.marks.in_cgroup
    after = None if cgroup is None else kernel.oom_kills_in(cgroup)
    if before is not None and after is not None and after > before:
        said.append(f"the OOM killer has struck in its cgroup (oom_kill {before} → {after})")
    before, after = closed.kills_before, kernel.oom_kills()
    if before is not None and after is not None and after > before:
        said.append(f"the kernel's OOM killer has struck meanwhile (oom_kill {before} → {after})")
    return said


def _written(closed: _Closed, failure: Failure) -> Failure:
    own = _own_file(closed.socket)
    number = 0 if own is None else _number(own) + 1
    path = closed.socket.with_name(f"{_stem(closed.socket)}-{number}{SUFFIX}")
    failure = replace(failure, file=str(path))
    try:
        write(path, encode(_document(closed, failure)), overwrite=False)
    except FileExistsError:
        pass  # another viewer's, of the same end
    except (OSError, ValueError):
        return replace(failure, file=None)
    return failure


def _document(closed: _Closed, failure: Failure) -> dict[str, Any]:
    hello = closed.words.hello
    row = closed.row
    argv = hello.get("argv")
    period_s = None if closed.machine is None else closed.machine.period_s
    said = " ".join(map(str, argv)) if isinstance(argv, list) else None
    return {
        "schema": SCHEMA,
        "written_at": time.time(),
        "written_by": "viewer",
        "pid": abs(closed.marks.pid),
        "start_time": _start_time(hello),
        "user": None if row is None else row.user,
        "command": row.command if row is not None and row.command else said,
        "failure": _message(failure, closed.probe.caught_ooms),
        "traceback": None,
        "messages": with_resident(closed.words.messages(), closed.resident, period_s),
        "rss_bytes": None if row is None else row.host_rss_bytes,
        "host": None if closed.machine is None else _host(closed.machine, row),
        "prediction": None,
    }


def _start_time(hello: dict[str, Any]) -> float | None:
    """As the probe said it, which nobody has looked at yet: a reader would refuse the file."""
    with suppress(ProtocolError):
        return fields.moment({"at": hello.get("start_time")})
    return None


def _stem(socket: Path) -> str:
    return socket.name[: -len(SOCKET_SUFFIX)]


def _own_file(socket: Path) -> Path | None:
    """The last file that the process has written, None where there is none."""
    files = socket.parent.glob(f"{_stem(socket)}-*{SUFFIX}")
    return max(files, key=_number, default=None)


def _number(path: Path) -> int:
    number = path.name[: -len(SUFFIX)].rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _last_phase(probe: Probe) -> str | None:
    boundaries = [device.boundary for device in probe.devices if device.boundary is not None]
    return boundaries[0] if boundaries else None


def _message(failure: Failure, caught_ooms: int) -> dict[str, Any]:
    return {
        "type": failure.kind,
        "at": failure.at,
        "step": failure.step,
        "phase": failure.phase,
        "message": failure.message,
        "caught_ooms": caught_ooms,
        "file": failure.file,
    }


def _host(machine: Snapshot, row: Process | None) -> dict[str, Any]:
    host = machine.host
    uses = {} if row is None else {use.uuid: use for use in row.devices}
    return {
        "hostname": host.hostname,
        "ram_total_bytes": host.ram_total_bytes,
        "ram_used_bytes": host.ram_used_bytes,
        "cpu_percent": host.cpu_percent,
        "driver_version": host.driver_version,
        "cuda_driver_version": host.cuda_driver_version,
        "devices": [
            _device(device, uses[device.uuid]) for device in machine.devices if device.uuid in uses
        ],
    }


def _device(device: Device, use: DeviceUse) -> dict[str, Any]:
    return {
        "index": device.index,
        "uuid": device.uuid,
        "name": device.name,
        "backend": device.backend,
        "total_bytes": device.memory.total_bytes,
        "used_bytes": device.memory.used_bytes,
        "free_bytes": device.memory.free_bytes,
        "driver_reserved_bytes": device.memory.driver_reserved_bytes,
        "process_bytes": use.used_bytes,
        "kind": use.kind,
    }
