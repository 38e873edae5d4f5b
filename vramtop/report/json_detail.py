"""What a process's memory is for as plain values: breakdown, phases, peak, modules, segments."""

from __future__ import annotations

from typing import Any

from ..core.memory import CATEGORIES, PARTS, Breakdown, Detail, Peak, Phase, SegmentMap, Stage
from ..core.segments import totals, warning


def breakdown_object(breakdown: Breakdown) -> dict[str, int | None]:
    """Every category, then the parts (contained in theirs), then the whole process."""
    names = (*CATEGORIES, *(part for part, _ in PARTS))
    sizes = {f"{name}_bytes": breakdown.bytes_of(name) for name in names}
    return {**sizes, "process_bytes": breakdown.process_bytes}


def detail_object(detail: Detail | None, at: str | None) -> dict[str, Any]:
    """The keys of a device that the last step sampled in detail fills; ``at`` as text."""
    if detail is None:
        return {"detail": None, "phases": [], "peak": None, "modules": []}
    return {
        "detail": {
            "at": at,
            "step": detail.step,
            "batch_shapes": [list(shape) for shape in detail.batch_shapes],
            "notes": list(detail.notes),
        },
        "phases": [_phase(phase) for phase in detail.phases],
        "peak": None if detail.peak is None else _peak(detail.peak),
        "modules": [
            {
                "path": module.path,
                "class": module.class_name,
                "activation_bytes": module.activation_bytes,
                "parameter_bytes": module.parameter_bytes,
            }
            for module in detail.modules
        ],
    }


def segments_object(
    segment_map: SegmentMap, at: str | None, device_free_bytes: int | None
) -> dict[str, Any]:
    """Totals of the allocator's segments; those that the probe left out are counted apart."""
    found = totals(segment_map.segments)
    return {
        "at": at,
        "segments": found.segments + segment_map.omitted_segments,
        "total_bytes": found.total_bytes + segment_map.omitted_bytes,
        "allocated_bytes": found.allocated_bytes,
        "pending_bytes": found.pending_bytes,
        "free_bytes": found.free_bytes,
        "omitted_bytes": segment_map.omitted_bytes,
        "largest_free_bytes": found.largest_free_bytes,
        "message": warning(segment_map, device_free_bytes),
    }


def stage_object(stage: Stage) -> dict[str, Any]:
    """One of the user's own stages."""
    return {
        "path": stage.path,
        "calls": stage.calls,
        "before_bytes": stage.before_bytes,
        "after_bytes": stage.after_bytes,
        "peak_bytes": stage.peak_bytes,
        "seconds": stage.seconds,
    }


def _phase(phase: Phase) -> dict[str, Any]:
    return {
        "name": phase.name,
        "before_bytes": phase.before_bytes,
        "after_bytes": phase.after_bytes,
        "peak_bytes": phase.peak_bytes,
        "count": phase.count,
        "after": None if phase.after is None else breakdown_object(phase.after),
    }


def _peak(peak: Peak) -> dict[str, Any]:
    return {
        "phase": peak.phase,
        "module": peak.module,
        "total_bytes": peak.total_bytes,
        "breakdown": breakdown_object(peak.breakdown),
    }
