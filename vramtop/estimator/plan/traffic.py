"""What a configuration sends, put together from ``communication``."""

from __future__ import annotations

from ..workload import Workload
from .communication import Traffic, data_parallel, pipeline_parallel, tensor_parallel
from .model import Numbers


def traffic(workload: Workload, passes: int, numbers: Numbers) -> tuple[Traffic, ...]:
    """Everything that one GPU sends for one optimizer step of ``passes`` micro-batches."""
    parallel = workload.parallel
    if parallel.gpus == 1:
        return ()
    part = numbers.part(workload)
    return (
        *data_parallel(
            part, gpus=parallel.data * parallel.context, zero=parallel.zero, passes=passes
        ),
        *tensor_parallel(
            part,
            gpus=parallel.tensor,
            passes=passes,
            sequence_parallel=parallel.sequence,
            recomputed=workload.checkpointing == "full",
        ),
        *pipeline_parallel(
            part,
            stages=parallel.pipeline,
            chunks=parallel.virtual_pipeline,
            passes=passes,
            divided_by=parallel.tensor if parallel.sequence else 1,
        ),
    )
