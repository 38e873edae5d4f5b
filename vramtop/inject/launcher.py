"""Starting a command so that every Python in its process tree boots the probe."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

SITE_DIRECTORY = Path(__file__).resolve().parent / "site"
"""Holds only sitecustomize.py, which Python runs at start when it is on PYTHONPATH."""


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """``base`` with the probe's sitecustomize in front of PYTHONPATH."""
    own = str(SITE_DIRECTORY)
    before = base.get("PYTHONPATH")
    # An empty PYTHONPATH means none, but an empty entry in it means the working directory.
    path = f"{own}{os.pathsep}{before}" if before else own
    if before and before.split(os.pathsep)[0] == own:
        path = before
    return {**base, "PYTHONPATH": path}


def execute(command: list[str]) -> NoReturn:
    """Become the command: pid, terminal, open files and signals are its own from then on.

    Raises:
        OSError: it cannot be started, as execve(2) says.
    """
    _undo_interpreter_start()
    os.execvpe(command[0], command, environment(os.environ))  # noqa: S606  no shell is the point


def _undo_interpreter_start() -> None:
    """Take back what our own interpreter changed at its start and exec would hand on."""
    # Python ignores these two; a pipeline such as `train | head` must end as without us.
    for name in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_DFL)
    # In the C locale Python sets LC_CTYPE (PEP 538), which /proc/self/environ does not show.
    started_with = b"\0" + Path("/proc/self/environ").read_bytes()
    if b"\0LC_CTYPE=" not in started_with:
        os.environ.pop("LC_CTYPE", None)
