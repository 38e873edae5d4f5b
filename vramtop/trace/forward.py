"""The forward pass that ends in a loss, as each stack calls it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ..estimator.workload import Workload
from .autocast import autocast
from .build import Built


def precision_of(workload: Workload) -> AbstractContextManager[Any]:
    """Autocast, where the workload has it."""
    if workload.autocast_dtype is None:
        return nullcontext()
    context: AbstractContextManager[Any] = autocast(workload.autocast_dtype)
    return context


def forward(built: Built, workload: Workload, inputs: dict[str, Any]) -> Any:
    """What the model returns, the loss first; a user's own step gives the loss alone."""
    with precision_of(workload):
        if built.step is not None:
            return (built.step(built.model, workload.batch, workload.sequence),)
        if workload.chunked_loss:
            from .losses import chunked_loss

            return (chunked_loss(built.model, inputs),)
        outputs = built.model(**inputs)
    if workload.stack == "hf-trainer" and workload.autocast_dtype is not None:
        # accelerate.utils.convert_outputs_to_fp32 wraps the model's forward.
        outputs = type(outputs)({name: _upcast(value) for name, value in outputs.items()})
    return outputs if isinstance(outputs, dict) else (outputs,)


def _upcast(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return value
