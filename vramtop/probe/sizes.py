"""Bytes by category, from counts and recorded steps to the ``BREAKDOWN`` of the messages."""

from __future__ import annotations

from typing import Any, Optional

from ..protocol.messages import BREAKDOWN_FIELDS, PART_FIELDS, TENSOR_FIELDS
from .accounting import BUFFER, GRADIENT, PARAMETER, STATE
from .boundaries import FORWARD_BEGINS, FORWARD_ENDS, STEP_BEGINS
from .counters import Counters
from .replay import Sizes

OpenSizes = list[Optional[int]]
"""Like ``Sizes``; None for what only a recorded step can tell and none has yet."""

_COUNTED = 3
"""Parameters, gradients and optimizer state: of ``TENSOR_FIELDS`` those that are always counted."""
_BUFFER = len(TENSOR_FIELDS)
_PARTS = {"autocast_cache": "activation", "kv_cache": "activation", "recomputed": "autograd_detail"}
_VOLATILE = (
    *("temporary", "autograd_detail", "activation", "input"),
    *("gradient", "unknown", "optimizer_state", "parameter"),
)
"""In which order bytes have gone if less is allocated now than at the last boundary: zero_grad
passes none, and what is of no model or step stays longer than gradients."""


def join(counts: list[int], recorded: Sizes | None) -> OpenSizes:
    """What was counted at a boundary, with what a recorded step has told of the same one."""
    sizes: OpenSizes = [counts[PARAMETER], counts[GRADIENT], counts[STATE]]
    if recorded is None:
        return [*sizes, *[None] * (_BUFFER - _COUNTED), counts[BUFFER], 0, 0, 0]
    return [*sizes, *recorded[_COUNTED:_BUFFER], counts[BUFFER], *recorded[_BUFFER + 1 :]]


def add(one: OpenSizes, other: OpenSizes) -> OpenSizes:
    """Of two training threads together; unknown only where both are."""
    return [None if a is None and b is None else (a or 0) + (b or 0) for a, b in zip(one, other)]


def named(sizes: Sizes) -> dict[str, Any]:
    """A moment of a recorded step as a ``BREAKDOWN``."""
    return {f"{field}_bytes": size for field, size in zip((*TENSOR_FIELDS, *PART_FIELDS), sizes)}


def breakdown(sizes: OpenSizes | None, counters: Counters | None, boundary: str) -> dict[str, Any]:
    """The ``BREAKDOWN`` of now: tensor categories that sum to allocated, where there is such.

    The counters are of now, the sizes of the last boundary (its first part); what has come since
    is named by what the training has been doing from there on.
    """
    fields = (*TENSOR_FIELDS, *PART_FIELDS)
    known = dict(zip(fields, sizes or join([0, 0, 0, 0], None)))
    cached = fragmentation = None
    if counters is not None:
        _fit(known, counters["allocated_bytes"], boundary)
        free = max(0, counters["reserved_bytes"] - counters["allocated_bytes"])
        # Not kept for expandable segments, whose free pages are given back one by one.
        fragmentation = min(free, counters["inactive_split_bytes"] or 0)
        cached = free - fragmentation
    known.update(cached=cached, fragmentation=fragmentation)
    return {f"{field}_bytes": known[field] for field in BREAKDOWN_FIELDS}


def _fit(known: dict[str, int | None], allocated: int, boundary: str) -> None:
    is_recorded = known["activation"] is not None
    for field in TENSOR_FIELDS:
        known[field] = known[field] or 0
    rest = allocated - sum(known[field] or 0 for field in TENSOR_FIELDS)
    if rest >= 0:
        name = _name_of_rest(boundary, is_recorded)
        known[name] = (known[name] or 0) + rest
    for field in _VOLATILE:
        size = known[field] or 0
        gone = min(size, max(0, -rest))
        known[field], rest = size - gone, rest + gone
    for part, category in (*_PARTS.items(), ("buffer", "parameter")):
        known[part] = min(known[part] or 0, known[category] or 0)


def _name_of_rest(boundary: str, is_recorded: bool) -> str:
    if boundary == FORWARD_BEGINS:
        return "activation"
    if boundary == FORWARD_ENDS and not is_recorded:
        return "activation"
    return "temporary" if boundary == STEP_BEGINS else "unknown"
