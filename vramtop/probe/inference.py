"""Tells training from evaluation and generation, and finds what a generation keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .replay import FORWARD

EVALUATION, GENERATION = "evaluation", "generation"
_MAX_DEPTH = 4
_CACHE = "past_key_values"


def phase_of_forward(torch: Any, kwargs: dict[str, Any]) -> str:
    """What the forward of a root is for; called as it begins."""
    if torch.is_grad_enabled():
        return FORWARD
    return EVALUATION if kwargs.get(_CACHE) is None else GENERATION


def kept_keys_and_values(torch: Any, output: Any) -> list[Any]:
    """The storages of the cache that a Hugging Face model returns with its output."""
    if issubclass(type(output), dict):
        with torch._C.DisableTorchFunction():  # the user's, who is not to hear of us
            return list(_storages(torch, output.get(_CACHE), 0))
    return []


def _storages(torch: Any, value: Any, depth: int) -> Iterator[Any]:
    kind = type(value)
    if issubclass(kind, torch.Tensor):
        try:
            yield value.untyped_storage()
        except (NotImplementedError, RuntimeError):  # of a kind that has no storage of its own
            return
    elif depth < _MAX_DEPTH:
        if issubclass(kind, (tuple, list)):
            parts = value
        elif kind.__module__.startswith("transformers."):
            # A cache has layers with keys and values (lists of both, before transformers 4.56).
            held = vars(value)
            parts = [held.get(name) for name in ("layers", "keys", "values")]
            parts += [held.get(name) for name in ("key_cache", "value_cache")]
        else:
            return
        for part in parts:
            if part is not None:
                yield from _storages(torch, part, depth + 1)
