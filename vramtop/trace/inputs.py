"""The batch: the tensors that the usual data collators give to each kind of model."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import UsageError
from ..estimator.workload import Workload
from .build import DTYPES, Built


def make_inputs(built: Built, workload: Workload) -> dict[str, Any]:
    """Tensors by argument name, on the device; for training with labels.

    Full sequences without padding: an attention mask of ones would be dropped by transformers.
    """
    batch, sequence = workload.batch, workload.sequence // workload.parallel.context
    if built.step is not None:
        return {}
    config = getattr(built.model, "config", None)
    if config is None:
        raise UsageError(
            f"{type(built.model).__name__} is no transformers model: let your function return "
            "(model, step), where step(model, batch, sequence) gives the loss"
        )
    if getattr(config, "num_channels", None):
        size = config.image_size
        pixels = torch.zeros(
            batch, config.num_channels, size, size, dtype=DTYPES[workload.weight_dtype]
        )
        inputs = {"pixel_values": pixels}
        if workload.training:
            inputs["labels"] = torch.zeros(batch, dtype=torch.long)
        return inputs
    inputs = {"input_ids": torch.zeros(batch, sequence, dtype=torch.long)}
    if workload.training or getattr(config, "is_encoder_decoder", False):
        classes = built.model.__class__.__name__.endswith("ForSequenceClassification")
        shape = (batch,) if classes else (batch, sequence)
        inputs["labels"] = torch.zeros(shape, dtype=torch.long)
    return inputs
