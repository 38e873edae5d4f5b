"""``vramtop postmortem``: why a training ran out of memory, or what was known when it was lost."""

from __future__ import annotations

import argparse
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

from ..core.fleet import Fleet, reduce
from ..core.model import PostMortem
from ..core.oom_figures import figures
from ..core.postmortem import FittingBatch
from ..core.postmortem_story import Story, story
from ..errors import EXIT_OK, FileUnreadable, VramtopError
from .progress import ProgressLine

NAME = "postmortem"
HELP = "Why a training ran out of memory: the moment, what was held, what would have fit."
EXAMPLE = "vramtop postmortem; vramtop postmortem 12345; vramtop postmortem FILE --json"

_PIPE_WIDTH: Final = 100
_LEAST_WIDTH: Final = 60
_LISTED: Final = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and how it is shown."""
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="a post-mortem (*.postmortem.json), or the pid of a training that left one; without "
        "it the newest, and a list of the others and where they are",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the story.

    Raises:
        FileUnreadable: the file is no post-mortem, or none is named and there is none.
    """
    from ..sources.postmortem import read

    path, others = _newest() if args.file is None else (_named(args.file), [])
    found = read(path)
    told, batch = _tell(found)
    if args.json:
        from ..report import postmortem_json

        print(postmortem_json.render(found, told, batch))
        return EXIT_OK
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal still gets every figure
    from ..report import postmortem_text
    from ..report.ansi import look_of

    width = max(shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns, _LEAST_WIDTH)
    print(postmortem_text.render(found, told, look_of(sys.stdout, width)))
    if others:
        print("\nothers:")
        for line in _listed(others):
            print(f"  {line}")
    return EXIT_OK


def _named(file: Path) -> Path:
    """The file itself, or the newest one of that pid."""
    from ..sources.postmortem import stored

    pid = str(file)
    if not pid.isdigit() or file.exists():
        return file
    paths = {path: path.name.partition("-")[0] for path in stored()}
    of_pid = next((path for path in paths if paths[path] == pid), None)
    if of_pid is None:
        left = ", ".join([*dict.fromkeys(paths.values())][:_LISTED]) or "none"
        raise FileUnreadable(f"process {pid} has left no post-mortem; these have: {left}")
    return of_pid


def _newest() -> tuple[Path, list[Path]]:
    from ..protocol.rendezvous import bind_directory
    from ..sources.postmortem import stored

    paths = stored()
    if not paths:
        raise FileUnreadable(
            f"no training has left a post-mortem in {bind_directory()}; they are written for "
            "trainings under `vramtop run` or `vramtop attach`"
        )
    return paths[0], paths[1:]


def _listed(paths: list[Path]) -> list[str]:
    """When, what and where; those that cannot be read say so."""
    from ..sources.postmortem import read

    lines = []
    for path in paths[:_LISTED]:
        try:
            found = read(path)
        except FileUnreadable as error:
            lines.append(str(error))
            continue
        at = datetime.fromtimestamp(found.failure.at).astimezone()
        kind = "OOM" if found.failure.kind == "oom" else "lost"
        lines.append(f"{at:%Y-%m-%d %H:%M:%S}  {kind:<4}  pid {found.process.pid}  {path}")
    if len(paths) > _LISTED:
        lines.append(f"and {len(paths) - _LISTED} older ones")
    return lines


def _tell(found: PostMortem) -> tuple[Story, FittingBatch | None]:
    """The story with a prediction, which takes seconds the first time."""
    from ..predict.postmortem import Foreseen, foreseen, telling

    fleet = reduce(Fleet(), found.snapshot)
    process = fleet.snapshot.processes[0]
    shown = ProgressLine()
    made: Foreseen | VramtopError
    try:
        at = figures(fleet, process, found.failure)
        made = foreseen(fleet, process, at, shown if shown.shown else None)
    except VramtopError as error:
        made = error
    finally:
        shown.clear()
    predicted, text, batch = telling(made, found.prediction)
    told = story(
        fleet,
        process,
        traceback=found.traceback,
        predicted=predicted,
        predicted_text=text,
        batch=batch,
    )
    assert told is not None  # what is read has a failure
    return told, batch
