"""Getting the probe into a process that runs already: the one call that front ends make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Method = Literal["cooperative", "remote_exec", "gdb", "lldb"]
Tell = Callable[[str], None]
"""Told in a few words what is being waited for, again and again while it is waited for."""
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Attached:
    """The probe runs in the process."""

    pid: int
    method: Method
    """``cooperative``: a probe was there already."""
    python: str | None
    torch: str | None
    """None: torch is not imported yet; the probe starts when it is."""
    pause_s: float | None = None
    """How long a debugger held the process; None where none did."""
    waited_s: float = 0.0
    """Until the interpreter could run the code."""


def attach(pid: int, tell: Tell = lambda _: None, wait_s: float = WAIT_S) -> Attached:
    """Put the probe into the process; blocks, may be ended by KeyboardInterrupt at any time.

    Raises:
        AttachRefused: nothing was touched, and why.
        AttachFailed: it was tried and given up within ``wait_s``; the process runs on.
    """
    raise NotImplementedError


def detach(pid: int, tell: Tell = lambda _: None, wait_s: float = WAIT_S) -> None:
    """Have the probe of the process take its hooks out and end its thread.

    Raises:
        AttachRefused: there is no probe in this process, or it is not ours to ask.
        AttachFailed: it did not answer within ``wait_s``.
    """
    raise NotImplementedError
