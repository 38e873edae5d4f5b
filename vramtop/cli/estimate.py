"""``vramtop estimate``: what a workload will take, and whether it fits, before anything runs."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import time
from typing import Final

from .. import predict
from ..errors import EXIT_FAILURE, EXIT_OK, UsageError
from ..estimator.result import Footprint
from ..estimator.workload import Workload
from ..report.ansi import look_of
from . import workload_options as options
from .progress import ProgressLine

NAME = "estimate"
HELP = "Predict the memory of a training or inference; needs no GPU."
EXAMPLE = "vramtop estimate llama-2-7b --batch 4 --seq 2048 --checkpointing full --gpu a100-80gb"

_PIPE_WIDTH: Final = 100
_LEAST_WIDTH: Final = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The what-if options of every estimate, and what to print."""
    parser.usage = "vramtop estimate MODEL [OPTIONS]"
    options.add_model_options(parser, required=False)
    options.add_batch_options(parser)
    options.add_arithmetic_options(parser)
    options.add_parallel_options(parser)
    group = parser.add_argument_group("answer")
    group.add_argument(
        "--method",
        default="auto",
        metavar="|".join(predict.METHODS),
        help="trace runs the real modules on fake tensors, closed-form takes formulas, seed rules "
        "of thumb (default: auto, trace where torch is)",
    )
    group.add_argument("--json", action="store_true", help="one JSON object, vramtop.estimate/1")
    group.add_argument(
        "--check", action="store_true", help="exit code 1 where it does not surely fit the device"
    )
    group.add_argument(
        "--seed-tables",
        action="store_true",
        help="the tables that the project began with, beside true figures; needs no MODEL",
    )


def run(args: argparse.Namespace) -> int:
    """Print the estimate; exit code 1 under ``--check`` where it does not fit.

    Raises:
        UsageError: the workload is impossible.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal still gets every figure
    width = max(shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns, _LEAST_WIDTH)
    if args.seed_tables:
        return _print_seed_tables(width)
    if args.model is None:
        raise UsageError("estimate needs a MODEL, as vramtop estimate llama-2-7b")
    workload = options.workload_of(args)
    if args.check and workload.device is None:
        raise UsageError("--check needs a device: --gpu NAME or --vram SIZE")
    begun = time.perf_counter()
    shown = ProgressLine()
    try:
        estimate = predict.estimate(
            workload, method=args.method, progress=shown if shown.shown else None
        )
    finally:
        shown.clear()
    if unused := options.unused_notes(args, workload):
        footprint = estimate.footprint
        footprint = dataclasses.replace(footprint, notes=(*footprint.notes, *unused))
        estimate = dataclasses.replace(estimate, footprint=footprint)
    if args.json:
        from ..report import estimate_json

        print(estimate_json.render(estimate))
    else:
        from ..report import estimate_text

        true = _true_footprint(workload) if args.method == "seed" else None
        took_s = time.perf_counter() - begun
        print(estimate_text.render(estimate, look_of(sys.stdout, width), took_s, true))
    return EXIT_FAILURE if args.check and estimate.verdict != "fits" else EXIT_OK


def _true_footprint(workload: Workload) -> Footprint | None:
    """By formulas that are right, None where there are none for the model."""
    try:
        return predict.predictor(workload, "closed-form").at(workload.batch)
    except UsageError:
        return None


def _print_seed_tables(width: int) -> int:
    from ..report.seed_tables import render_tables

    print(render_tables(_true_footprint, min(width, _PIPE_WIDTH)))
    return EXIT_OK
