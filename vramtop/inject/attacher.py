"""Getting the probe into a process that runs already: the one call that front ends make."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..errors import AttachFailed, AttachRefused
from ..protocol import rendezvous
from . import interpreter, peer, permission, place, preflight, remote_exec
from .debugger import queue_line
from .peer import Peer
from .target import Target
from .ticket import Answer, Ticket

Method = Literal["cooperative", "remote_exec", "gdb", "lldb"]
Tell = Callable[[str], None]
"""Told in a few words what is being waited for, again and again while it is waited for."""
WAIT_S = 60.0
_HELLO_S = 5.0
_LOAD_S = 30.0
_POLL_S = 0.02
_SOON_S = 1.0
"""Nothing is said of a wait that is over sooner."""


@dataclass(frozen=True, slots=True)
class Attached:
    """The probe runs in the process."""

    pid: int
    method: Method
    """``cooperative``: a probe was there already."""
    python: str | None
    """None: the probe that was there already has said nothing so far."""
    torch: str | None
    """None beside a Python: torch is not imported yet; the probe starts when it is."""
    pause_s: float | None = None
    """How long a debugger held the process; None where none did."""
    waited_s: float = 0.0
    """Until the interpreter could run the code."""


def attach(pid: int, tell: Tell = lambda _: None, wait_s: float = WAIT_S) -> Attached:
    """Put the probe into the process; blocks, may be ended by KeyboardInterrupt at any time.

    ``tell`` may raise KeyboardInterrupt to end it as well. A probe that listens outside of the
    viewer's own directories is looked for there too from now on.

    Raises:
        AttachRefused: nothing was touched, and why.
        AttachFailed: it was tried and given up within ``wait_s``; the process runs on.
    """
    target = Target(pid)
    permission.check_user(target)
    if found := peer.connect(target, place.directories(target)):
        with found:
            return _cooperative(target, found)
    preflight.check_state(target)
    python = interpreter.find(target)
    permission.check_ptrace(target)
    debugger = preflight.choose(target, python)
    meeting = place.find(target)
    with Ticket(target, meeting) as ticket:
        target.refresh()
        method: Method = debugger.name if debugger else "remote_exec"
        tell(f"attaching to {python.name} in process {pid} with {method}")
        pause_s = None
        if debugger is None:
            remote_exec.ask(target, ticket)
        else:
            pause_s = queue_line(target, python, debugger, ticket.line)
        waited_s = _wait_until_taken(target, ticket, tell, wait_s)
        answer = _wait_for_answer(target, ticket, tell)
    _wait_for_hello(target, tell)
    return Attached(pid, method, answer.python, answer.torch, pause_s, waited_s)


def detach(pid: int, tell: Tell = lambda _: None, wait_s: float = WAIT_S) -> None:
    """Have the probe of the process take its hooks out and end its thread.

    Raises:
        AttachRefused: there is no probe in this process, or it is not ours to ask.
        AttachFailed: it did not answer within ``wait_s``.
    """
    target = Target(pid)
    permission.check_user(target)
    found = peer.connect(target, place.directories(target))
    if found is None:
        raise AttachRefused(f"there is no probe of vramtop in process {pid}")
    with found:
        found.send("detach")
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            if any(message["type"] == "bye" for message in found.messages()):
                return
            if not found.is_open:
                if not target.is_alive():
                    return  # its hooks went with it
                raise AttachFailed(f"the probe of process {pid} hung up without a word")
            tell(f"waiting for the probe of process {pid} to leave")
    raise AttachFailed(f"the probe of process {pid} has not left within {wait_s:g} s")


def _cooperative(target: Target, found: Peer) -> Attached:
    _look_there(target, found)
    python, torch = found.versions(_HELLO_S)
    return Attached(target.pid, "cooperative", python, torch)


def _look_there(target: Target, found: Peer) -> None:
    """Have this viewer look where the probe listens, if that is in the target's own folders."""
    if found.directory.is_relative_to(target.proc):
        rendezvous.look_in(found.directory)


def _wait_until_taken(target: Target, ticket: Ticket, tell: Tell, wait_s: float) -> float:
    """Until the main thread has come to run the code; returns the seconds.

    Raises:
        AttachFailed: it did not in time; if it comes to it later, it does nothing.
    """
    began = time.monotonic()
    while not ticket.is_taken():
        waited_s = time.monotonic() - began
        if not target.is_alive():
            raise AttachFailed(f"process {target.pid} has ended before the probe could start")
        if waited_s > wait_s and ticket.withdraw():
            raise AttachFailed(
                f"given up after {wait_s:g} s: the main thread of process {target.pid} "
                f"{_doing(target)} and came to no Python code. The process runs on, nothing was "
                "put into it; try again when it trains, or allow more time with --wait SECONDS"
            )
        if waited_s > _SOON_S:
            tell(
                f"waiting for the interpreter: the main thread {_doing(target)}, "
                f"{waited_s:.0f} s of {wait_s:g} s"
            )
        time.sleep(_POLL_S)
    return time.monotonic() - began


def _wait_for_answer(target: Target, ticket: Ticket, tell: Tell) -> Answer:
    """Until the probe has been loaded.

    Raises:
        AttachFailed: it has not in time, or cannot be.
    """
    until = time.monotonic() + _LOAD_S
    while time.monotonic() < until:
        if answer := ticket.answer():
            if answer.error is None:
                return answer
            raise AttachFailed(f"the probe cannot start in process {target.pid}: {answer.error}")
        if not target.is_alive():
            raise AttachFailed(f"process {target.pid} has ended before the probe could start")
        tell(f"process {target.pid} loads the probe")
        time.sleep(_POLL_S)
    raise AttachFailed(
        f"process {target.pid} has begun to load the probe, but did not say within {_LOAD_S:.0f} s "
        "that it is done; it runs on, and `vramtop` shows it as soon as it is"
    )


def _doing(target: Target) -> str:
    """What keeps the main thread from running Python code."""
    return "is in a long C call" if target.state_now() in {"R", "D"} else "sleeps or waits in C"


def _wait_for_hello(target: Target, tell: Tell) -> None:
    """Until the probe listens.

    Raises:
        AttachFailed: it does not.
    """
    until = time.monotonic() + _HELLO_S
    while time.monotonic() < until:
        if found := peer.connect(target, place.directories(target)):
            with found:
                _look_there(target, found)
                return
        if not target.is_alive():
            raise AttachFailed(f"process {target.pid} has ended")
        tell(f"waiting for the probe of process {target.pid} to listen")
        time.sleep(_POLL_S)
    raise AttachFailed(
        f"the probe is in process {target.pid}, but nobody answers at its socket; look whether "
        "`vramtop` shows it, else try again"
    )
