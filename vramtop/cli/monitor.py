"""``vramtop``: the live screen, or one snapshot with ``--once``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .. import settings
from ..core.alerts import Alert, alerts
from ..core.fleet import Fleet, ProcessKey, reduce
from ..core.model import Snapshot
from ..core.outlook import foresee
from ..errors import EXIT_ALERT, EXIT_OK, UsageError

if TYPE_CHECKING:
    from ..predict.predictions import Prediction

NAME = "monitor"
HELP = "Show devices, processes and where the memory of PyTorch trainings goes."
EXAMPLE = "vramtop --once --json --backend host"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that every command shares that shows snapshots."""
    parser.add_argument("--once", action="store_true", help="print one snapshot and exit")
    parser.add_argument("--json", action="store_true", help="with --once: as one JSON object")
    add_reading_arguments(parser)
    parser.add_argument(
        "--readonly",
        action="store_true",
        default=None,
        help="take signals and attach away from the app",
    )
    parser.add_argument(
        "--alert-at",
        type=_percent,
        metavar="PERCENT",
        help="warn of a device that is this full (default: never); a foreseen OOM is always "
        f"warned of. With --once a warning makes the exit code {EXIT_ALERT}",
    )
    parser.add_argument(
        "--on-alert",
        type=_command,
        metavar="COMMAND",
        help="shell command that the screen runs once for each alert; it finds what it is about "
        "in $VRAMTOP_ALERT_TEXT, _KIND (oom, lost, threshold, forecast), _PID and _DEVICE",
    )


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """What is read, and how often."""
    low, high = settings.INTERVAL_RANGE_S
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


def _interval(text: str) -> float:
    return _number(text, *settings.INTERVAL_RANGE_S)


def _percent(text: str) -> float:
    return _number(text.removesuffix("%"), *settings.ALERT_RANGE_PERCENT)


def _command(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a command is needed, as 'notify-send vramtop'")
    return text


def _number(text: str, low: float, high: float) -> float:
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
    alert_at_percent: float | None
    on_alert: str | None


def read_options(args: argparse.Namespace) -> Options:
    """Merge the command line over config.toml.

    Raises:
        UsageError: ``--json`` without ``--once``, ``--on-alert`` with it, or config.toml is wrong.
    """
    if args.json and not args.once:
        raise UsageError("--json needs --once; a live screen is not JSON")
    if args.on_alert and args.once:
        raise UsageError(f"--on-alert needs the screen; --once exits with {EXIT_ALERT} instead")
    config = settings.load_config()
    return Options(
        once=args.once,
        json=args.json,
        backend=args.backend or config.backend,
        interval_s=args.interval or float(config.interval_s),
        readonly=config.readonly if args.readonly is None else args.readonly,
        theme=config.theme,
        alert_at_percent=config.alert_at_percent if args.alert_at is None else args.alert_at,
        on_alert=config.on_alert if args.on_alert is None else args.on_alert,
    )


def run(args: argparse.Namespace) -> int:
    """Show the screen, or one snapshot."""
    return show(read_options(args))


def show(options: Options, *, select_pid: int | None = None, wait_s: float = 0.0) -> int:
    """Show the live screen with a process selected, or print one snapshot; returns the exit code.

    Without a terminal on both ends the snapshot is printed instead, and a line says so. With a
    process selected the snapshot is of that alone, and waits up to ``wait_s`` for its next step.
    """
    once = options.once
    if not once and (reason := why_no_screen()):
        print(f"vramtop: {reason}; printing one snapshot (--once)", file=sys.stderr)
        once = True
    if once:
        snapshot = _read_snapshot(options, select_pid, wait_s)
        active = alerts(foresee(reduce(Fleet(), snapshot)), options.alert_at_percent)
        print_snapshot(snapshot, active, as_json=options.json)
        return EXIT_ALERT if active else EXIT_OK
    from ..sources.collector import Collector, open_backend
    from ..tui.app import run_app
    from .alerting import AlertCommand

    if options.backend == "nvml":  # asked for by name: say at once if there is none
        open_backend("nvml")[0].close()
    collector = Collector(options.backend, options.interval_s)
    command = AlertCommand(options.on_alert) if options.on_alert else None
    try:
        return run_app(
            collector,
            select_pid=select_pid,
            readonly=options.readonly,
            theme=options.theme,
            alert_at_percent=options.alert_at_percent,
            on_alerts=command.tell if command else None,
        )
    finally:
        if command is not None:
            command.close()


def _read_snapshot(options: Options, pid: int | None, wait_s: float) -> Snapshot:
    from ..sources.collector import Collector
    from .progress import ProgressLine

    collector = Collector(options.backend, options.interval_s)
    line = ProgressLine()
    if wait_s:
        line(f"waiting for the next step of process {pid}, {wait_s:g} s at most")
    try:
        snapshot = collector.read_once(pid, wait_s)
    finally:
        line.clear()
        collector.stop()
    if pid is None:
        return snapshot
    asked = tuple(process for process in snapshot.processes if process.pid == pid)
    return replace(snapshot, processes=asked)


def print_snapshot(snapshot: Snapshot, active: tuple[Alert, ...] = (), *, as_json: bool) -> None:
    """Print a snapshot, its alerts and what its trainings should hold, as a table or as JSON."""
    render_snapshot(snapshot, active, _predictions(snapshot), as_json=as_json)


def render_snapshot(
    snapshot: Snapshot,
    active: tuple[Alert, ...],
    predictions: Mapping[ProcessKey, Prediction],
    *,
    as_json: bool,
) -> None:
    """Print a snapshot, its alerts and these predictions, as a table or as JSON."""
    if as_json:
        from ..report import json

        print(json.render(snapshot, active, predictions=predictions))
    else:
        from ..report import text

        print(text.render(snapshot, text.terminal_width(), active, predictions=predictions))


def _predictions(snapshot: Snapshot) -> Mapping[ProcessKey, Prediction]:
    """Of every process with a streaming probe; takes seconds the first time."""
    if not any(process.probe.state == "streaming" for process in snapshot.processes):
        return {}
    from ..predict.predictions import of_fleet
    from .progress import ProgressLine

    line = ProgressLine()
    try:
        return of_fleet(reduce(Fleet(), snapshot), line)
    finally:
        line.clear()


def why_no_screen() -> str | None:
    """Why the live screen cannot be shown here, None if it can."""
    # Textual draws on stderr and reads stdin, and does not check either.
    for stream, name in ((sys.stdin, "input"), (sys.stdout, "output"), (sys.stderr, "error")):
        if not stream.isatty():
            return f"standard {name} is not a terminal"
    if os.environ.get("TERM", "dumb") in {"dumb", ""}:
        return "TERM=dumb cannot show the live screen"
    return None
