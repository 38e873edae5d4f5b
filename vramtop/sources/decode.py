"""From a probe's messages to domain values: everything is checked, because a socket is untrusted.

Every function raises ``ProtocolError`` for a value that the protocol does not allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

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
    ModelInfo,
    OptimizerInfo,
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

MAX_DEVICES = 64
MAX_OBJECTS = 64
MAX_HISTORY_POINTS = 4096
_MAX_TEXT = 300
_MAX_BYTES = 1 << 60
_MAX_TIME_S = 1e11
_MAX_SHAPES = 16
_MAX_NOTES = 16

T = TypeVar("T")


def text(message: dict[str, Any], name: str) -> str | None:
    """A string, cut to a length that a screen can show, control characters removed."""
    value = message.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ProtocolError(f"{name} is not a string")
    return "".join(c for c in value[:_MAX_TEXT] if c.isprintable())


def integer(message: dict[str, Any], name: str) -> int | None:
    """A non-negative integer."""
    return None if message.get(name) is None else _natural(message[name], name)


def number(message: dict[str, Any], name: str) -> float | None:
    """A finite number."""
    value = message.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProtocolError(f"{name} is not a number")
    try:
        finite = float(value)
    except OverflowError:  # an integer of hundreds of digits
        finite = math.inf
    if not math.isfinite(finite):
        raise ProtocolError(f"{name} is not a finite number")
    return finite


def moment(message: dict[str, Any]) -> float | None:
    """A time (seconds since the epoch) that a calendar can show."""
    at = number(message, "at")
    if at is not None and not 0 <= at < _MAX_TIME_S:
        raise ProtocolError("at is not a time")
    return at


def devices(message: dict[str, Any]) -> tuple[ProbeDevice, ...]:
    """The devices of a sample."""
    return _tuple(message, "devices", _device, MAX_DEVICES)


def detail_state(message: dict[str, Any]) -> DetailState | None:
    """Whether a step has been sampled in detail; None where a probe does not say."""
    value = text(message, "detail")
    for state in ("ready", "pending", "off"):
        if value == state:
            return state
    return None


def models(message: dict[str, Any]) -> tuple[ModelInfo, ...]:
    """The models of a job."""
    return _tuple(message, "models", _model, MAX_OBJECTS)


def optimizers(message: dict[str, Any]) -> tuple[OptimizerInfo, ...]:
    """The optimizers of a job."""
    return _tuple(message, "optimizers", _optimizer, MAX_OBJECTS)


def history(message: dict[str, Any]) -> tuple[str, list[HistoryPoint]]:
    """The device and the points of one history line."""
    points = _list(message, "points", MAX_HISTORY_POINTS)
    device = text(message, "device") or "?"
    return device, [_point(point, on_cpu=device == "cpu") for point in points]


def detail(message: dict[str, Any]) -> tuple[str, Detail]:
    """The device, and the last step sampled in detail as seen on it."""
    peak = message.get("peak")
    return text(message, "device") or "?", Detail(
        at=_time(message),
        step=integer(message, "step"),
        phases=_tuple(message, "phases", _phase, MAX_PHASES),
        peak=None if peak is None else _peak(_object(peak, "peak")),
        modules=tuple(_module(item) for item in _list(message, "modules", MAX_MODULES)),
        notes=tuple(
            text({"note": note}, "note") or "" for note in _list(message, "notes", _MAX_NOTES)
        ),
    )


def segments(message: dict[str, Any]) -> tuple[str, SegmentMap]:
    """The device, and the map of its allocator's segments."""
    found = _tuple(message, "segments", _segment, MAX_SEGMENTS)
    if sum(len(segment.blocks) for segment in found) > MAX_BLOCKS:
        raise ProtocolError(f"segments have more than {MAX_BLOCKS} blocks")
    return text(message, "device") or "?", SegmentMap(
        at=_time(message),
        segments=found,
        omitted_segments=integer(message, "omitted_segments") or 0,
        omitted_bytes=integer(message, "omitted_bytes") or 0,
    )


def stages(message: dict[str, Any]) -> dict[str, tuple[Stage, ...]]:
    """The user's stages by device."""
    found: dict[str, tuple[Stage, ...]] = {}
    for item in _list(message, "stages", MAX_STAGES):
        row = _object(item, "stages")
        device = text(row, "device") or "?"
        found[device] = (*found.get(device, ()), _stage(row))
    return found


