"""What was read last, and truly, of each process with a probe: kept for when it has ended.

Linux frees a process's memory before it closes its sockets, and while it does no figure of it
means anything: what was read before that stands.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from ..core.model import Process, Snapshot
from ..protocol.postmortem import HISTORY_S
from . import kernel

_MAX_READINGS = 600
"""More than a reading in 0.1 s for as long as a post-mortem's history."""
_LATE_S = 1.0
"""So much later than a sample was taken, and a period, its process's RSS may have been read."""

Message = dict[str, Any]
Readings = tuple[tuple[float, int], ...]
"""(time, RSS in bytes), oldest first."""


class LastSeen:
    """Bounded by the processes in the last snapshot; those that end stay in some of them."""

    def __init__(self) -> None:
        self._rows: dict[int, Process] = {}
        self._resident: dict[int, deque[tuple[float, int]]] = {}
        self._endings: dict[int, int] = {}

    def take(self, machine: Snapshot) -> None:
        """Take in one reading of the machine."""
        watched = [process for process in machine.processes if process.probe.state != "none"]
        rows, resident, endings = {}, {}, {}
        for process in watched:
            pid = process.pid
            before = self._rows.get(pid)
            same = before is not None and process.started_at in {None, before.started_at}
            ends = same and not process.host_rss_bytes
            rows[pid] = _completed(process, before) if before and ends else process
            readings = self._resident.get(pid) if same else None
            readings = deque(maxlen=_MAX_READINGS) if readings is None else readings
            if process.host_rss_bytes:
                readings.append((machine.taken_at, process.host_rss_bytes))
            while readings and machine.taken_at - readings[0][0] > HISTORY_S:
                readings.popleft()
            resident[pid] = readings
            if process.state == "gone":  # not for long can it be asked what has ended it
                ending = kernel.ending_signal(pid) or self._endings.get(pid)
                if ending is not None:
                    endings[pid] = ending
        self._rows, self._resident, self._endings = rows, resident, endings

    def row(self, pid: int) -> Process | None:
        """The process with the last figures that it had; None where it was not seen."""
        return self._rows.get(pid)

    def resident(self, pid: int) -> Readings:
        """The RSS as it was read in the last minute."""
        return tuple(self._resident.get(pid, ()))

    def ending(self, pid: int) -> int | None:
        """The signal that has ended it, where that was seen."""
        return self._endings.get(pid)


def with_resident(
    messages: list[Message], readings: Readings, period_s: float | None
) -> list[Message]:
    """The messages, the process's RSS added to the history of the CPU.

    Args:
        messages: as a probe sends them, which does not say it.
        readings: of the RSS.
        period_s: between two of them, in seconds.
    """
    return [
        {**message, "points": _points(message["points"], readings, _LATE_S + (period_s or 0))}
        if message["type"] == "history" and message.get("device") == "cpu"
        else message
        for message in messages
    ]


def _points(points: list[list[Any]], readings: Readings, near_s: float) -> list[list[Any]]:
    completed = []
    for point in points:
        near = min(readings, key=lambda reading: abs(reading[0] - point[0]), default=None)
        is_known = point[-1] is not None or near is None or abs(near[0] - point[0]) > near_s
        completed.append(point if is_known or near is None else [*point[:-1], near[1]])
    return completed


def _completed(now: Process, before: Process) -> Process:
    """A process as it is now, what cannot be read of it any more as it was."""
    return replace(
        now,
        started_at=now.started_at or before.started_at,
        user=now.user or before.user,
        command=before.command or now.command,
        devices=now.devices
        if any(use.used_bytes for use in now.devices)
        else before.devices or now.devices,
        host_rss_bytes=now.host_rss_bytes or before.host_rss_bytes,
    )
