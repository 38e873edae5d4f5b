"""Inference: one forward, or a prompt and the tokens generated after it with a KV cache."""

from __future__ import annotations

from typing import Any

import torch

from ..estimator.workload import Workload
from .build import Built
from .forward import precision_of
from .inputs import make_inputs
from .recorder import Recorder
from .steps import Progress

_ALL_TOKENS = 16
"""Up to so many new tokens every one is traced; of more the first and, after a jump, the last."""


def run_inference(built: Built, workload: Workload, recorder: Recorder, progress: Progress) -> None:
    """A forward without gradients; with ``new_tokens`` the prompt and the tokens after it."""
    with torch.no_grad(), precision_of(workload, recorder), recorder.hooks():
        recorder.mark("other", 1)
        inputs = make_inputs(built, workload)
        recorder.label(inputs.items(), "input")
        recorder.mark("forward", 1)
        if built.step is not None:
            outputs = built.step(built.model, workload.batch, workload.sequence)
        elif not workload.new_tokens or not _has_cache(built.model):
            outputs = built.model(**inputs, **_no_cache(built.model))
        else:
            _generate(built, workload, recorder, progress, inputs)
            return
    recorder.end(1)
    del outputs


def _has_cache(model: Any) -> bool:
    return hasattr(getattr(model, "config", None), "use_cache") and hasattr(model, "generate")


def _no_cache(model: Any) -> dict[str, Any]:
    return {"use_cache": False} if _has_cache(model) else {}


def _generate(
    built: Built,
    workload: Workload,
    recorder: Recorder,
    progress: Progress,
    inputs: dict[str, Any],
) -> None:
    """As ``generate`` does: logits of the last position only, in fp32 for the choice of a token."""
    model, batch = built.model, workload.batch
    progress("prompt", 0.2)
    outputs = model(**inputs, use_cache=True, logits_to_keep=1)
    cache = outputs.past_key_values
    recorder.label(_cached(built, cache), "kv_cache")
    new = workload.new_tokens
    traced = range(new) if new <= _ALL_TOKENS else [*range(2), *range(new - 2, new)]
    length = workload.sequence
    for number, token in enumerate(traced):
        progress(f"token {token + 1} of {new}", 0.2 + 0.8 * number / len(traced))
        recorder.mark("generate", 1)
        _grow(cache, workload.sequence + token - length)
        recorder.label(_cached(built, cache), "kv_cache")
        scores = outputs.logits[:, -1, :].to(torch.float32)
        del outputs, scores
        ids = torch.zeros(batch, 1, dtype=torch.long)
        outputs = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        recorder.label(_cached(built, cache), "kv_cache")
        length = workload.sequence + token + 1
    recorder.end(1)
    del outputs, cache


def _cached(built: Built, cache: Any) -> list[tuple[str, Any]]:
    prefix = built.stacks[0].prefix if built.stacks else "layer"
    return [
        (f"{prefix}.{i}", tensor)
        for i, layer in enumerate(cache.layers)
        for tensor in (layer.keys, layer.values)
        if isinstance(tensor, torch.Tensor)
    ]


def _grow(cache: Any, tokens: int) -> None:
    """The cache after tokens that are not traced."""
    if tokens <= 0:
        return
    for layer in cache.layers:
        for name in ("keys", "values"):
            old = getattr(layer, name)
            more = torch.empty(*old.shape[:2], tokens, old.shape[3], dtype=old.dtype)
            setattr(layer, name, torch.cat([old, more], dim=2))
            del old, more
