"""This process's post-mortem file (``protocol.postmortem``): its contents and its name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ..protocol.postmortem import SCHEMA, SUFFIX
from ..protocol.rendezvous import start_ticks
from .host_limits import resident_bytes


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


def path_in(directory: Path, number: int) -> Path:
    """The file of this process's failure of that number."""
    pid = os.getpid()
    return directory / f"{pid}-{start_ticks(pid)}-{number}{SUFFIX}"
