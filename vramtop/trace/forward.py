"""The forward pass that ends in a loss, as each stack calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..estimator.workload import Workload
from .autocast import autocast
from .build import DTYPES, Built
from .recorder import Recorder


@contextmanager
def precision_of(workload: Workload, recorder: Recorder) -> Iterator[None]:
    """Autocast, where the workload has it."""
    if workload.autocast_dtype is None:
        yield
        return
    if workload.backend == "cpu":
        context: Any = torch.autocast("cpu", dtype=DTYPES[workload.autocast_dtype])
    else:
        context = autocast(workload.autocast_dtype)
    context.__enter__()
    try:
        yield
    finally:
        with recorder.unordered():  # the cache of casts is a hash table
            context.__exit__(None, None, None)


def forward(built: Built, workload: Workload, recorder: Recorder, inputs: dict[str, Any]) -> Any:
    """What the model returns, the loss first; a user's own step gives the loss alone."""
    with precision_of(workload, recorder):
        if built.step is not None:
            return (built.step(built.model, workload.batch, workload.sequence),)
        if workload.chunked_loss:
            from .losses import chunked_outputs

            outputs = chunked_outputs(built.model, inputs)
        elif workload.loop.loss == "outside" and "labels" in inputs:
            from .losses import outside_outputs

            outputs = outside_outputs(built.model, inputs)
        elif workload.stack == "fsdp-qlora" and "labels" in inputs:
            from .losses import shifted_outputs

            outputs = shifted_outputs(built.model, inputs)
        else:
            outputs = built.model(**inputs)
    if workload.stack == "hf-trainer" and workload.autocast_dtype is not None:
        # accelerate.utils.convert_outputs_to_fp32 wraps the model's forward.
        outputs = type(outputs)({name: _upcast(value) for name, value in outputs.items()})
    return outputs if isinstance(outputs, dict) else (outputs,)


def _upcast(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return value
