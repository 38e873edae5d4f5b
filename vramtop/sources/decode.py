"""From a probe's messages to domain values: everything is checked, because a socket is untrusted.

Every function raises ``ProtocolError`` for a value that the protocol does not allow.
"""

from __future__ import annotations

from typing import Any

from ..core.breakdowns import with_process_figure
from ..core.memory import (
    TENSOR_CATEGORIES,
    Block,
    Breakdown,
    Detail,
    ModuleUse,
    Peak,
    Phase,
    Segment,
    SegmentMap,
    Stage,
)
from ..core.model import (
    AllocatorStats,
    DetailState,
    HistoryPoint,
    ProbeDevice,
)
from ..errors import ProtocolError
from ..protocol.messages import (
    HISTORY_FIELDS,
    MAX_BLOCKS,
    MAX_MODULES,
    MAX_PHASES,
    MAX_SEGMENTS,
    MAX_STAGES,
)
from .fields import (
    integer,
    list_of,
    natural,
    number,
    object_of,
    required,
    row_of,
    shapes,
    text,
    texts,
    time_of,
    tuple_of,
)

MAX_DEVICES = 64
MAX_HISTORY_POINTS = 4096
_MAX_NOTES = 16


def devices(message: dict[str, Any]) -> tuple[ProbeDevice, ...]:
    """The devices of a sample."""
    return tuple_of(message, "devices", _device, MAX_DEVICES)


def detail_state(message: dict[str, Any]) -> DetailState | None:
    """Whether a step has been sampled in detail; None where a probe does not say."""
    value = text(message, "detail")
    for state in ("ready", "pending", "off"):
        if value == state:
            return state
    return None


def history(message: dict[str, Any]) -> tuple[str, list[HistoryPoint]]:
    """The device and the points of one history line."""
    points = list_of(message, "points", MAX_HISTORY_POINTS)
    device = text(message, "device") or "?"
    return device, [_point(point, on_cpu=device == "cpu") for point in points]


def detail(message: dict[str, Any]) -> tuple[str, Detail]:
    """The device, and the last step sampled in detail as seen on it."""
    peak = message.get("peak")
    return text(message, "device") or "?", Detail(
        at=time_of(message),
        step=integer(message, "step"),
        phases=tuple_of(message, "phases", _phase, MAX_PHASES),
        peak=None if peak is None else _peak(object_of(peak, "peak")),
        modules=tuple(_module(item) for item in list_of(message, "modules", MAX_MODULES)),
        notes=texts(message, "notes", _MAX_NOTES),
        batch_shapes=shapes(message, "batch_shapes"),
    )


def segments(message: dict[str, Any]) -> tuple[str, SegmentMap]:
    """The device, and the map of its allocator's segments."""
    found = tuple_of(message, "segments", _segment, MAX_SEGMENTS)
    if sum(len(segment.blocks) for segment in found) > MAX_BLOCKS:
        raise ProtocolError(f"segments have more than {MAX_BLOCKS} blocks")
    return text(message, "device") or "?", SegmentMap(
        at=time_of(message),
        segments=found,
        omitted_segments=integer(message, "omitted_segments") or 0,
        omitted_bytes=integer(message, "omitted_bytes") or 0,
    )


def stages(message: dict[str, Any]) -> dict[str, tuple[Stage, ...]]:
    """The user's stages by device."""
    found: dict[str, tuple[Stage, ...]] = {}
    for item in list_of(message, "stages", MAX_STAGES):
        row = object_of(item, "stages")
        device = text(row, "device") or "?"
        found[device] = (*found.get(device, ()), _stage(row))
    return found


def _device(item: dict[str, Any]) -> ProbeDevice:
    allocator, breakdown = item.get("allocator"), item.get("breakdown")
    return ProbeDevice(
        device=text(item, "device") or "?",
        uuid=text(item, "uuid"),
        allocator=None if allocator is None else _allocator(object_of(allocator, "allocator")),
        breakdown=None if breakdown is None else _breakdown(object_of(breakdown, "breakdown")),
        boundary=text(item, "boundary"),
    )


def _allocator(item: dict[str, Any]) -> AllocatorStats:
    return AllocatorStats(
        allocated_bytes=required(item, "allocated_bytes"),
        reserved_bytes=required(item, "reserved_bytes"),
        active_bytes=required(item, "active_bytes"),
        requested_bytes=integer(item, "requested_bytes"),
        inactive_split_bytes=integer(item, "inactive_split_bytes"),
        peak_allocated_bytes=required(item, "peak_allocated_bytes"),
        peak_reserved_bytes=required(item, "peak_reserved_bytes"),
        segments=required(item, "segments"),
        alloc_retries=required(item, "alloc_retries"),
        ooms=required(item, "ooms"),
    )


