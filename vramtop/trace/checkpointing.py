"""Activation checkpointing, full and selective, as the libraries enable it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from ..errors import UsageError
from ..estimator.workload import Workload


def enable_checkpointing(model: Any, workload: Workload) -> None:
    """Make every layer recompute its activations.

    ``full``: transformers' ``gradient_checkpointing_enable``, not reentrant. ``selective``: the
    same with torch's selective policy, which keeps what matrix products and attention have made
    (torch.utils.checkpoint.create_selective_checkpoint_contexts).

    Raises:
        UsageError: the model does not know how.
    """
    if workload.checkpointing == "none" or not workload.training:
        return
    enable = getattr(model, "gradient_checkpointing_enable", None)
    if enable is None:
        raise UsageError(
            f"{type(model).__name__} has no gradient_checkpointing_enable; checkpoint in your own "
            "function instead of --checkpointing"
        )
    arguments: dict[str, Any] = {"use_reentrant": False}
    if workload.checkpointing == "selective":
        arguments["context_fn"] = partial(
            torch.utils.checkpoint.create_selective_checkpoint_contexts, _keep_products
        )
    try:
        enable(gradient_checkpointing_kwargs=arguments)
    except ValueError as error:
        raise UsageError(f"--checkpointing {workload.checkpointing}: {error}") from None
    if workload.lora is not None and hasattr(model, "enable_input_require_grads"):
        # PEFT and Trainer do so: without it nothing frozen would be told to go backward.
        model.enable_input_require_grads()


_aten = torch.ops.aten
_KEPT = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
}


def _keep_products(_context: Any, operation: Any, *_args: Any, **_kwargs: Any) -> Any:
    policy = torch.utils.checkpoint.CheckpointPolicy
    return policy.MUST_SAVE if operation in _KEPT else policy.PREFER_RECOMPUTE
