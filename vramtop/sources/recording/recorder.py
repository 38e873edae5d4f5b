"""Records beside the screen: snapshots are handed over and written by a thread of its own."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Final

from ...core.fleet import Fleet
from ...core.model import Snapshot
from ...errors import VramtopError
from .writer import Writer

_WAITING: Final = 64
"""Snapshots that may wait for a slow disk; more are dropped and counted."""
_CLOSE_S: Final = 3.0


class Recorder:
    """A recording under way.

    Raises:
        VramtopError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        """Why it has stopped by itself, one line; "" while it goes on."""
        self.dropped = 0
        self._writer = Writer(path)
        self._queue: Queue[Snapshot | None] = Queue(_WAITING)
        self._thread = threading.Thread(target=self._write, name="vramtop-recorder", daemon=True)
        self._thread.start()

    def take(self, snapshot: Snapshot) -> None:
        """Record a snapshot; never blocks."""
        try:
            self._queue.put_nowait(snapshot)
        except Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits and end the file, 3 s at most."""
        if self._thread.is_alive():
            try:
                self._queue.put(None, timeout=_CLOSE_S)
            except Full:
                return  # a disk that hangs; the daemon thread dies with the process
            self._thread.join(_CLOSE_S)

    @property
    def count(self) -> int:
        """Snapshots that were written."""
        return self._writer.count

    @property
    def written_bytes(self) -> int:
        """Size of this run's part of the file."""
        return self._writer.written_bytes

    def _write(self) -> None:
        with self._writer as writer:
            try:
                while (snapshot := self._queue.get()) is not None:
                    writer.write(snapshot)
            except VramtopError as error:
                self.problem = str(error)
            except Exception as error:  # ours: the screen goes on and says so
                self.problem = f"{self.path}: internal error: {type(error).__name__}: {error}"
        while self.problem:  # whoever waits for room need not
            try:
                self._queue.get_nowait()
            except Empty:
                return


def with_past(fleet: Fleet) -> Snapshot:
    """The newest snapshot, with the past of its processes, which snapshots tell only once."""
    processes = []
    for process in fleet.snapshot.processes:
        past = {
            part.device: tuple(fleet.histories[process.key, part.device])
            for part in process.probe.devices
            if (process.key, part.device) in fleet.histories
        }
        probe = replace(process.probe, history=past or None)
        processes.append(replace(process, probe=probe))
    return replace(fleet.snapshot, processes=tuple(processes))
