"""The user's own stages: what memory they began and ended with, and the most in between.

On CUDA devices bytes are allocated bytes of the caching allocator, on the CPU the process's RSS.
Peak counters are read and never reset: a stage that stays below an earlier peak is known by its
ends and the stages inside it only.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from typing import Any

from ..protocol.messages import MAX_STAGES
from .counters import AllocatorReader

_MIB = 1 << 20
_SEPARATOR = " / "
_MAX_DEPTH = 8

Level = tuple[int, int]
"""Bytes now, and the most there has ever been."""


class StageRecord:
    """One stage on one device: its last run, and the most over all runs."""

    def __init__(self, device: str, path: str) -> None:
        self.device = device
        self.path = path
        self.calls = 0
        self.before_bytes = self.after_bytes = self.peak_bytes = 0
        self.seconds = 0.0

    def ended(self, before: Level, after: Level, inner_bytes: int, seconds: float) -> int:
        """It has run once more; gives the most that is known of this run."""
        self.calls += 1
        self.before_bytes, self.after_bytes, self.seconds = before[0], after[0], seconds
        # A mark that has risen was made in here; one that has not may be anybody's.
        risen = after[1] if after[1] > before[1] else 0
        most = max(before[0], after[0], inner_bytes, risen)
        self.peak_bytes = max(self.peak_bytes, most)
        return most


class _Running:
    """A stage on the stack of its thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.levels: dict[str, Level] = {}
        self.began = time.perf_counter()
        self.inner: dict[str, int] = {}


class Stages:
    """All stages of this process."""

    def __init__(self) -> None:
        self.changes = 0
        """Grows whenever a stage has ended."""
        self._records: dict[tuple[str, str], StageRecord] = {}
        self._threads = threading.local()
        self._reader: AllocatorReader | None = None
        self._table_wanted = False

    def begin(self, name: str) -> None:
        """A stage begins on this thread."""
        stack = self._stack()
        path = f"{stack[-1].path}{_SEPARATOR}{name}" if stack else name
        # First of all, so that each end finds its own beginning whatever goes wrong here.
        running = _Running(path)
        stack.append(running)
        if len(stack) <= _MAX_DEPTH:
            running.levels = self._levels()
            for device in running.levels:
                self._record(device, path)
        else:
            running.path = stack[-2].path  # paths are not to grow for ever

    def end(self) -> None:
        """The innermost stage of this thread ends."""
        stack = self._stack()
        if not stack:  # began in another thread, or before a fork
            return
        running = stack.pop()
        seconds = time.perf_counter() - running.began
        for device, after in self._levels().items() if running.levels else ():
            record = self._record(device, running.path)
            if record is None:
                continue
            before = running.levels.get(device, (0, 0))
            most = record.ended(before, after, running.inner.get(device, 0), seconds)
            if stack:
                around = stack[-1].inner
                around[device] = max(around.get(device, 0), most)
        self.changes += 1

    def _record(self, device: str, path: str) -> StageRecord | None:
        """The record of a stage, made as it begins: the outer ones come first."""
        record = self._records.get((device, path))
        if record is None and len(self._records) < MAX_STAGES:
            record = self._records[device, path] = StageRecord(device, path)
        return record

    def message(self) -> dict[str, Any]:
        """The ``stages`` message."""
        return {
            "type": "stages",
            "stages": [
                {
                    "device": record.device,
                    "path": record.path,
                    "calls": record.calls,
                    "before_bytes": record.before_bytes,
                    "after_bytes": record.after_bytes,
                    "peak_bytes": record.peak_bytes,
                    "seconds": round(record.seconds, 6),
                }
                for record in self._ended()
            ],
        }

    def _ended(self) -> list[StageRecord]:
        return [record for record in list(self._records.values()) if record.calls]

    def want_table(self) -> None:
        """Print the table on stderr when the process ends."""
        if not self._table_wanted:
            self._table_wanted = True
            atexit.register(self._print_table, os.getpid())

    def table(self) -> str:
        """The stages as text, in MiB; empty without any."""
        records = self._ended()
        if not records:
            return ""
        rows = [("stage", "device", "calls", "before", "change", "after", "peak", "last s")]
        for record in records:
            change = record.after_bytes - record.before_bytes
            rows.append(
                (
                    record.path,
                    "cpu (RSS)" if record.device == "cpu" else record.device,
                    str(record.calls),
                    f"{record.before_bytes / _MIB:,.1f}",
                    f"{change / _MIB:+,.1f}",
                    f"{record.after_bytes / _MIB:,.1f}",
                    f"{record.peak_bytes / _MIB:,.1f}",
                    f"{record.seconds:.3f}",
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths))
            )
            for row in rows
        ]
        return "\n".join(["vramtop: memory by stage, in MiB", *lines])

    def _print_table(self, pid: int) -> None:
        if os.getpid() == pid:  # a forked child has inherited the wish, not the stages
            text = self.table()
            if text:
                sys.stderr.write(text + "\n")

    def _stack(self) -> list[_Running]:
        stack: list[_Running] | None = getattr(self._threads, "stack", None)
        if stack is None:
            stack = self._threads.stack = []
        return stack

    def _levels(self) -> dict[str, Level]:
        levels = {"cpu": _resident()}
        torch = sys.modules.get("torch")
        if hasattr(torch, "cuda"):
            if self._reader is None:
                self._reader = AllocatorReader(torch)
            try:
                found = self._reader.read()
            except Exception:  # a pluggable allocator counts nothing; the RSS is told all the same
                found = {}
            for device, (_, counters) in found.items():
                levels[device] = (counters["allocated_bytes"], counters["peak_allocated_bytes"])
        return levels


STAGES = Stages()


def _resident() -> Level:
    """RSS and its high-water mark (proc(5): status, VmRSS and VmHWM)."""
    found = {"VmRSS": 0, "VmHWM": 0}
    with open("/proc/self/status") as file:  # noqa: PTH123  on the training thread
        for line in file:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    return found["VmRSS"], found["VmHWM"]
