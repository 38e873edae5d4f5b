"""The caching allocator's segments as a ``segments`` message, small enough for one line.

On any thread: it only asks the allocator, under the allocator's own lock (0.2 ms).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Optional

from ..protocol.messages import MAX_BLOCKS, MAX_SEGMENTS

CategoryOf = Callable[[int], Optional[str]]
"""The tensor category of the block at an address, None where it is not known."""
_HISTORY_IS_RECORDED = (
    "no segment map: this torch can only give it together with the recorded memory history"
)
"""Why ``read`` gives None, for the user."""
_NO_SEGMENTS = "no segment map: this allocator tells of none"
"""Why ``read`` raises, for the user."""

_STATES = {"active_allocated": "allocated", "inactive": "free"}
"""All else is memory that the program has freed and a stream still uses: active_pending_free, or
active_awaiting_free as the documentation of torch has it."""
_SMALL_BYTES = (1 << 19, 1 << 24, 1 << 62)
"""Neighbours below these sizes are merged, one size after the other, until the message fits."""


_Block = tuple[int, str, Optional[str]]
"""Size, state and category, as in the message."""


class _Segment(NamedTuple):
    made: dict[str, Any]
    """As torch gives it."""
    size: int
    blocks: list[_Block]


def read(torch: Any, index: int) -> list[dict[str, Any]] | None:
    """One CUDA device's segments as torch gives them; empty before CUDA is in use.

    None where torch would add all the trace entries that the user records: converting 100,000 of
    them takes 0.7 s, all the while holding the GIL.

    Raises:
        Exception: what torch raises for an allocator that has no segments (cudaMallocAsync).
    """
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized():  # asking would create a context
        return []
    snapshot = cuda.memory_snapshot
    if "include_traces" in inspect.signature(snapshot).parameters:
        segments = snapshot(include_traces=False)
    else:
        is_recorded = getattr(torch._C, "_cuda_isHistoryEnabled", None)
        if is_recorded is None or is_recorded():
            return None
        segments = snapshot()
    return [segment for segment in segments if segment.get("device", index) == index]


def read_or_say(torch: Any, index: int, notes: list[str]) -> list[dict[str, Any]] | None:
    """As ``read``; where there are none, why goes to the notes."""
    try:
        segments = read(torch, index)
    except Exception:  # there are several such allocators, each with words of its own
        notes.append(_NO_SEGMENTS)
        return None
    if segments is None:
        notes.append(_HISTORY_IS_RECORDED)
    return segments


def message(
    device: str, at: float, segments: Iterable[dict[str, Any]], category_of: CategoryOf
) -> dict[str, Any]:
    """The ``segments`` message of what ``read`` gave.

    Neighbouring blocks alike become one. Where there are still too many, small allocated
    neighbours become one of no category, then the smallest segments are left out and counted.
    Streams and private pools are numbered, since their handles tell nothing.
    """
    found = list(segments)
    streams = _numbers(segment["stream"] for segment in found)
    pools = _numbers(_pool_id(segment) for segment in found)
    kept = [_read(segment, category_of) for segment in found]
    reserved = sum(segment.size for segment in kept)
    kept = sorted(kept, key=lambda segment: -segment.size)[:MAX_SEGMENTS]
    for small in _SMALL_BYTES:
        if _count(kept) > MAX_BLOCKS:
            kept = [_Segment(made, size, _merged(blocks, small)) for made, size, blocks in kept]
    kept = _fitting(kept)
    return {
        "type": "segments",
        "device": device,
        "at": at,
        "omitted_segments": len(found) - len(kept),
        "omitted_bytes": reserved - sum(segment.size for segment in kept),
        "segments": [
            {
                "total_bytes": segment.size,
                "pool": _pool(segment.made, pools),
                "stream": streams[segment.made["stream"]],
                "expandable": bool(segment.made.get("is_expandable", False)),
                "blocks": [list(block) for block in segment.blocks],
            }
            for segment in sorted(kept, key=lambda segment: segment.made["address"])
        ],
    }


def _read(segment: dict[str, Any], category_of: CategoryOf) -> _Segment:
    blocks: list[_Block] = []
    address = segment["address"]
    size, state, category, total = 0, "", None, 0
    for block in segment["blocks"]:
        address = block.get("address", address)  # older torches give none
        next_state = _STATES.get(block["state"], "pending")
        next_category = category_of(address) if next_state == "allocated" else None
        if size and (next_state != state or next_category != category):
            blocks.append((size, state, category))
            size = 0
        size += block["size"]
        address += block["size"]
        total += block["size"]
        state, category = next_state, next_category
    if size:
        blocks.append((size, state, category))
    return _Segment(segment, total, blocks)


def _merged(blocks: list[_Block], small: int) -> list[_Block]:
    merged: list[_Block] = []
    for block in blocks:
        size, state, _ = merged[-1] if merged else (0, "", None)
        if state == block[1] == "allocated" and size < small and block[0] < small:
            merged[-1] = (size + block[0], state, None)
        else:
            merged.append(block)
    return merged


def _count(segments: list[_Segment]) -> int:
    return sum(len(segment.blocks) for segment in segments)


def _fitting(segments: list[_Segment]) -> list[_Segment]:
    """The largest, those first, whose blocks fit into one message."""
    kept = []
    room = MAX_BLOCKS
    for segment in segments:
        if len(segment.blocks) <= room:
            kept.append(segment)
            room -= len(segment.blocks)
    return kept


def _pool_id(segment: dict[str, Any]) -> tuple[int, ...]:
    return tuple(segment.get("segment_pool_id", (0, 0)))


def _pool(segment: dict[str, Any], pools: dict[Any, int]) -> str:
    number = pools[_pool_id(segment)]
    return f"graph {number}" if number else str(segment["segment_type"])


def _numbers(handles: Iterable[Any]) -> dict[Any, int]:
    """0 for the default stream or the common pools, the others from 1 on."""
    others = sorted({handle for handle in handles if handle not in {0, (0, 0)}})
    return {0: 0, (0, 0): 0, **{handle: i for i, handle in enumerate(others, 1)}}
