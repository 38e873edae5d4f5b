"""``vramtop explore``: turn a workload's controls and watch whether it fits; needs no GPU."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from typing import Final

from .. import predict, settings
from ..errors import EXIT_OK, UsageError
from ..estimator.catalog import find_gpu
from ..estimator.checks import validate
from ..estimator.judge import judge
from ..estimator.workload import Workload
from . import workload_options as options
from .monitor import why_no_screen
from .progress import ProgressLine

NAME = "explore"
HELP = "What if: controls for batch, precision, optimizer …, and at once whether it fits."
EXAMPLE = "vramtop explore llama-2-7b --batch 16 --checkpointing full --gpu a100-80gb"

_METHODS: Final = ("auto", "trace", "closed-form")
_DEFAULT_GPU: Final = "4090"
_PIPE_WIDTH: Final = 100
_LEAST_WIDTH: Final = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The what-if options of every estimate, as the first values of the controls."""
    parser.usage = "vramtop explore MODEL [OPTIONS]"
    parser.description = f"{HELP} Without --gpu and --vram: on an RTX {_DEFAULT_GPU}."
    options.add_model_options(parser)
    options.add_batch_options(parser)
    options.add_arithmetic_options(parser)
    options.add_parallel_options(parser)
    group = parser.add_argument_group("screen")
    group.add_argument(
        "--method",
        default="auto",
        metavar="|".join(_METHODS),
        help="closed-form takes formulas alone; else they answer first and the trace, where torch "
        "is, a moment later (default: auto)",
    )
    group.add_argument(
        "--once", action="store_true", help="print the answer with its curve and exit"
    )
    group.add_argument("--json", action="store_true", help="with --once: as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Show the screen until the user leaves it, or print the answer once.

    Raises:
        UsageError: the workload is impossible.
    """
    if args.json and not args.once:
        raise UsageError("--json needs --once; a live screen is not JSON")
    if args.method not in _METHODS:
        raise UsageError(f"no method {args.method!r}; there are: {', '.join(_METHODS)}")
    workload = options.workload_of(args)
    if workload.device is None:
        workload = dataclasses.replace(workload, device=find_gpu(_DEFAULT_GPU))
    validate(workload)
    once = args.once
    if not once and (reason := why_no_screen()):
        print(f"vramtop: {reason}; printing the answer once (--once)", file=sys.stderr)
        once = True
    if once:
        _print_once(workload, args.method, as_json=args.json)
        return EXIT_OK
    from ..tui.explore_app import run_explore

    return run_explore(workload, method=args.method, theme=settings.load_config().theme)


def _print_once(workload: Workload, method: str, *, as_json: bool) -> None:
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal still gets every figure
    shown = ProgressLine()
    try:
        predictor = predict.predictor(workload, method, shown if shown.shown else None)
        estimate = judge(predictor, workload)
    finally:
        shown.clear()
    from ..report import explore_text

    if as_json:
        import json

        print(json.dumps(explore_text.to_object(estimate, predictor), indent=2))
        return
    from ..report.ansi import look_of

    width = max(shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns, _LEAST_WIDTH)
    print(explore_text.render(estimate, predictor, look_of(sys.stdout, width)))
