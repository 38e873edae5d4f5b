"""Having a debugger make one call in a process, and seeing to it that it leaves it running."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ..errors import AttachFailed, AttachRefused
from .interpreter import Interpreter
from .permission import how_to_permit
from .target import Target

LINE_FILE = "line"
SCRIPT_FILE = "script"
PAGE_BYTES = 4096
START_LIMIT_S = 60.0
"""Until it has stopped the process: reading its files may take a while on a busy machine."""
STOP_LIMIT_S = 15.0
"""How long it may hold the process before it is told to let go."""
_LET_GO_S = 5.0
_POLL_S = 0.05
_SAID_LINES = 3


class Debugger(Protocol):
    """One program that can call functions in a process."""

    name: Literal["gdb", "lldb"]
    stopping: re.Pattern[str]
    """The line that it prints just before it stops the process; a group 1 is its own time."""
    running: re.Pattern[str]
    """The line that it prints when it has let it go; likewise."""
    queued: re.Pattern[str]
    """The line with what Py_AddPendingCall has returned, as the group 1."""

    def command(self, pid: int) -> list[str]:
        """The program and its arguments; it runs in a folder with ``SCRIPT_FILE``."""

    def script(self, target: Target, interpreter: Interpreter, page_bytes: int) -> str:
        """What it shall do: map a page, fill it from ``LINE_FILE``, queue the call, let go."""


@dataclass(frozen=True, slots=True)
class _Printed:
    at: float
    text: str


def queue_line(target: Target, interpreter: Interpreter, debugger: Debugger, line: str) -> float:
    """Queue a line of Python in the process; returns the seconds that the process stood still.

    No malloc runs in the process, no breakpoint is set, the GIL is not taken: the page with the
    line is mapped for it alone (and stays), and the interpreter runs it when it can.

    Raises:
        AttachRefused: the kernel does not let the debugger near.
        AttachFailed: the debugger could not do it.
        KeyboardInterrupt: only after the debugger has let go.
    """
    text = line.encode("ascii") + b"\0"
    page_bytes = -(-len(text) // PAGE_BYTES) * PAGE_BYTES
    try:
        with tempfile.TemporaryDirectory(prefix="vramtop-attach-") as name:
            folder = Path(name)
            (folder / LINE_FILE).write_bytes(text)
            script = debugger.script(target, interpreter, page_bytes)
            (folder / SCRIPT_FILE).write_text(script)
            run = _Run(debugger, target, folder)
            try:
                run.wait()
            finally:
                _leave_running(target)
    except OSError as error:  # a full /tmp, above all
        raise AttachFailed(f"{debugger.name} could not be used: {error}") from None
    return _pause_s(run, target)


class _Run(threading.Thread):
    """The debugger at work, watched from a thread of its own: Ctrl-C only hits the main one."""

    def __init__(self, debugger: Debugger, target: Target, folder: Path) -> None:
        super().__init__(name=f"vramtop-{debugger.name}", daemon=True)
        self.debugger = debugger
        self.printed: list[_Printed] = []
        self.had_to_be_ended = False
        self._done = threading.Event()
        # gdb and lldb run a Python of their own, which ours (PYTHONHOME) would keep from starting.
        environment = {n: v for n, v in os.environ.items() if not n.startswith("PYTHON")}
        environment.pop("DEBUGINFOD_URLS", None)
        # gdb's `shell` takes the user's: csh and old fish read the words otherwise, nologin none.
        environment |= {"LC_ALL": "C", "SHELL": "/bin/sh"}
        self._process = subprocess.Popen(
            debugger.command(target.pid),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Neither the terminal's Ctrl-C nor its hang-up may end it in the middle of a call,
            # nor may a closed pipe (SIGPIPE stays ignored) if this process is killed.
            start_new_session=True,
            restore_signals=False,
        )

    def wait(self) -> None:
        """Until the debugger has ended; an interrupt is raised only then."""
        interrupt: KeyboardInterrupt | None = None
        is_started = False
        while not self._done.is_set():
            try:
                if not is_started:
                    is_started = True
                    self.start()
                # Not `join`: interrupted, it takes the thread for ended (Python 3.11, 3.12).
                self._done.wait(_POLL_S)
            except KeyboardInterrupt as raised:
                interrupt = raised
        if interrupt is not None:
            raise interrupt

    def run(self) -> None:
        """Collect what it prints, with times; end it where it takes too long."""
        try:
            self._watch()
        finally:
            self._done.set()

    def _watch(self) -> None:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector, self._process.stdout as stdout:
            selector.register(stdout, selectors.EVENT_READ)
            rest = b""
            limit = time.monotonic() + START_LIMIT_S
            tries_left = 2
            while True:
                if selector.select(_POLL_S):
                    data = os.read(stdout.fileno(), 1 << 16)
                    if not data:
                        break
                    *lines, rest = (rest + data).split(b"\n")
                    now = time.monotonic()
                    for line in lines:
                        self.printed.append(_Printed(time.time(), line.decode(errors="replace")))
                        if self.debugger.stopping.search(self.printed[-1].text):
                            limit = now + STOP_LIMIT_S
                if time.monotonic() > limit:
                    if not tries_left:
                        return
                    # An interrupt has it undo the call under way and leave; to kill it in the
                    # middle of one would leave the process with the registers of that call.
                    self.had_to_be_ended = True
                    self._process.send_signal(signal.SIGINT)
                    tries_left -= 1
                    limit = time.monotonic() + _LET_GO_S
        self._end()

    def _end(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LET_GO_S)

    @property
    def has_ended(self) -> bool:
        """Whether the debugger is gone, and holds nothing."""
        return self._process.poll() is not None

    def at(self, pattern: re.Pattern[str]) -> float | None:
        """When it printed such a line, by its own clock if it says so."""
        for line in self.printed:
            if found := pattern.search(line.text):
                return float(found[1]) if pattern.groups and found[1] else line.at
        return None

    def find(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The first such line."""
        return next((m for line in self.printed if (m := pattern.search(line.text))), None)

    def said(self) -> str:
        """Its last words, in one line."""
        words = [line.text.strip() for line in self.printed if line.text.strip()]
        return "; ".join(words[-_SAID_LINES:]) or "it said nothing"


