"""What the caching allocator's map says: totals, the largest hole, and requests it cannot serve.

The allocator's rules are those of c10/cuda/CUDACachingAllocator.cpp with its default settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from .memory import Segment, SegmentMap
from .units import format_bytes

_MIB: Final = 1 << 20
_ROUND_BYTES: Final = 512
_LARGEST_SMALL_BYTES: Final = _MIB
"""Requests up to this are served from the small pool."""
_SMALL_SEGMENT_BYTES: Final = 2 * _MIB
_LARGE_SEGMENT_BYTES: Final = 20 * _MIB
_OWN_SEGMENT_FROM_BYTES: Final = 10 * _MIB
"""From here on a request's segment is the request, rounded up; it shares none."""
_OWN_SEGMENT_ROUND_BYTES: Final = 2 * _MIB
_COMMON_POOLS: Final = frozenset({"small", "large"})
"""A CUDA graph's private pool serves nobody else and is not released for others."""


@dataclass(frozen=True, slots=True)
class SegmentTotals:
    """Sums over segments; allocated, pending, cached and fragmentation make up the total."""

    segments: int = 0
    total_bytes: int = 0
    allocated_bytes: int = 0
    pending_bytes: int = 0
    cached_bytes: int = 0
    """Free whole segments, which could be given back to the driver."""
    fragmentation_bytes: int = 0
    """Free pieces of segments that are in use."""
    largest_free_bytes: int = 0

    @property
    def free_bytes(self) -> int:
        """All that is free, wherever it lies."""
        return self.cached_bytes + self.fragmentation_bytes


@dataclass(frozen=True, slots=True)
class SegmentGroup:
    """The segments of one pool and stream, which alone can serve each other's requests."""

    pool: str
    stream: int
    segments: tuple[Segment, ...]
    """Largest first."""
    totals: SegmentTotals


def totals(segments: Iterable[Segment]) -> SegmentTotals:
    """Sums over some segments; those that a map omits are in none."""
    count = total = allocated = pending = cached = fragmentation = largest = 0
    for segment in segments:
        count += 1
        total += segment.total_bytes
        free = used = waiting = 0
        for block in segment.blocks:
            if block.state == "free":
                free += block.size_bytes
                largest = max(largest, block.size_bytes)
            elif block.state == "pending":
                waiting += block.size_bytes
            else:
                used += block.size_bytes
        allocated += used
        pending += waiting
        if used or waiting:
            fragmentation += free
        else:
            cached += free
    return SegmentTotals(count, total, allocated, pending, cached, fragmentation, largest)


def groups(segment_map: SegmentMap) -> list[SegmentGroup]:
    """The map by pool and stream, the largest group first."""
    found: dict[tuple[str, int], list[Segment]] = {}
    for segment in segment_map.segments:
        found.setdefault((segment.pool, segment.stream), []).append(segment)
    grouped = [
        SegmentGroup(
            pool=pool,
            stream=stream,
            segments=tuple(sorted(segments, key=lambda s: -s.total_bytes)),
            totals=totals(segments),
        )
        for (pool, stream), segments in found.items()
    ]
    return sorted(grouped, key=lambda group: (-group.totals.total_bytes, group.pool, group.stream))


def fits(segment_map: SegmentMap, request_bytes: int, stream: int | None = None) -> bool:
    """Whether a free block serves the request, on one stream or (None) on any.

    Any block of the right pool that is large enough does: what is left of it is split off or
    goes with it.
    """
    size = _rounded(request_bytes)
    pool = _pool(size)
    return any(
        block.state == "free" and block.size_bytes >= size
        for segment in segment_map.segments
        if segment.pool == pool and stream in {None, segment.stream}
        for block in segment.blocks
    )


def releasable_bytes(segment_map: SegmentMap) -> int:
    """What the allocator gives back to the driver before it reports that memory is out.

    It waits for what is pending first. An expandable segment gives back the pages that are free,
    any other segment only the whole of it.
    """
    released = 0
    for segment in segment_map.segments:
        if segment.pool not in _COMMON_POOLS:
            continue
        page = _SMALL_SEGMENT_BYTES if segment.pool == "small" else _LARGE_SEGMENT_BYTES
        for start, end in _idle_stretches(segment):
            if segment.expandable:
                whole_end = end if end == segment.total_bytes else end // page * page
                released += max(whole_end - _up(start, page), 0)
            elif end - start == segment.total_bytes:
                released += segment.total_bytes
    return released


