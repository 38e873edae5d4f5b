"""Sending a signal to exactly the process that the user saw."""

from __future__ import annotations

import os
import signal

from ..errors import VramtopError
from .procfs import started_at as read_started_at

_CLOCK_SLACK_S = 0.02
"""Start times come in ticks of 10 ms."""


def send(pid: int, started_at: float | None, number: int) -> None:
    """Send signal ``number`` to ``pid`` if it still is the process that started at that time.

    Raises:
        VramtopError: it is gone, the pid was reused, or the signal is not permitted.
    """
    name = signal.Signals(number).name
    try:
        # The descriptor pins the process: the pid cannot be reused between check and signal.
        descriptor = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        raise VramtopError(f"{name} not sent: process {pid} has ended") from None
    try:
        if not _is_same(pid, started_at):
            raise VramtopError(f"{name} not sent: pid {pid} is another process now")
        signal.pidfd_send_signal(descriptor, number)
    except PermissionError:
        raise VramtopError(f"{name} not sent: process {pid} is not yours") from None
    except OSError:
        raise VramtopError(f"{name} not sent: process {pid} has ended") from None
    finally:
        os.close(descriptor)


def check_same(pid: int, started_at: float | None) -> None:
    """Check that ``pid`` still is the process that started at that time.

    Raises:
        VramtopError: it is gone, or the pid was reused.
    """
    try:
        if _is_same(pid, started_at):
            return
    except OSError:
        raise VramtopError(f"process {pid} has ended") from None
    raise VramtopError(f"pid {pid} is another process now")


def _is_same(pid: int, started_at: float | None) -> bool:
    return started_at is not None and abs(read_started_at(pid) - started_at) <= _CLOCK_SLACK_S
