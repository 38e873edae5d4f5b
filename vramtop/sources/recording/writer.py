"""Appends snapshots to a recording, each flushed, so that a crash loses at most the last one."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from ... import __version__
from ...core.model import Snapshot
from ...errors import VramtopError
from .codec import encode
from .lines import MAX_LINE_BYTES, ending
from .mending import mend
from .reader import MAGIC, VERSION, Reader
from .shared import WrittenObjects, compact

_LEVEL: Final = 6
_PRIVATE: Final = 0o600
"""Command lines of other users are in it."""


class Writer:
    """One run of a recorder: one more gzip member at the end of the file.

    Raises:
        FileUnreadable: the file is there and is no recording, or one of another version.
        VramtopError: it cannot be written, or another recorder is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        """Snapshots that were written."""
        self.written_bytes = 0
        """Of this run, in the file."""
        self._written = WrittenObjects()
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self._crc = self._size = 0
        self._descriptor = _open(path)
        try:
            _lock(self._descriptor, path)
            if os.fstat(self._descriptor).st_size:
                Reader(path).close()  # raises where it is none
                mend(self._descriptor)
            self._end = os.lseek(self._descriptor, 0, os.SEEK_END)
            self._append(compact(_header()))
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, snapshot: Snapshot) -> None:
        """Append a snapshot and flush it.

        Raises:
            VramtopError: it cannot be written (a full disk, say) or is too large; the recording
                ends with the snapshot before.
        """
        try:
            line = compact(encode(snapshot, self._written))
        except ValueError as error:
            raise VramtopError(f"a snapshot cannot be recorded: {error}") from None
        if len(line) > MAX_LINE_BYTES:
            # Only the past is as large as that; it is in the first snapshot of a process alone.
            self._written = WrittenObjects()
            line = compact(encode(without_past(snapshot), self._written))
            if len(line) > MAX_LINE_BYTES:
                raise VramtopError(f"a snapshot of {len(line) >> 20} MiB cannot be recorded")
        self._append(line)
        self.count += 1

    def close(self) -> None:
        """End the member; whatever fails, all snapshots can be read."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.write(self._descriptor, ending(self._crc, self._size))
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, line: str) -> None:
        text = line.encode() + b"\n"
        data = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise VramtopError(f"{self.path}: {error.strerror}") from None
        self._end += len(data)
        self.written_bytes += len(data)
        self._crc, self._size = zlib.crc32(text, self._crc), self._size + len(text)


def without_past(snapshot: Snapshot) -> Snapshot:
    """The snapshot without what probes kept from before it."""
    return replace(
        snapshot,
        processes=tuple(
            replace(process, probe=replace(process.probe, history=None))
            for process in snapshot.processes
        ),
    )


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, _PRIVATE)
    except OSError as error:
        raise VramtopError(f"{path}: {error.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise VramtopError(f"{path} is no file that a recording could be")
    if status.st_uid != os.geteuid():  # put there by somebody who wants to read what is recorded
        os.close(descriptor)
        raise VramtopError(f"{path} belongs to another user; record into another file")
    return descriptor


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise VramtopError(f"{path} is being written by another vramtop") from None
    except OSError:
        pass  # a file system without locks


def _header() -> dict[str, object]:
    return {
        "vramtop": MAGIC,
        "version": VERSION,
        "started_at": time.time(),
        "hostname": socket.gethostname(),
        "vramtop_version": __version__,
    }
