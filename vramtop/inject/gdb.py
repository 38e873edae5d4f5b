"""The debugger gdb."""

from __future__ import annotations

import re
from typing import Literal

from .debugger import LINE_FILE, SCRIPT_FILE
from .interpreter import ADD_PENDING_CALL, MAP_PAGE, RUN_STRING, Interpreter
from .target import Target

# mmap(2): PROT_READ | PROT_WRITE; MAP_PRIVATE | MAP_ANONYMOUS.
PROTECTION, MAPPED_AS = 3, 0x22


class Gdb:
    """Called with addresses only: it reads no symbols, loads nothing, and so holds it shortly."""

    name: Literal["gdb", "lldb"] = "gdb"
    stopping = re.compile(r"^vramtop: stopping (\d+\.\d+)?")
    running = re.compile(r"^vramtop: running (\d+\.\d+)?")
    queued = re.compile(r"^vramtop: queued (-?\d+)$")

    def command(self, pid: int) -> list[str]:
        """Without anybody's .gdbinit, symbols, libraries, downloads or scripts."""
        before = (
            "set debuginfod enabled off",
            "set auto-load no",
            "set auto-solib-add off",
            # Libraries that it cannot find it does not open while the process stands still, and
            # of a loader that it cannot find it sets no breakpoint into.
            "set sysroot /nonexistent",
            "set libthread-db-search-path /nonexistent",
        )
        options = [word for setting in before for word in ("-iex", setting)]
        program = f"/proc/{pid}/exe"
        return ["gdb", "-nx", "-batch", "-readnever", *options, "-x", SCRIPT_FILE, program]

    def script(self, target: Target, interpreter: Interpreter, page_bytes: int) -> str:
        """An error in a line ends the script, and gdb then detaches."""
        address = interpreter.addresses
        call = "((long (*)(long, long, long, long, long, long)) {})({})"
        page = f"0, {page_bytes}, {PROTECTION}, {MAPPED_AS}, -1, 0"
        queue = f"((int (*)(long, long)) {address[ADD_PENDING_CALL]})"
        return "\n".join(
            (
                "set pagination off",
                "set confirm off",
                "set unwindonsignal on",
                # A signal of the program's own that arrives meanwhile goes to its handler; the
                # call is given up only for those that an error in it could raise. SIGINT and
                # SIGTRAP stay gdb's: with the first it is told to let go.
                "handle all nostop noprint pass",
                "handle SIGSEGV SIGBUS SIGILL SIGFPE SIGABRT stop",
                _say("stopping"),
                f"attach {target.pid}",
                f"set $page = {call.format(address[MAP_PAGE], page)}",
                f"restore {LINE_FILE} binary $page",
                f"set $queued = {queue}({address[RUN_STRING]}, $page)",
                "detach",
                _say("running"),
                'printf "vramtop: queued %d\\n", $queued',
                "",
            )
        )


def _say(what: str) -> str:
    """With the time by its own clock: on a busy machine it is read later than it was said."""
    return f"shell echo vramtop: {what} $(date +%s.%N)"
