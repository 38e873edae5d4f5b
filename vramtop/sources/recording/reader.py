"""Reads a recording, snapshot by snapshot, up to its end or to where it is cut or damaged."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...core.model import Snapshot
from ...errors import FileUnreadable
from .codec import MAX_TEXT, decode
from .lines import Lines
from .shared import ReadObjects

MAGIC: Final = "recording"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What a recorder says of itself before its snapshots."""

    started_at: float
    hostname: str
    vramtop_version: str


class Reader:
    """Gives one snapshot after the other; ``copy`` gives another reader at the same place.

    Raises:
        FileUnreadable: it is no recording, or one of another version; one line says which.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _open(path)
        self._lines = Lines(self._descriptor)
        self._shared = ReadObjects()
        self.count = 0
        """Snapshots read so far."""
        self.ending: str | None = None
        """Why there are no more, a sentence; "" where it ended in order, None before the end."""
        try:
            self.header = self._first()
        except FileUnreadable:
            self.close()
            raise

    def next(self) -> Snapshot | None:
        """The next snapshot; None after the last, and then ``ending`` says why it is."""
        line = self.next_line()
        if line is None:
            return None
        try:
            snapshot = decode(_parsed(line), self._shared)
        except FileUnreadable as error:
            self.refuse(str(error))
            return None
        return snapshot

    def next_line(self) -> bytes | None:
        """The next snapshot as it stands in the file, headers taken in on the way."""
        while self.ending is None:
            line = self._lines.next()
            if line is None:
                self.ending = self._end()
            elif not line.startswith(b'{"vramtop"'):
                self.count += 1
                return line
            else:
                try:
                    _header(_parsed(line))
                except FileUnreadable as error:
                    self.ending = self._damaged(str(error))
                self._shared = ReadObjects()
        return None

    def refuse(self, why: str) -> None:
        """End before the line that was read last: it is no snapshot."""
        self.count -= 1
        self.ending = self._damaged(why)

    def copy(self) -> Reader:
        """As it is now, whatever is read afterwards; it ends with the one it was copied from."""
        other = Reader.__new__(Reader)
        other.path, other.header, other._descriptor = self.path, self.header, self._descriptor
        other._lines, other._shared = self._lines.copy(), self._shared.copy()
        other.count, other.ending = self.count, self.ending
        return other

    def close(self) -> None:
        """Close the file, for all copies."""
        os.close(self._descriptor)

    def _first(self) -> Header:
        line = self._lines.next()
        if line is None:
            raise FileUnreadable(f"{self.path} is no recording of vramtop")
        try:
            return _header(_parsed(line))
        except _OtherVersion as error:
            raise FileUnreadable(f"{self.path}: {error}") from None
        except FileUnreadable:
            raise FileUnreadable(f"{self.path} is no recording of vramtop") from None

    def _end(self) -> str:
        if self._lines.damage:
            return self._damaged(self._lines.damage)
        if self._lines.has_part:
            end = "in the middle of a snapshot: cut after"
            return f"the recording ends {end} {_snapshots(self.count)}"
        if self._lines.is_cut:
            end = "was not ended in order, or is still being written"
            return f"the recording {end}; it has {_snapshots(self.count)}"
        return ""

    def _damaged(self, why: str) -> str:
        return f"the recording is damaged after {_snapshots(self.count)} and read no further: {why}"


class _OtherVersion(FileUnreadable):
    """It is a recording, but not one that this vramtop can read."""


def _snapshots(count: int) -> str:
    return f"{count} snapshot{'s' * (count != 1)}"


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileUnreadable(f"{path} is no file")
    return descriptor


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise FileUnreadable("a line is not JSON") from None


def _header(value: Any) -> Header:
    if not isinstance(value, dict) or value.get("vramtop") != MAGIC:
        raise FileUnreadable("no recording of vramtop")
    version, written_by = value.get("version"), str(value.get("vramtop_version"))[:40]
    if version != VERSION:
        shown = version if isinstance(version, int) else "?"
        raise _OtherVersion(
            f"written by vramtop {written_by} in version {str(shown)[:20]} of the format; "
            f"this vramtop reads version {VERSION}"
        )
    started_at, hostname = value.get("started_at"), value.get("hostname")
    if isinstance(started_at, bool) or not isinstance(started_at, int | float):
        raise FileUnreadable("a header without a time")
    if not 0 <= started_at < 1e11 or not isinstance(hostname, str) or len(hostname) > MAX_TEXT:
        raise FileUnreadable("a header that is none")
    return Header(started_at, hostname, written_by)
