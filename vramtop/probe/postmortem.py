"""This process's post-mortem file (``protocol.postmortem``): its contents and its name."""

from __future__ import annotations

import os
import time
import traceback as traces
from pathlib import Path
from typing import Any

from ..protocol.postmortem import SCHEMA, SUFFIX
from ..protocol.rendezvous import start_ticks
from .host_limits import resident_bytes

_MAX_FRAMES_SHOWN = 40
_MAX_TRACEBACK = 60_000


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


def completed(
    contents: dict[str, Any], failure: dict[str, Any], traceback: str, now: list[dict[str, Any]]
) -> dict[str, Any]:
    """The contents with how it ended, and the batch that failed as the messages of now have it.

    The allocator tells before the forward is left, and only then its batch is looked at.
    """
    jobs = [told for told in now if told["type"] == "job" and told["models"]]
    messages = [
        jobs[0] if jobs and told["type"] == "job" else told for told in contents["messages"]
    ]
    return {**contents, "failure": failure, "traceback": traceback, "messages": messages}


def path_in(directory: Path, number: int) -> Path:
    """The file of this process's failure of that number."""
    pid = os.getpid()
    return directory / f"{pid}-{start_ticks(pid)}-{number}{SUFFIX}"


def traceback_of(failed: BaseException) -> str:
    """As the interpreter prints it, bounded."""
    kind, trace = type(failed), failed.__traceback__
    lines = traces.format_exception(kind, failed, trace, -_MAX_FRAMES_SHOWN)
    return "".join(lines)[-_MAX_TRACEBACK:]
