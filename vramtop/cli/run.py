"""``vramtop run``: start a command with the probe in every Python below it."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import shutil
import sys
from pathlib import Path

from ..errors import UsageError
from ..inject import launcher

NAME = "run"
HELP = "Start a training with the probe inside; its script needs no change."
EXAMPLE = "vramtop run -- torchrun --nproc-per-node 2 train.py --lr 3e-4"

# What shells answer, and what scripts around a training may look at.
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command is everything after ``run`` or ``run --``."""
    parser.usage = "vramtop run [--] PROGRAM [ARGUMENT ...]"
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        help="the program and its arguments, e.g. python train.py",
    )


def run(args: argparse.Namespace) -> int:
    """Become the command; returns only if it cannot be started.

    Raises:
        UsageError: there is no command.
    """
    command: list[str] = args.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command or not command[0]:
        raise UsageError("run needs a command, e.g. vramtop run -- python train.py")
    try:
        launcher.execute(command)
    except OSError as error:
        code, reason = _explain(command[0], error)
        if command[0].endswith(".py") and Path(command[0]).is_file():
            reason += f"; did you mean: vramtop run -- {shlex.join(['python', *command])}"
        print(f"vramtop run: {command[0]}: {reason}", file=sys.stderr)
        return code


def _explain(program: str, error: OSError) -> tuple[int, str]:
    """Exit code and reason why a program could not be started."""
    missing = error.errno in {errno.ENOENT, errno.ENOTDIR}
    if missing and shutil.which(program):
        return _NOT_EXECUTABLE, "the interpreter named in its first line does not exist"
    if missing:
        return _NOT_FOUND, "no such file" if os.sep in program else "command not found"
    if error.errno == errno.ENOEXEC:
        return _NOT_EXECUTABLE, "neither a program nor a script with a #! line"
    return _NOT_EXECUTABLE, error.strerror or str(error)
