"""``vramtop record``: write what the live screen would show into a file, without a screen."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .. import settings
from ..core.units import format_bytes
from ..errors import EXIT_OK, VramtopError
from . import monitor
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..core.fleet import ProcessKey
    from ..core.model import Snapshot
    from ..sources.recording.recorder import Recorder

NAME = "record"
HELP = "Record devices, processes and trainings into a file, for vramtop replay."
EXAMPLE = "vramtop record night.vramtop --interval 5"

_LOOK_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, what is read, and for how long."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a recording that is there already grows longer"
    )
    monitor.add_reading_arguments(parser)
    parser.add_argument(
        "--seconds",
        type=_seconds,
        metavar="N",
        help="end after so many seconds (default: by Ctrl-C or SIGTERM)",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def run(args: argparse.Namespace) -> int:
    """Record until told to end.

    Raises:
        FileUnreadable: the file is there and is no recording.
        VramtopError: it cannot be written, as on a full disk; what was recorded can be read.
        BackendUnavailable: the backend that was asked for has nothing to show.
    """
    from ..sources.collector import Collector, open_backend
    from ..sources.recording.recorder import Recorder

    config = settings.load_config()
    backend = args.backend or config.backend
    if backend == "nvml":  # asked for by name: say at once if there is none
        open_backend("nvml")[0].close()
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        recorder = Recorder(args.file)
        collector = Collector(backend, args.interval or float(config.interval_s))
        watched = _Watched(recorder)
        try:
            collector.start(watched.take)
            _wait(watched, ended, args.seconds)
        finally:
            collector.stop()
            recorder.close()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print(f"vramtop: {watched.said}: {args.file}", file=sys.stderr)
    if recorder.problem:
        raise VramtopError(f"recording stopped: {recorder.problem}")
    return EXIT_OK


class _Watched:
    """Hands snapshots to a recorder, and says what it has by now."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._trainings: set[ProcessKey] = set()

    def take(self, snapshot: Snapshot) -> None:
        self._trainings |= {p.key for p in snapshot.processes if p.probe.state == "streaming"}
        self.recorder.take(snapshot)

    @property
    def said(self) -> str:
        recorder, trainings = self.recorder, len(self._trainings)
        lost = f" ({recorder.dropped} lost to a slow disk)" * bool(recorder.dropped)
        return (
            f"{recorder.count} snapshot{'s' * (recorder.count != 1)}{lost}, "
            f"{format_bytes(recorder.written_bytes)}, "
            f"{trainings} training{'s' * (trainings != 1)}"
        )


def _wait(watched: _Watched, ended: threading.Event, seconds: float | None) -> None:
    """Wait for the end, for so many seconds, or for a fault; say on a terminal how far it is."""
    line = ProgressLine()
    until = float("inf") if seconds is None else time.monotonic() + seconds
    try:
        while (left_s := until - time.monotonic()) > 0 and not watched.recorder.problem:
            line(f"{watched.said}; Ctrl-C ends")
            if ended.wait(min(left_s, _LOOK_S)):
                return
    finally:
        line.clear()
