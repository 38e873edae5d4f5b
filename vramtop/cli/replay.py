"""``vramtop replay``: the live screen over a recording, or one of its snapshots."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .. import settings
from ..core.alerts import alerts
from ..errors import EXIT_FAILURE, EXIT_OK, UsageError
from . import monitor

NAME = "replay"
HELP = "Show a recording in the same screen: pause, back and forth, faster and slower."
EXAMPLE = "vramtop replay night.vramtop --once --json --at 90"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and which of its snapshots to print."""
    parser.add_argument("file", type=Path, metavar="FILE", help="written by vramtop record, or r")
    parser.add_argument(
        "--once", action="store_true", help="print the last snapshot, without predictions, and exit"
    )
    parser.add_argument("--json", action="store_true", help="with --once: as one JSON object")
    parser.add_argument(
        "--at",
        type=_position,
        metavar="SECONDS",
        help="with --once: the last snapshot up to so many seconds after the first",
    )


def _position(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def run(args: argparse.Namespace) -> int:
    """Show the recording.

    Raises:
        FileUnreadable: it is no recording, one of another version, or one without a snapshot.
        UsageError: options that do not go together.
    """
    if args.json and not args.once:
        raise UsageError("--json needs --once; a screen is not JSON")
    if args.at is not None and not args.once:
        raise UsageError("--at needs --once; on the screen , and . move")
    once = args.once
    if not once and (reason := monitor.why_no_screen()):
        print(f"vramtop: {reason}; printing the last snapshot (--once)", file=sys.stderr)
        once = True
    if once:
        return _print(args.file, args.at, as_json=args.json)
    from ..sources.recording.replay import Replay
    from ..tui.app import run_app

    config = settings.load_config()
    return run_app(
        Replay(args.file),
        readonly=True,
        theme=config.theme,
        alert_at_percent=config.alert_at_percent,
    )


def _print(path: Path, at_s: float | None, *, as_json: bool) -> int:
    """Print the fleet as it was; how the recording ends is said on stderr."""
    from ..sources.recording.replay import fleet_at

    fleet, ending = fleet_at(path, at_s)
    if ending:
        print(f"vramtop: {ending}", file=sys.stderr)
    if fleet.is_waiting:
        print(f"vramtop: {path}: there is no snapshot in it", file=sys.stderr)
        return EXIT_FAILURE
    active = alerts(fleet, settings.load_config().alert_at_percent)
    monitor.render_snapshot(fleet.snapshot, active, {}, as_json=as_json)
    return EXIT_OK
