"""Writes this process's post-mortem file (``protocol.postmortem``): atomic, private, bounded."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

from ..protocol.postmortem import MAX_FILE_BYTES, MAX_FILES, SCHEMA, SUFFIX
from ..protocol.rendezvous import start_ticks
from .host_limits import resident_bytes

_DISPENSABLE = ("segments", "history")
"""Kinds of messages that are left out, one after the other, of a file that would be too large."""
_MAX_MODULES = 30
"""So many modules are kept where there is no room for all."""


def document(
    messages: list[dict[str, Any]], failure: dict[str, Any], traceback: str | None
) -> dict[str, Any]:
    """The contents of the file; the first of the messages is the hello."""
    hello = messages[0]
    return {
        "schema": SCHEMA,
        "written_at": time.time(),
        "written_by": "probe",
        "pid": os.getpid(),
        "start_time": hello["start_time"],
        "user": os.environ.get("USER"),
        "command": " ".join(hello["argv"]),
        "failure": failure,
        "traceback": traceback,
        "messages": messages,
        "rss_bytes": resident_bytes(),
        "host": None,
        "prediction": None,
    }


def encode(contents: dict[str, Any]) -> bytes:
    """As JSON of at most ``MAX_FILE_BYTES``."""
    data = _encoded(contents)
    for kind in _DISPENSABLE:
        if len(data) <= MAX_FILE_BYTES:
            return data
        left = [message for message in contents["messages"] if message["type"] != kind]
        contents = {**contents, "messages": left}
        data = _encoded(contents)
    if len(data) > MAX_FILE_BYTES:
        shorter = [
            {**message, "modules": message["modules"][:_MAX_MODULES]}
            if message["type"] == "detail"
            else message
            for message in contents["messages"]
        ]
        data = _encoded({**contents, "messages": shorter})
    return data


def path_in(directory: Path, number: int) -> Path:
    """The file of this process's failure of that number."""
    pid = os.getpid()
    return directory / f"{pid}-{start_ticks(pid)}-{number}{SUFFIX}"


def write(path: Path, data: bytes) -> None:
    """Put the file there whole or not at all; the oldest make room.

    Raises:
        OSError: it cannot be written.
    """
    unready = path.with_name(f".{path.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        unready.unlink()  # of this process alone: from a write that failed
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(unready, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        unready.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unready.unlink()
        raise
    _prune(path.parent)


def _encoded(contents: dict[str, Any]) -> bytes:
    return json.dumps(contents, separators=(",", ":"), allow_nan=False).encode()


def _prune(directory: Path) -> None:
    found = []
    for path in directory.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, path))
    for _, path in sorted(found)[:-MAX_FILES]:
        with contextlib.suppress(OSError):
            path.unlink()
