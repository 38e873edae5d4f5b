"""One traced run: a workload at one batch size, recorded on fake tensors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ..errors import UsageError, VramtopError
from ..estimator.layers import NotRepeating, Stack, repeat
from ..estimator.pattern import single
from ..estimator.recording import Recording
from ..estimator.workload import Workload
from .build import Built, build, find_again, materialise
from .cuda_paths import cuda_paths
from .generation import run_inference
from .known_values import values_that_are_known
from .lora import add_lora
from .quantized import quantize
from .recorder import Recorder
from .steps import Progress, run_training


@dataclass(frozen=True, slots=True)
class Run:
    """A recording and how its layers repeat."""

    recording: Recording
    stacks: tuple[Stack, ...]
    irregular: int


def run(workload: Workload, progress: Progress, *, whole: bool = False) -> Run:
    """Trace a workload; ``whole``: every layer, where the layers do not repeat.

    Raises:
        UsageError: the model cannot be built, or its step cannot be run on fake tensors.
    """
    built = _prepared(workload, whole=whole)
    on_cpu = workload.backend == "cpu"
    recorder = Recorder(on_cpu=on_cpu, one_by_one=workload.implementation == "forloop")
    paths = values_that_are_known() if on_cpu else cuda_paths(workload)
    try:
        with FakeTensorMode(), paths, recorder:
            recorder.mark("load", 0)
            materialise(built, recorder)
            recorder.watch(built.model, built.layers)
            recorder.name_parameters(built.model)
            if workload.training:
                run_training(built, workload, recorder, progress)
            else:
                run_inference(built, workload, recorder, progress)
    except torch._subclasses.fake_tensor.DynamicOutputShapeException as error:
        raise UsageError(_dynamic(workload, error)) from None
    except torch._subclasses.fake_tensor.DataDependentOutputException as error:
        raise UsageError(_dynamic(workload, error)) from None
    except VramtopError:
        raise
    except Exception as error:  # the user's own code may raise anything
        if workload.model.entry is None:
            raise
        raise UsageError(
            f"{workload.model.entry}: {type(error).__name__}: {error}".splitlines()[0]
        ) from None
    recorder.recording.put_in_order()
    return Run(recorder.recording, tuple(built.stacks), built.irregular)


def _prepared(workload: Workload, *, whole: bool) -> Built:
    built = build(workload, whole=whole)
    if built.complete:
        return built
    quantize(built.model, workload)
    if workload.lora is not None:
        find_again(built, add_lora(built.model, workload))
    return built


def _dynamic(workload: Workload, error: Any) -> str:
    what = (
        f"{workload.model.name} cannot be traced: something in it depends on values ({error.func})"
    )
    if workload.model.entry is not None:
        return f"{what}; leave out .item(), prints of tensors and the like"
    return f"{what}; use --method closed-form"


def trace_batches(
    workload: Workload, batches: list[int], progress: Progress
) -> list[dict[str, Any]]:
    """Recordings at several batch sizes as JSON values, each with its stacks of layers.

    Where the layers turn out not to repeat, all of them are traced instead.
    """
    return _traces(workload, batches, progress, whole=False) or _traces(
        workload, batches, progress, whole=True
    )


def _traces(
    workload: Workload, batches: list[int], progress: Progress, *, whole: bool
) -> list[dict[str, Any]]:
    """Nothing where the layers do not repeat at every batch size."""
    traces = []
    for number, batch in enumerate(batches):

        def part(text: str, done: float, number: int = number, batch: int = batch) -> None:
            progress(f"batch {batch}: {text}", (number + done) / len(batches))

        traced = run(workload.with_batch(batch), part, whole=whole)
        if not whole and not _repeats(traced, batch):
            return []
        traces.append(
            {
                "batch": batch,
                "recording": traced.recording.to_json(),
                "stacks": [dataclasses.asdict(stack) for stack in traced.stacks],
                "irregular": traced.irregular,
            }
        )
    return traces


def _repeats(traced: Run, batch: int) -> bool:
    pattern = single(traced.recording, batch)
    try:
        for stack in traced.stacks:
            # One period more tells as much as all of them.
            depth = min(stack.depth, stack.traced + stack.period)
            pattern = repeat(pattern, dataclasses.replace(stack, depth=depth), traced.irregular)
    except NotRepeating:
        return False
    return True
