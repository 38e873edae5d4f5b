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
    (torch.utils.checkpoint.create_selective_checkpoint_contexts); torchtitan's keeps every other
    product only (parallelisms/parallelize_llama.py, _get_custom_policy).

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
        alternating = workload.stack == "torchtitan"
        arguments["context_fn"] = _every_other_product if alternating else _every_product
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
    _aten._scaled_dot_product_cudnn_attention.default,
}


_Policy = torch.utils.checkpoint.CheckpointPolicy
_contexts = torch.utils.checkpoint.create_selective_checkpoint_contexts


def _every_product() -> Any:
    return _contexts(_keep_products)


def _every_other_product() -> Any:
    return _contexts(partial(_keep_products, counts={False: 0, True: 0}))


def _keep_products(
    context: Any, operation: Any, *_: Any, counts: dict[bool, int] | None = None, **_kwargs: Any
) -> Any:
    """``counts``: products so far, in the forward and in its repetition; every second one goes."""
    if counts is not None and operation is _aten.mm.default:
        counts[context.is_recompute] += 1
        if counts[context.is_recompute] % 2 == 0:
            return _Policy.PREFER_RECOMPUTE
    return _Policy.MUST_SAVE if operation in _KEPT else _Policy.PREFER_RECOMPUTE
