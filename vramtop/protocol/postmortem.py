"""The post-mortem file: what was known of a process when an allocation failed or it was lost.

Written by the probe inside the process, or by a viewer from what it had heard; one format::

    {"schema": "vramtop.postmortem/1", "written_at": 1.7e9, "written_by": "probe"|"viewer",
     "pid": 123, "start_time": 1.7e9, "user": "me"|null, "command": "python train.py",
     "failure": {...},           an ``oom`` message; of a lost process with "type": "lost"
     "traceback": "..."|null,    of the exception that nobody caught
     "messages": [...],          hello, job, history (the last minute), detail, segments, stages,
                                 sample, as a viewer would have been sent them
     "rss_bytes": 1|null,        of the process, when the last sample was taken
     "host": HOST|null, "prediction": {...}|null}       only a viewer knows these

HOST is the machine as of the viewer's last reading, with the devices that the process was on::

    {"hostname": "node1", "ram_total_bytes": 1|null, "ram_used_bytes": 1|null,
     "cpu_percent": 9.5|null, "driver_version": "..."|null, "cuda_driver_version": "..."|null,
     "devices": [{"index": 0, "uuid": "GPU-...", "name": "...", "backend": "nvml"|"host",
                  "total_bytes": 1|null, "used_bytes": 1|null, "free_bytes": 1|null,
                  "driver_reserved_bytes": 1|null,
                  "process_bytes": 1|null, "kind": "C"}]}      what the process held there

Named ``<pid>-<start ticks>-<n>`` + ``SUFFIX``, beside the process's socket. Bounded by
``MAX_FILE_BYTES``: segments go first, then the history, then modules.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

SCHEMA = "vramtop.postmortem/1"
SUFFIX = ".postmortem.json"
MAX_FILE_BYTES = 2 << 20
MAX_FILES = 20
"""So many are kept in a directory; the oldest go."""
HISTORY_S = 60.0

_DISPENSABLE = ("segments", "history")
"""Kinds of messages that are left out, one after the other, of a file that would be too large."""
_FEW_MODULES = 30
"""So many modules are kept where there is no room for all."""


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
            {**message, "modules": message.get("modules", [])[:_FEW_MODULES]}
            if message["type"] == "detail"
            else message
            for message in contents["messages"]
        ]
        data = _encoded({**contents, "messages": shorter})
    # Only of a probe that means harm: the failure is left.
    return data if len(data) <= MAX_FILE_BYTES else _encoded({**contents, "messages": []})


def write(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Put the file there whole or not at all, for this user alone; the oldest make room.

    Raises:
        FileExistsError: there is one, which is not to be overwritten.
        OSError: it cannot be written.
    """
    unready = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        unready.unlink()  # of this process alone: from a write that failed
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(unready, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        if overwrite:
            unready.rename(path)
        else:
            os.link(unready, path)  # not in Python 3.9's pathlib
    finally:
        with contextlib.suppress(OSError):
            unready.unlink()
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