def _natural(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_BYTES:
        raise ProtocolError(f"{name} is not a natural number")
    return value


def _required(message: dict[str, Any], name: str) -> int:
    return _natural(message.get(name), name)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProtocolError(f"{name} is not an object")
    return value


def _list(message: dict[str, Any], name: str, limit: int) -> list[Any]:
    value = message.get(name, [])
    if not isinstance(value, list) or len(value) > limit:
        raise ProtocolError(f"{name} is not a list of at most {limit}")
    return value


def _tuple(
    message: dict[str, Any], name: str, read: Callable[[dict[str, Any]], T], limit: int
) -> tuple[T, ...]:
    return tuple(read(_object(item, name)) for item in _list(message, name, limit))


def _device(item: dict[str, Any]) -> ProbeDevice:
    allocator, breakdown = item.get("allocator"), item.get("breakdown")
    return ProbeDevice(
        device=text(item, "device") or "?",
        uuid=text(item, "uuid"),
        allocator=None if allocator is None else _allocator(_object(allocator, "allocator")),
        breakdown=None if breakdown is None else _breakdown(_object(breakdown, "breakdown")),
    )


def _allocator(item: dict[str, Any]) -> AllocatorStats:
    return AllocatorStats(
        allocated_bytes=_required(item, "allocated_bytes"),
        reserved_bytes=_required(item, "reserved_bytes"),
        active_bytes=_required(item, "active_bytes"),
        requested_bytes=integer(item, "requested_bytes"),
        inactive_split_bytes=integer(item, "inactive_split_bytes"),
        peak_allocated_bytes=_required(item, "peak_allocated_bytes"),
        peak_reserved_bytes=_required(item, "peak_reserved_bytes"),
        segments=_required(item, "segments"),
        alloc_retries=_required(item, "alloc_retries"),
        ooms=_required(item, "ooms"),
    )


def _breakdown(item: dict[str, Any]) -> Breakdown:
    return Breakdown(
        parameter_bytes=_required(item, "parameter_bytes"),
        gradient_bytes=_required(item, "gradient_bytes"),
        optimizer_state_bytes=_required(item, "optimizer_state_bytes"),
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
        before_bytes=_required(item, "before_bytes"),
        after_bytes=_required(item, "after_bytes"),
        peak_bytes=integer(item, "peak_bytes"),
        count=integer(item, "count") or 1,
        after=None if after is None else _breakdown(_object(after, "after")),
    )


def _peak(item: dict[str, Any]) -> Peak:
    return Peak(
        phase=text(item, "phase") or "?",
        module=text(item, "module"),
        total_bytes=_required(item, "total_bytes"),
        breakdown=_breakdown(_object(item.get("breakdown"), "breakdown")),
    )


def _module(value: Any) -> ModuleUse:
    path, class_name, activation, parameter = _row(value, "modules", 4)
    fields = {"path": path, "class": class_name}
    return ModuleUse(
        path=text(fields, "path") or "",
        class_name=text(fields, "class") or "?",
        activation_bytes=_natural(activation, "modules"),
        parameter_bytes=_natural(parameter, "modules"),
    )


def _segment(item: dict[str, Any]) -> Segment:
    blocks = tuple(_block(value) for value in _list(item, "blocks", MAX_BLOCKS))
    total = _required(item, "total_bytes")
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
    size, state, category = _row(value, "blocks", 3)
    if state not in ("allocated", "pending", "free"):
        raise ProtocolError("a block is neither allocated nor pending nor free")
    return Block(
        size_bytes=_natural(size, "blocks"),
        state=state,
        category=category if category in TENSOR_CATEGORIES else None,
    )


def _stage(item: dict[str, Any]) -> Stage:
    return Stage(
        path=text(item, "path") or "?",
        calls=_required(item, "calls"),
        before_bytes=_required(item, "before_bytes"),
        after_bytes=_required(item, "after_bytes"),
        peak_bytes=integer(item, "peak_bytes"),
        seconds=number(item, "seconds") or 0.0,
    )


def _row(value: Any, name: str, length: int) -> list[Any]:
    # A newer probe's row may be longer, as its objects may have more fields.
    if not isinstance(value, list) or len(value) < length:
        raise ProtocolError(f"{name} has a row that is not a list of {length}")
    return value[:length]


def _time(message: dict[str, Any]) -> float:
    at = moment(message)
    if at is None:
        raise ProtocolError("at is missing")
    return at


def _model(item: dict[str, Any]) -> ModelInfo:
    by_dtype = _object(item.get("parameters_by_dtype", {}), "parameters_by_dtype")
    shapes = _list(item, "batch_shapes", _MAX_SHAPES)
    config = item.get("hf_config")
    return ModelInfo(
        class_name=text(item, "class") or "?",
        parameters=_required(item, "parameters"),
        trainable_parameters=_required(item, "trainable_parameters"),
        parameters_by_dtype={
            str(dtype)[:_MAX_TEXT]: _natural(count, "parameters_by_dtype")
            for dtype, count in list(by_dtype.items())[:_MAX_SHAPES]
        },
        batch_shapes=tuple(_shape(shape) for shape in shapes),
        hf_config=None if config is None else _object(config, "hf_config"),
    )


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _MAX_SHAPES:
        raise ProtocolError("batch_shapes is not a list of shapes")
    return tuple(_natural(size, "batch_shapes") for size in value)


def _optimizer(item: dict[str, Any]) -> OptimizerInfo:
    return OptimizerInfo(
        class_name=text(item, "class") or "?",
        steps=integer(item, "steps") or 0,
        defaults=_object(item.get("defaults", {}), "defaults"),
    )


def _point(value: Any, *, on_cpu: bool) -> HistoryPoint:
    if not isinstance(value, list) or len(value) < 2 + len(HISTORY_FIELDS):
        raise ProtocolError(f"a history point is not a list of {2 + len(HISTORY_FIELDS)}")
    at = _time({"at": value[0]})
    fields = {f"{name}_bytes": value[2 + i] for i, name in enumerate(HISTORY_FIELDS)}
    breakdown = _breakdown(fields)
    if on_cpu:
        resident = integer(fields, "process_bytes")
        breakdown = with_process_figure(breakdown, resident, breakdown.tensor_bytes)
    return HistoryPoint(at=at, step=integer({"step": value[1]}, "step"), breakdown=breakdown)
