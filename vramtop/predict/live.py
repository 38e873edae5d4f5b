"""Predictions of live processes: rebuilt from what their probes say, traced, or fitted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..core.breakdowns import breakdown_of, outside_bytes
from ..core.model import Device, Process
from ..core.observed import ObservedPeak
from ..errors import UsageError, VramtopError
from ..estimator.checks import validate
from ..estimator.closed import ClosedPredictor
from ..estimator.expected import Expecting
from ..estimator.live.fitted import fitted
from ..estimator.live.job import Job, main_model, parameter_bytes, rebuild, without_place
from ..estimator.live.rebuilt import ClosedExpecting, TracedExpecting, is_same, workload_notes
from ..estimator.ranks import Fullest
from ..estimator.result import Progress
from ..estimator.workload import QUANTIZED, to_json

if TYPE_CHECKING:
    from ..trace.tracer import Tracer

_OUTSIDE_STEP_BYTES: Final = 64 << 20
"""By so much a process has to grow outside its allocator before it is predicted anew."""


def expect(
    process: Process,
    torch_device: str,
    devices: tuple[Device, ...],
    observed: Sequence[ObservedPeak] = (),
    progress: Progress | None = None,
    tracer: Tracer | None = None,
) -> Expecting:
    """What a process should hold, by the best method that works.

    A trace of the model rebuilt from its configuration; on CUDA, where torch is missing here, the
    closed form of it; else what the process itself was seen to hold. Takes seconds where a trace
    has to be made: not for the thread that paints.

    Raises:
        UsageError: nothing can be said yet; one line says why.
    """
    from . import silent

    try:
        job = rebuild(process, torch_device, devices)
        validate(job.workload)
        return _rebuilt(process, torch_device, job, progress or silent, tracer)
    except VramtopError as error:
        why = str(error)
    outside = outside_bytes(process, torch_device)
    try:
        return fitted(process, torch_device, observed, why, outside or 0)
    except UsageError as error:
        raise UsageError(f"{why}; {error}") from None


def signature(process: Process, torch_device: str, observed: Sequence[ObservedPeak] = ()) -> str:
    """Changes when ``expect`` would answer differently; cheap, for every tick.

    It does not for what comes and goes all the time: the room that others leave on the device, and
    on the CPU the RSS beyond the tensors.
    """
    outside = outside_bytes(process, torch_device) if torch_device != "cpu" else None
    rest = None if outside is None else round(outside / _OUTSIDE_STEP_BYTES)
    try:
        workload = without_place(rebuild(process, torch_device, ()).workload)
    except UsageError as error:
        probe = process.probe
        return repr((str(error), probe.models, probe.optimizers, tuple(observed), rest))
    # A line answers for every batch but one, which is traced by itself.
    workload = workload.with_batch(1 if workload.batch == 1 else 2)
    told = json.dumps(to_json(workload), sort_keys=True, default=str)
    # Should it not be traced: what was seen of a batch size for the first time.
    return repr((told, rest, sorted({seen.batch for seen in observed})))


def _rebuilt(
    process: Process,
    torch_device: str,
    job: Job,
    progress: Progress,
    tracer: Tracer | None,
) -> Expecting:
    from . import can_trace, traced

    workload = job.workload
    outside = outside_bytes(process, torch_device)
    if can_trace():
        made = traced(workload, progress, tracer)
        assert not isinstance(made, Fullest)  # of pipelines, which no probe tells of
        if outside is not None:
            made = made.with_outside(outside)
        expecting: TracedExpecting | ClosedExpecting = TracedExpecting(
            job, made, workload_notes(workload)
        )
    elif workload.backend == "cuda":
        closed = ClosedPredictor(workload, outside)
        expecting = ClosedExpecting(job, closed, "torch and transformers are not installed here")
    else:
        raise UsageError("torch and transformers are not installed here to trace it")
    model = main_model(process)
    breakdown = breakdown_of(process, torch_device)
    if breakdown is not None and not is_same(
        expecting.at(workload.batch),
        # Of quantised layers no parameter holds the scales.
        None if workload.precision in QUANTIZED else breakdown.parameter_bytes,
        # How much of a sharded model a rank trains is not told.
        None if workload.parallel.zero else parameter_bytes(model.trainable_by_dtype),
    ):
        raise UsageError(f"{model.class_name} is not what its configuration makes here")
    return expecting