def would_fail(
    segment_map: SegmentMap,
    request_bytes: int,
    device_free_bytes: int = 0,
    stream: int | None = None,
) -> bool:
    """Whether the request runs out of memory with that much free on the device.

    No free block serves it, and the segment that it needs is larger than what the device has
    left together with what the allocator can give back.
    """
    if fits(segment_map, request_bytes, stream):
        return False
    left = device_free_bytes + releasable_bytes(segment_map)
    return _segment_bytes(segment_map, _rounded(request_bytes)) > left


def new_memory_bytes(request_bytes: int, *, expandable: bool = False) -> int:
    """What the driver is asked for when no free block serves a request."""
    size = _rounded(request_bytes)
    if size <= _LARGEST_SMALL_BYTES:
        return _SMALL_SEGMENT_BYTES
    if expandable:
        return _up(size, _LARGE_SEGMENT_BYTES)
    if size < _OWN_SEGMENT_FROM_BYTES:
        return _LARGE_SEGMENT_BYTES
    return _up(size, _OWN_SEGMENT_ROUND_BYTES)


def free_pages_bytes(segment_map: SegmentMap) -> int:
    """What expandable segments could give to any other request: the whole pages of large holes.

    However a hole lies to the pages, so many are wholly in it.
    """
    return sum(
        max(block.size_bytes // _LARGE_SEGMENT_BYTES - 1, 0) * _LARGE_SEGMENT_BYTES
        for segment in segment_map.segments
        if segment.pool == "large" and not segment.expandable
        for block in segment.blocks
        if block.state == "free"
    )


def warning(segment_map: SegmentMap, device_free_bytes: int | None = None) -> str | None:
    """What fragmentation costs, as a sentence; None where the holes serve every such request.

    Named is the smallest power of two (from 2 MiB) that is less than all that is cached and yet
    fits no hole, or rather, where the device's free memory is known, the smallest that would fail.
    """
    free = [
        (block.size_bytes, segment.pool)
        for segment in segment_map.segments
        if segment.pool in _COMMON_POOLS
        for block in segment.blocks
        if block.state == "free"
    ]
    cached = sum(size for size, _ in free)
    largest = max((size for size, pool in free if pool == "large"), default=0)
    unserved = [size for size in _powers_of_two(cached) if size > largest]
    if not unserved:
        return None
    size, fate = unserved[0], "need new memory"
    if device_free_bytes is not None:
        left = device_free_bytes + releasable_bytes(segment_map)
        failing = [size for size in unserved if _segment_bytes(segment_map, size) > left]
        if failing:
            size, fate = failing[0], "fail"
    text = f"{size >> 30} GiB" if size >> 30 else f"{size >> 20} MiB"
    article = "an" if text.startswith("8") else "a"
    return f"{article} {text} request would {fate} although {format_bytes(cached)} are cached"


def _powers_of_two(below: int) -> Iterator[int]:
    size = 2 * _MIB
    while size < below:
        yield size
        size *= 2


def _idle_stretches(segment: Segment) -> Iterator[tuple[int, int]]:
    """Where no block is allocated: offsets of start and end."""
    start = offset = 0
    for block in segment.blocks:
        if block.state == "allocated":
            if offset > start:
                yield start, offset
            start = offset + block.size_bytes
        offset += block.size_bytes
    if offset > start:
        yield start, offset


def _rounded(request_bytes: int) -> int:
    return max(_up(request_bytes, _ROUND_BYTES), _ROUND_BYTES)


def _pool(size: int) -> str:
    return "small" if size <= _LARGEST_SMALL_BYTES else "large"


def _segment_bytes(segment_map: SegmentMap, size: int) -> int:
    expandable = any(segment.expandable for segment in segment_map.segments)
    return new_memory_bytes(size, expandable=expandable)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
