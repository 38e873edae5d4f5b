"""The ways to spread a training over GPUs that are tried: tensor, pipeline, data, ZeRO stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from ..workload import Parallel
from .values import Wish

_NODE_GPUS: Final = 8
"""Tensor parallelism beyond the GPUs that share NVLink is not tried (Narayanan et al. 2021, 3)."""


def layouts(wish: Wish) -> tuple[Parallel, ...]:
    """Every layout over all of the GPUs, the plainest first; degrees that the user holds stay.

    ZeRO-2 and 3 are not tried with a pipeline, whose micro-batches would reduce and gather
    everything each (DeepSpeed refuses them).
    """
    wanted = wish.workload.parallel
    found = [
        layout
        for tensor in _degrees(wish, "tensor", min(wanted.gpus, _NODE_GPUS))
        for pipeline in _degrees(wish, "pipeline", wanted.gpus)
        for layout in _layouts(wish, tensor, pipeline)
    ]
    return tuple(found)


def _degrees(wish: Wish, field: str, most: int) -> Iterator[int]:
    wanted = wish.workload.parallel
    if field in wish.held:
        yield int(getattr(wanted, field))
        return
    yield from (degree for degree in range(1, most + 1) if wanted.gpus % degree == 0)


def _layouts(wish: Wish, tensor: int, pipeline: int) -> Iterator[Parallel]:
    wanted = wish.workload.parallel
    model_parallel = tensor * pipeline * wanted.context
    if wanted.gpus % model_parallel:
        return
    own_tokens = wish.workload.sequence // wanted.context
    spread = replace(
        wanted,
        tensor=tensor,
        pipeline=pipeline,
        sequence=wanted.sequence
        if "sequence" in wish.held
        else tensor > 1 and own_tokens % tensor == 0,
        virtual_pipeline=wanted.virtual_pipeline if pipeline > 1 else 1,
    )
    if "zero" in wish.held:
        yield spread
        return
    stages: tuple[int, ...] = (0,)
    if spread.data * spread.context > 1:
        stages = (0, 1) if pipeline > 1 else (0, 1, 2, 3)
    for zero in stages:
        yield replace(spread, zero=zero)


_FILLED: Final = 4
"""Micro-batches for each stage of a pipeline, from which on its idle time is small (Huang et al.
2019, GPipe, section 2.3)."""


def sizes(wish: Wish, parallel: Parallel) -> tuple[int, ...]:
    """The micro-batches that make the effective batch in a layout; none where it cannot be."""
    samples, rest = divmod(wish.effective_batch, parallel.data)
    if rest or not samples:
        return ()
    if "batch" in wish.held:
        batch = wish.workload.batch
        return (batch,) if samples % batch == 0 else ()
    found = micro_batches(samples)
    stages = parallel.pipeline
    if stages == 1:
        return found
    # With fewer micro-batches the pipeline idles for much of the step.
    full = tuple(size for size in found if samples // size >= _FILLED * stages)
    return full or ((1,) if samples >= stages else ())


def nearest_batches(wish: Wish, able: Sequence[Parallel]) -> tuple[int, ...]:
    """The effective batches around the wanted one of which ``sizes`` finds some in a layout."""
    held = wish.workload.batch if "batch" in wish.held else 1
    below: list[int] = []
    above: list[int] = []
    for parallel in able:
        unit = parallel.data * held
        least = unit if "batch" in wish.held else unit * parallel.pipeline
        lower = wish.effective_batch // unit * unit
        if lower >= least:
            below.append(lower)
        above.append(max(lower + unit, least))
    return (*([max(below)] if below else []), *([min(above)] if above else []))


def micro_batches(samples: int) -> tuple[int, ...]:
    """The micro-batches that divide ``samples`` evenly, the largest first."""
    return tuple(size for size in range(samples, 0, -1) if samples % size == 0)
