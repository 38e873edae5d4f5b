"""``vramtop plan``: the few ways to run a training on given GPUs that are worth choosing from."""

from __future__ import annotations

import argparse
import shlex
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import EXIT_FAILURE, EXIT_OK, UsageError
from .progress import ProgressLine
from .workload_options import (
    add_arithmetic_options,
    add_model_options,
    add_parallel_options,
    given_fields,
    workload_of,
)

if TYPE_CHECKING:
    from ..estimator.plan import Plan, Wish
    from ..estimator.result import Predictor
    from ..estimator.workload import Workload

NAME = "plan"
HELP = "Find the few ways worth choosing to run a training on given GPUs; options given are held."
EXAMPLE = "vramtop plan llama-2-7b --gpu a100-80gb --gpus 4 --effective-batch 64"
METHODS = ("auto", "trace", "closed-form")
_DEFAULT_BATCH = 64
_PIPE_WIDTH = 120
_BFLOAT = (8, 0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model and GPU, what is wanted, and what is held."""
    parser.usage = "vramtop plan MODEL (--gpu NAME | --vram SIZE) [OPTIONS]"
    add_model_options(parser, code=False)
    group = parser.add_argument_group("what is wanted")
    group.add_argument(
        "--effective-batch",
        type=int,
        default=_DEFAULT_BATCH,
        metavar="N",
        help="samples an optimizer step sees: micro-batch × accumulation × data-parallel GPUs "
        f"(default: {_DEFAULT_BATCH})",
    )
    group.add_argument("--batch", type=int, metavar="N", help="hold the micro-batch of one GPU")
    add_arithmetic_options(parser, searched=True)
    add_parallel_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--method",
        choices=METHODS,
        default="auto",
        help="how those that are shown are looked at again: traced where torch is there (auto), "
        "or by the closed form alone, which does the search (default: auto)",
    )
    group.add_argument("--json", action="store_true", help="as one JSON object, vramtop.plan/1")


def run(args: argparse.Namespace) -> int:
    """Print the plan; the exit code is 1 where nothing fits."""
    progress = ProgressLine()
    try:
        progress("searching", 0.0)
        wish = _wish(args)
        plan = _plan(wish, args.method, progress)
    finally:
        progress.clear()
    if args.json:
        from ..report import plan_json

        print(plan_json.render(plan))
    else:
        from ..report import plan_text

        width = shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
        print(plan_text.render(plan, width, _asked(args)))
    return EXIT_OK if plan.configurations else EXIT_FAILURE


def _wish(args: argparse.Namespace) -> Wish:
    from ..estimator.checks import validate
    from ..estimator.plan import Wish

    if args.gpu is None and args.vram is None:
        raise UsageError("plan needs a device: --gpu NAME or --vram SIZE")
    if args.effective_batch < 1:
        raise UsageError(f"--effective-batch {args.effective_batch}: it must be 1 or more")
    if args.micro_batches is not None:
        raise UsageError("--micro-batches: plan works it out of --effective-batch")
    if args.batch is not None and args.effective_batch % max(args.batch, 1):
        raise UsageError(
            f"--effective-batch {args.effective_batch} is no multiple of --batch {args.batch}"
        )
    workload = workload_of(args)
    held = given_fields(args) - {"sequence"}
    if args.sp is not None:
        held |= {"sequence"}
    if args.precision is None:
        workload = replace(workload, precision=_default_precision(workload))
    validate(workload)
    return Wish(workload, args.effective_batch, held)


def _default_precision(workload: Workload) -> str:
    """Autocast over fp32 weights, whose results need no apology; with adapters half weights."""
    half = "bf16"
    if workload.device is not None and workload.device.compute_capability < _BFLOAT:
        half = "fp16"
    return half if workload.lora is not None else f"amp-{half}"


def _plan(wish: Wish, method: str, progress: ProgressLine) -> Plan:
    from ..estimator import plan as planning
    from ..estimator.checks import validate
    from ..estimator.closed import predictor as closed_form
    from ..estimator.judge import fits_below_bytes, usable_bytes
    from ..predict import predictor
    from ..trace.tracer import Tracer

    device = wish.workload.device
    assert device is not None

    def by_formula(workload: Workload) -> Predictor:
        validate(workload)
        return closed_form(workload)

    stage = ""

    def outer(text: str, done: float) -> None:
        nonlocal stage
        stage = text
        progress(text, done)

    def inner(text: str, _done: float) -> None:
        progress(f"{stage}: {text}")  # a share of one trace says nothing of the plan's

    def by_trace(workload: Workload) -> Predictor:
        validate(workload)
        return predictor(workload, "trace", inner, tracer)

    why_no_trace = _why_no_trace()
    if method == "trace" and why_no_trace is not None:
        raise UsageError(f"--method trace: {why_no_trace}; or take --method closed-form")
    closely = method != "closed-form" and why_no_trace is None
    numbers = planning.numbers_of(wish.workload, by_formula)
    gpus = wish.workload.parallel.gpus
    surely = fits_below_bytes(device, "closed-form", gpus)
    found = planning.search(
        wish,
        # What the closed form is unsure of, the trace settles afterwards.
        limit_bytes=usable_bytes(device) if closely else surely,
        predictor_of=by_formula,
        numbers=numbers,
        progress=progress,
    )
    if not closely:
        reason = "" if why_no_trace is None else f": {why_no_trace}"
        return replace(found, notes=(*found.notes, f"memory by the closed form{reason}"))
    traced = replace(found, limit_bytes=fits_below_bytes(device, "trace", gpus))
    with Tracer() as tracer:
        return planning.recheck(traced, by_trace, numbers, outer)


def _why_no_trace() -> str | None:
    from ..trace import client

    return client.why_not()


def _asked(args: argparse.Namespace) -> str:
    device = ("--gpu", args.gpu) if args.gpu is not None else ("--vram", args.vram)
    return shlex.join((args.model, *device))