_FORBIDDEN = re.compile(
    r"Operation not permitted|not allowed|could not attach: .*denied", re.IGNORECASE
)
_TAKEN = re.compile(r"is already traced by process \d")
_WIDE_REGISTERS = re.compile(r"Couldn't (?:write|get) (?:extended state|registers|FS_BASE)")


def _pause_s(run: _Run, target: Target) -> float:
    """How long the process stood still, once it is sure that the call was queued.

    Raises:
        AttachRefused: the kernel did not let the debugger near.
        AttachFailed: the call was not queued.
    """
    name, pid = run.debugger.name, target.pid
    queued = run.find(run.debugger.queued)
    if queued is not None and queued[1] == "0":
        stopped, running = run.at(run.debugger.stopping), run.at(run.debugger.running)
        return max((running or run.printed[-1].at) - (stopped or run.printed[0].at), 0.0)
    if not target.is_alive():
        raise AttachFailed(f"process {pid} has ended during the attach; {name}: {run.said()}")
    if run.find(_TAKEN) or (target.tracer and run.has_ended):
        raise AttachRefused(
            f"another debugger holds process {pid}, maybe that of another `vramtop attach`; "
            "try again when it is done"
        )
    if target.tracer:
        raise AttachFailed(
            f"{name} still holds process {pid} and does not answer; let it go with: "
            f"kill -INT {target.tracer}"
        )
    if run.find(_FORBIDDEN):
        raise AttachRefused(how_to_permit(target))
    if run.find(_WIDE_REGISTERS):
        raise AttachFailed(
            f"this {name} is too old for the registers of this processor (gdb 12.1 and older are): "
            "install a newer gdb, or lldb in its place"
        )
    if queued is not None:
        raise AttachFailed(f"process {pid} has too many calls waiting; try again")
    if run.had_to_be_ended:
        raise AttachFailed(f"{name} took too long and was told to let go; {name}: {run.said()}")
    raise AttachFailed(f"{name} could not make the call; it said: {run.said()}")


def _leave_running(target: Target) -> None:
    """Have the process run on if the debugger has left it stopped."""
    with suppress(AttachRefused, OSError):
        target.refresh()
        if target.state in {"T", "t"} and not target.tracer:
            os.kill(target.pid, signal.SIGCONT)
            target.refresh()
