"""``vramtop attach``: put the probe into a training that runs already, and show it."""

from __future__ import annotations

import argparse
import sys

from ..errors import EXIT_OK
from ..inject.attacher import WAIT_S, attach, detach
from ..inject.words import in_words
from . import monitor
from .progress import ProgressLine

_STEP_S = 30.0
"""What is printed once waits so long for the first step that the probe sees."""

NAME = "attach"
HELP = "Put the probe into a Python process that runs already, and show it."
EXAMPLE = "vramtop attach 12345"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The process, and the options of ``vramtop``."""
    parser.usage = "vramtop attach [OPTIONS] PID"
    parser.add_argument("pid", type=_pid, metavar="PID", help="the process, as `vramtop` lists it")
    parser.add_argument(
        "--detach", action="store_true", help="take the probe out of the process, and exit"
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=WAIT_S,
        metavar="SECONDS",
        help="how long to wait for the interpreter while the main thread is in a long C call or "
        f"sleeps (default: {WAIT_S:g})",
    )
    monitor.add_arguments(parser)


def _pid(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a process")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def run(args: argparse.Namespace) -> int:
    """Attach and show, or detach.

    Raises:
        AttachRefused: nothing was touched; the message says why, and what to do.
        AttachFailed: it was tried and given up; the process runs on.
    """
    options = monitor.read_options(args)
    line = ProgressLine()
    try:
        if args.detach:
            detach(args.pid, line, args.wait)
        else:
            attached = attach(args.pid, line, args.wait)
    except KeyboardInterrupt:
        line.clear()
        print(f"vramtop: given up; process {args.pid} runs on", file=sys.stderr)
        raise
    finally:
        line.clear()
    if args.detach:
        print(f"vramtop: the probe has left process {args.pid}", file=sys.stderr)
        return EXIT_OK
    print(f"vramtop: {in_words(attached)}", file=sys.stderr)
    return monitor.show(options, select_pid=args.pid, wait_s=_STEP_S if attached.torch else 0.0)
