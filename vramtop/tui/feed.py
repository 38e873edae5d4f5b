"""From the source's thread to the screen: one message, however many snapshots wait."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..core.fleet import Fleet, reduce
from ..core.model import Snapshot
from ..core.outlook import foresee
from ..sources.base import SnapshotSource
from ..sources.recording.recorder import Recorder, with_past


class Feed:
    """Keeps what a source delivers until the screen has time for it."""

    def __init__(self, source: SnapshotSource, notify: Callable[[], object]) -> None:
        """``notify`` is called on the source's thread when there was nothing waiting before."""
        self.source = source
        self._notify = notify
        self._lock = threading.Lock()
        self._waiting: list[Snapshot] = []
        self._recorder: Recorder | None = None

    def start(self) -> None:
        """Start the source."""
        self.source.start(self._deliver)

    def drain(self, fleet: Fleet) -> Fleet:
        """The fleet after everything that waits; only the result is worth showing."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for snapshot in waiting:
            fleet = reduce(fleet, snapshot)
        return foresee(fleet) if waiting else fleet

    def stop(self) -> None:
        """End the source."""
        self.source.stop()

    def record(self, recorder: Recorder | None, fleet: Fleet) -> None:
        """Hand every snapshot after the fleet's, and that one, to a recorder; None: no more."""
        with self._lock:
            self._recorder = recorder
            if recorder is not None:
                if not fleet.is_waiting:
                    recorder.take(with_past(fleet))
                for snapshot in self._waiting:
                    recorder.take(snapshot)

    def _deliver(self, snapshot: Snapshot) -> None:
        with self._lock:
            self._waiting.append(snapshot)
            if self._recorder is not None:
                self._recorder.take(snapshot)
            is_first = len(self._waiting) == 1
        if is_first:
            self._notify()
