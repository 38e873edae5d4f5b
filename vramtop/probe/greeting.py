"""What a probe says of its process to whoever connects: the hello message."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from ..protocol import PROTOCOL_VERSION
from ..protocol.rendezvous import start_ticks

_MAX_ARGUMENTS = 64
_MAX_TEXT = 300


def hello() -> dict[str, Any]:
    """The hello message."""
    return {
        "type": "hello",
        "protocol": PROTOCOL_VERSION,
        "version": _version(),
        "pid": os.getpid(),
        "start_time": _start_time(),
        "python": platform.python_version(),
        "argv": command_line(),
    }


def command_line() -> list[str]:
    """The words of the command, bounded."""
    raw = Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]
    return [part.decode(errors="replace")[:_MAX_TEXT] for part in raw[:_MAX_ARGUMENTS]]


def _start_time() -> float:
    """Start of this process in seconds since the epoch (proc(5), stat and btime)."""
    boot = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
    seconds = start_ticks(os.getpid()) / os.sysconf("SC_CLK_TCK")
    return int(boot.group(1)) + seconds if boot else time.time()


def _version() -> str:
    # Read, not imported: injected, the package's root module is never run.
    try:
        text = (Path(__file__).parents[1] / "__init__.py").read_text()
    except OSError:  # replaced or out of sight since; no reason to refuse a viewer
        return "unknown"
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    return found.group(1) if found else "unknown"
