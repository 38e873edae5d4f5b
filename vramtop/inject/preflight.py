"""What is looked at before a process is touched, and the way that its Python is reached by."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise

from ..errors import AttachRefused
from .debugger import Debugger
from .gdb import Gdb
from .interpreter import REMOTE_EXEC, Interpreter
from .lldb import Lldb
from .target import Target


def check_state(target: Target) -> None:
    """Refuse what cannot answer, or is in another debugger's hands.

    Raises:
        AttachRefused: and what to do.
    """
    target.refresh()
    pid, state, tracer = target.pid, target.state, target.tracer
    if state in {"Z", "X"}:
        raise AttachRefused(f"process {pid} has ended; its parent has not taken note yet (zombie)")
    if tracer:
        raise AttachRefused(
            f"process {pid} is already traced by process {tracer} (a debugger, strace, another "
            "`vramtop attach`): end that first, or try again when it is done"
        )
    if state == "T":
        raise AttachRefused(f"process {pid} is stopped; let it go on with: kill -CONT {pid}")


def choose(target: Target, python: Interpreter) -> Debugger | None:
    """The debugger to use; None where the interpreter takes code by itself (3.14 and newer).

    Raises:
        AttachRefused: it was told not to, or no debugger is installed.
    """
    if python.version >= REMOTE_EXEC:
        _check_remote_debug(target)
        return None
    for debugger in (Gdb(), Lldb()):
        if shutil.which(debugger.name):
            return debugger
    raise AttachRefused(
        f"attaching to {python.name} needs a debugger, and neither gdb nor lldb is installed: "
        "apt install gdb, or dnf install gdb — or start the training with: "
        "vramtop run -- python …"
    )


def _check_remote_debug(target: Target) -> None:
    """PEP 768: the process may have been started with remote debugging switched off."""
    words = target.arguments()
    options = [word[2:] for word in words if word.startswith("-X")]
    options += [word for option, word in pairwise(words) if option == "-X"]
    if target.environment().get("PYTHON_DISABLE_REMOTE_DEBUG"):
        how = "PYTHON_DISABLE_REMOTE_DEBUG is set for it"
    elif any(re.match("disable[-_]remote[-_]debug", option) for option in options):
        how = "it was started with -X disable-remote-debug"
    else:
        return
    raise AttachRefused(
        f"process {target.pid} does not take remote code: {how}; start it without, "
        "or with: vramtop run -- python …"
    )
