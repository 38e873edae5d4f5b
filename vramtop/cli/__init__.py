"""The command line: one module a command, and the only place that puts the layers together.

A command module has ``NAME``, ``HELP``, ``EXAMPLE``, ``add_arguments(parser)`` and ``run(args)``.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

from .. import __version__
from ..errors import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, UsageError, VramtopError

COMMANDS = (
    *("monitor", "run", "attach", "demo", "record", "replay"),
    *("estimate", "plan", "explore", "postmortem", "doctor"),
)
"""Module names; the first is what a bare ``vramtop`` does."""

_TRACEBACK = "VRAMTOP_TRACEBACK"
"""The variable that, set to anything, has the traceback of an internal error shown."""
_SAID = 300
"""Characters of an internal error's own message that are shown."""


def run_command(arguments: list[str]) -> int:
    """Run a command line; returns the exit code and prints errors on stderr."""
    name, rest = _split(arguments)
    try:
        command = import_module(f"{__name__}.{name}")
        parser = _parser(command, with_commands=bool({"-h", "--help"} & set(rest)))
        args = parser.parse_args(rest)
        code: int = command.run(args)
    except VramtopError as error:
        print(f"vramtop: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left (`vramtop --once | head`); nothing is wrong.
        sys.stderr.close()
        return EXIT_OK
    except SystemExit as stop:  # argparse's own way out
        return stop.code if isinstance(stop.code, int) else EXIT_FAILURE
    except Exception as error:  # ours: everything foreseen is a VramtopError
        if os.environ.get(_TRACEBACK):
            raise
        said = " ".join(str(error).split())[:_SAID]
        print(
            f"vramtop: internal error: {type(error).__name__}{': ' if said else ''}{said} "
            f"(please report it; {_TRACEBACK}=1 shows where)",
            file=sys.stderr,
        )
        return EXIT_FAILURE
    return code


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    if arguments and arguments[0] in COMMANDS:
        return arguments[0], arguments[1:]
    if arguments and not arguments[0].startswith("-"):
        known = ", ".join(COMMANDS[1:])
        print(f"vramtop: no command {arguments[0]!r}; there are: {known}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    return COMMANDS[0], arguments


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of a command line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {' '.join(self.format_usage().split())}, or --help")


def _parser(command: Any, *, with_commands: bool) -> argparse.ArgumentParser:
    bare = bool(command.NAME == COMMANDS[0])
    epilog = f"example: {command.EXAMPLE}"
    if bare and with_commands:  # importing every command costs start-up time: only when shown
        modules = (import_module(f"{__name__}.{name}") for name in COMMANDS[1:])
        lines = (f"  vramtop {module.NAME:<10} {module.HELP}" for module in modules)
        epilog += "\n\ncommands, each with --help:\n" + "\n".join(lines)
    parser = _Parser(
        prog="vramtop" if bare else f"vramtop {command.NAME}",
        usage=f"vramtop [OPTIONS]\n       vramtop {{{','.join(COMMANDS[1:])}}} ..."
        if bare
        else None,
        description=command.HELP,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if bare:
        parser.add_argument("--version", action="version", version=f"vramtop {__version__}")
    command.add_arguments(parser)
    return parser
