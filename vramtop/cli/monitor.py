"""``vramtop``: the live screen, or one snapshot with ``--once``."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass

from .. import settings
from ..core.model import Snapshot
from ..errors import EXIT_OK, UsageError

NAME = "monitor"
HELP = "Show devices, processes and where the memory of PyTorch trainings goes."
EXAMPLE = "vramtop --once --json --backend host"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that every command shares that shows snapshots."""
    low, high = settings.INTERVAL_RANGE_S
    parser.add_argument("--once", action="store_true", help="print one snapshot and exit")
    parser.add_argument("--json", action="store_true", help="with --once: as one JSON object")
    parser.add_argument(
        "--backend",
        choices=settings.BACKENDS,
        help="where devices come from: the NVIDIA driver, the host's RAM, or the first of "
        "the two that works (default: auto)",
    )
    parser.add_argument(
        "--interval",
        type=_interval,
        metavar="SECONDS",
        help=f"time between readings, {low:g} to {high:g} (default: 1)",
    )
    parser.add_argument(
        "--readonly", action="store_true", default=None, help="take signals away from the app"
    )


def _interval(text: str) -> float:
    low, high = settings.INTERVAL_RANGE_S
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of {low:g} to {high:g}")
    return value


@dataclass(frozen=True, slots=True)
class Options:
    """Command line and config.toml together."""

    once: bool
    json: bool
    backend: str
    interval_s: float
    readonly: bool
    theme: str | None


def read_options(args: argparse.Namespace) -> Options:
    """Merge the command line over config.toml.

    Raises:
        UsageError: ``--json`` without ``--once``, or config.toml is wrong.
    """
    if args.json and not args.once:
        raise UsageError("--json needs --once; a live screen is not JSON")
    config = settings.load_config()
    return Options(
        once=args.once,
        json=args.json,
        backend=args.backend or config.backend,
        interval_s=args.interval or float(config.interval_s),
        readonly=config.readonly if args.readonly is None else args.readonly,
        theme=config.theme,
    )


def run(args: argparse.Namespace) -> int:
    """Show the screen, or one snapshot."""
    return show(read_options(args))


def show(options: Options, *, select_pid: int | None = None) -> int:
    """Show the live screen with a process selected, or print one snapshot; returns the exit code.

    Without a terminal on both ends the snapshot is printed instead, and a line says so.
    """
    once = options.once
    if not once and (reason := why_no_screen()):
        print(f"vramtop: {reason}; printing one snapshot (--once)", file=sys.stderr)
        once = True
    if once:
        print_snapshot(_read_snapshot(options), as_json=options.json)
        return EXIT_OK
    from ..sources.collector import Collector, open_backend
    from ..tui.app import run_app

    if options.backend == "nvml":  # asked for by name: say at once if there is none
        open_backend("nvml")[0].close()
    collector = Collector(options.backend, options.interval_s)
    return run_app(collector, select_pid=select_pid, readonly=options.readonly, theme=options.theme)


def _read_snapshot(options: Options) -> Snapshot:
    from ..sources.collector import Collector

    collector = Collector(options.backend, options.interval_s)
    try:
        return collector.read_once()
    finally:
        collector.stop()


def print_snapshot(snapshot: Snapshot, *, as_json: bool) -> None:
    """Print a snapshot as a table or as JSON."""
    if as_json:
        from ..report import json

        print(json.render(snapshot))
    else:
        from ..report import text

        print(text.render(snapshot, width=text.terminal_width()))


def why_no_screen() -> str | None:
    """Why the live screen cannot be shown here, None if it can."""
    # Textual draws on stderr and reads stdin, and does not check either.
    for stream, name in ((sys.stdin, "input"), (sys.stdout, "output"), (sys.stderr, "error")):
        if not stream.isatty():
            return f"standard {name} is not a terminal"
    if os.environ.get("TERM", "dumb") in {"dumb", ""}:
        return "TERM=dumb cannot show the live screen"
    return None