def _breakdown(item: dict[str, Any]) -> Breakdown:
    return Breakdown(
        parameter_bytes=required(item, "parameter_bytes"),
        gradient_bytes=required(item, "gradient_bytes"),
        optimizer_state_bytes=required(item, "optimizer_state_bytes"),
        activation_bytes=integer(item, "activation_bytes"),
        input_bytes=integer(item, "input_bytes"),
        temporary_bytes=integer(item, "temporary_bytes"),
        autograd_detail_bytes=integer(item, "autograd_detail_bytes"),
        unknown_bytes=integer(item, "unknown_bytes"),
        cached_bytes=integer(item, "cached_bytes"),
        fragmentation_bytes=integer(item, "fragmentation_bytes"),
        buffer_bytes=integer(item, "buffer_bytes") or 0,
        autocast_cache_bytes=integer(item, "autocast_cache_bytes") or 0,
        kv_cache_bytes=integer(item, "kv_cache_bytes") or 0,
        recomputed_bytes=integer(item, "recomputed_bytes") or 0,
    )


def _phase(item: dict[str, Any]) -> Phase:
    after = item.get("after")
    return Phase(
        name=text(item, "name") or "?",
        before_bytes=required(item, "before_bytes"),
        after_bytes=required(item, "after_bytes"),
        peak_bytes=integer(item, "peak_bytes"),
        count=integer(item, "count") or 1,
        after=None if after is None else _breakdown(object_of(after, "after")),
    )


def _peak(item: dict[str, Any]) -> Peak:
    return Peak(
        phase=text(item, "phase") or "?",
        module=text(item, "module"),
        total_bytes=required(item, "total_bytes"),
        breakdown=_breakdown(object_of(item.get("breakdown"), "breakdown")),
    )


def _module(value: Any) -> ModuleUse:
    path, class_name, activation, parameter = row_of(value, "modules", 4)
    fields = {"path": path, "class": class_name}
    return ModuleUse(
        path=text(fields, "path") or "",
        class_name=text(fields, "class") or "?",
        activation_bytes=natural(activation, "modules"),
        parameter_bytes=natural(parameter, "modules"),
    )


def _segment(item: dict[str, Any]) -> Segment:
    blocks = tuple(_block(value) for value in list_of(item, "blocks", MAX_BLOCKS))
    total = required(item, "total_bytes")
    if sum(block.size_bytes for block in blocks) != total:
        raise ProtocolError("the blocks of a segment do not sum to it")
    return Segment(
        total_bytes=total,
        pool=text(item, "pool") or "?",
        stream=integer(item, "stream") or 0,
        expandable=item.get("expandable") is True,
        blocks=blocks,
    )


def _block(value: Any) -> Block:
    size, state, category = row_of(value, "blocks", 3)
    if state not in ("allocated", "pending", "free"):
        raise ProtocolError("a block is neither allocated nor pending nor free")
    return Block(
        size_bytes=natural(size, "blocks"),
        state=state,
        category=category if category in TENSOR_CATEGORIES else None,
    )


def _stage(item: dict[str, Any]) -> Stage:
    return Stage(
        path=text(item, "path") or "?",
        calls=required(item, "calls"),
        before_bytes=required(item, "before_bytes"),
        after_bytes=required(item, "after_bytes"),
        peak_bytes=integer(item, "peak_bytes"),
        seconds=number(item, "seconds") or 0.0,
    )


def _point(value: Any, *, on_cpu: bool) -> HistoryPoint:
    if not isinstance(value, list) or len(value) < 2 + len(HISTORY_FIELDS):
        raise ProtocolError(f"a history point is not a list of {2 + len(HISTORY_FIELDS)}")
    at = time_of({"at": value[0]})
    fields = {f"{name}_bytes": value[2 + i] for i, name in enumerate(HISTORY_FIELDS)}
    breakdown = _breakdown(fields)
    if on_cpu:
        resident = integer(fields, "process_bytes")
        breakdown = with_process_figure(breakdown, resident, breakdown.tensor_bytes)
    return HistoryPoint(at=at, step=integer({"step": value[1]}, "step"), breakdown=breakdown)
