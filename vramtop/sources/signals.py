"""Sending a signal to exactly the process that the user saw."""

from __future__ import annotations

import os
import signal
import time

from ..errors import VramtopError
from . import kernel
from .procfs import started_at as read_started_at

_CLOCK_SLACK_S = 0.02
"""Start times come in ticks of 10 ms."""
_ENDS_WITHIN_S = 30.0
"""What ends later than that after a signal has another reason."""
_KEPT = 64

_sent: dict[tuple[int, int | None], float] = {}
"""When a signal was sent last, by pid and start time in ticks."""


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
        # Before it is: the reading thread may see the end at once.
        ended = (pid, kernel.start_ticks(pid))
        _sent.pop(ended, None)
        _sent[ended] = time.monotonic()
        while len(_sent) > _KEPT:
            del _sent[next(iter(_sent))]
        signal.pidfd_send_signal(descriptor, number)
    except PermissionError:
        raise VramtopError(f"{name} not sent: process {pid} is not yours") from None
    except OSError:
        raise VramtopError(f"{name} not sent: process {pid} has ended") from None
    finally:
        os.close(descriptor)


def was_asked_to_end(pid: int, start_ticks: int | None) -> bool:
    """Whether a signal was sent from here to that very process, a moment ago."""
    sent_at = _sent.get((pid, start_ticks))
    return sent_at is not None and time.monotonic() - sent_at < _ENDS_WITHIN_S


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
