"""Plays a recording: a thread that reads on at a pace, and goes to any moment when asked."""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from ...core.fleet import Fleet, reduce
from ...core.outlook import foresee
from ...errors import FileUnreadable
from .checkpoints import Checkpoints, Place
from .index import Index, scan
from .playback import SPEEDS, Playback
from .reader import Reader

_SHOWN_EVERY_S: Final = 0.25
"""A long way is shown as it is gone."""


class Replay:
    """What the app shows in place of a live source; commands never block.

    Every fleet is that of the live run: all snapshots before the moment have passed through the
    reducer, from the nearest checkpoint on.

    Raises:
        FileUnreadable: it is no recording, one of another version, or one without a snapshot.
    """

    def __init__(self, path: Path) -> None:
        self._reader = Reader(path)
        self._checkpoints = Checkpoints(Place(0, Fleet(), self._reader.copy()))
        self._place = self._first()
        self._index = Index(array("d"), "")
        self._changed = threading.Condition()
        self._target: int | None = 0
        """The snapshot to go to, counted from 0."""
        self._speed = 1.0
        self._paused = False
        self._stopping = threading.Event()
        self._since = (0.0, 0.0)
        """(monotonic clock, position) since when the pace is held."""
        self._thread: threading.Thread | None = None
        self._notify: Callable[[], object] = lambda: None
        self._playback = Playback()

    def _first(self) -> Place:
        reader = self._reader.copy()
        snapshot = reader.next()
        if snapshot is None:
            reader.close()
            raise FileUnreadable(f"{reader.path}: {reader.ending or 'there is no snapshot in it'}")
        return Place(1, reduce(Fleet(), snapshot), reader)

    @property
    def shown(self) -> tuple[Fleet, Playback]:
        """The fleet at the moment that was reached last, and where the replay is."""
        with self._changed:
            return self._place.fleet, self._playback

    def start(self, notify: Callable[[], object]) -> None:
        """Begin to play; ``notify`` is called on the thread whenever ``shown`` has changed."""
        self._notify = notify
        self._thread = threading.Thread(target=self._run, name="vramtop-replay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the file."""
        with self._changed:
            if self._stopping.is_set():
                return
            self._stopping.set()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            if self._thread.is_alive():
                return
        self._reader.close()

    # What keys do.

    def toggle_pause(self) -> None:
        """Halt, or go on; at the end from the beginning."""
        with self._changed:
            if self._playback.at_end:
                self._paused = False
                self._go(0)
            else:
                self._paused = not self._paused
            self._hold_pace()

    def change_speed(self, by: int) -> None:
        """The next faster speed, or slower one."""
        with self._changed:
            at = SPEEDS.index(self._speed) + by
            self._speed = SPEEDS[min(max(at, 0), len(SPEEDS) - 1)]
            self._hold_pace()

    def seek(self, by_s: float) -> None:
        """So many seconds on, or back."""
        with self._changed:
            at = self._aim()
            positions_s = self._index.positions_s
            if len(positions_s):
                target = bisect_right(positions_s, positions_s[at] + by_s) - 1
                # However far apart snapshots are, every key moves.
                self._go(min(target, at - 1) if by_s < 0 else max(target, at + 1))

    def step(self, by: int) -> None:
        """So many snapshots on, or back; halts."""
        with self._changed:
            self._paused = True
            self._go(self._aim() + by)

    def seek_end(self, *, last: bool) -> None:
        """To the first snapshot, or the last."""
        with self._changed:
            self._go(len(self._index) - 1 if last else 0)

    def _aim(self) -> int:
        """Where it is going, else where it is; counted from 0."""
        return max(self._place.count - 1, 0) if self._target is None else self._target

    def _go(self, target: int) -> None:
        self._target = min(max(target, 0), max(len(self._index) - 1, 0))
        self._playback = replace(self._playback, is_seeking=True, at_end=False)
        self._changed.notify()

    def _hold_pace(self) -> None:
        self._since = (time.monotonic(), self._playback.position_s)
        self._tell()
        self._changed.notify()

    # The thread.

    def _run(self) -> None:
        with self._changed:
            self._tell()  # the first picture: the index of a long recording takes seconds
        index = scan(self._reader.copy(), lambda: not self._stopping.is_set())
        with self._changed:
            self._index = index
            self._go(0)  # whatever keys have asked for before
        while True:
            with self._changed:
                target = self._target
                while target is None and not self._stopping.is_set():
                    self._changed.wait(self._due_in_s())
                    target = self._due() if self._target is None else self._target
                if self._stopping.is_set():
                    return
            if target is None:
                continue
            try:
                self._advance(target)
            except Exception as error:  # ours, or a recording made to break us: the screen stays
                with self._changed:
                    said = f"internal error: {type(error).__name__}: {error}"
                    self._end_at(self._place.count, said)
                    self._target = None
                    self._tell()

    def _due_in_s(self) -> float | None:
        """Seconds until the next snapshot; None where there is nothing to wait for."""
        count = self._place.count
        if self._paused or count >= len(self._index):
            return None
        clock, position_s = self._since
        due = clock + (self._index.positions_s[count] - position_s) / self._speed
        return max(due - time.monotonic(), 0.0)

    def _due(self) -> int | None:
        """The snapshot that should be shown by now, None where that is the present one."""
        left_s = self._due_in_s()
        if left_s is None or left_s > 0:
            return None
        clock, position_s = self._since
        now_s = position_s + (time.monotonic() - clock) * self._speed
        return bisect_right(self._index.positions_s, now_s) - 1

    def _advance(self, target: int) -> None:
        """Read on to a snapshot, from the nearest place before it; a newer command ends it."""
        sought = self._target is not None
        place = self._place
        nearest = self._checkpoints.before(target + 1)
        if not place.count <= target + 1 or nearest.count > place.count:
            place = nearest
        fleet, reader, count = place.fleet, place.reader.copy(), place.count
        shown_at = time.monotonic()
        while count <= target:
            if time.monotonic() - shown_at > _SHOWN_EVERY_S:
                shown_at = time.monotonic()
                self._show(Place(count, fleet, reader.copy()))
            snapshot = reader.next()
            if snapshot is None:
                self._end_at(count, reader.ending or "")
                break
            fleet, count = reduce(fleet, snapshot), count + 1
            if self._checkpoints.wants(count, target + 1):
                self._checkpoints.keep(Place(count, fleet, reader.copy()))
            if self._stopping.is_set() or (self._target is not None and self._target != target):
                break
        with self._changed:
            if self._target == target:
                self._target = None
        self._show(Place(count, fleet, reader), sought=sought)

    def _show(self, place: Place, *, sought: bool = True) -> None:
        with self._changed:
            self._place = place
            if sought:
                self._since = (time.monotonic(), self._position_s())
            self._tell()

    def _end_at(self, count: int, ending: str) -> None:
        """It can be read no further than this, whatever the index has promised."""
        with self._changed:
            self._index = Index(self._index.positions_s[:count], ending)
            if self._target is not None:
                self._target = min(self._target, max(count - 1, 0))

    def _position_s(self) -> float:
        count = self._place.count
        return self._index.positions_s[count - 1] if 0 < count <= len(self._index) else 0.0

    def _tell(self) -> None:
        self._playback = Playback(
            position_s=self._position_s(),
            length_s=self._index.length_s,
            speed=self._speed,
            is_paused=self._paused,
            is_seeking=self._target is not None,
            at_end=self._target is None and self._place.count >= len(self._index),
            ending=self._index.ending,
        )
        self._notify()


def fleet_at(path: Path, at_s: float | None) -> tuple[Fleet, str]:
    """The fleet at the last snapshot up to so many seconds after the first, None: of all.

    And how the recording ends, a sentence; "" where that is in order, or was not asked.

    Raises:
        FileUnreadable: it is no recording, or one of another version.
    """
    reader = Reader(path)
    try:
        wanted = None
        if at_s is not None:
            wanted = bisect_right(scan(reader.copy()).positions_s, at_s)
        fleet = Fleet()
        while reader.count != wanted and (snapshot := reader.next()) is not None:
            fleet = reduce(fleet, snapshot)
        return foresee(fleet), reader.ending or ""
    finally:
        reader.close()
