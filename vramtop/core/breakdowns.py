"""One process's memory on one torch device by category: labels, table rows, chart layers, sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from .fleet import Fleet
from .history import total_bytes
from .memory import CATEGORIES, PARTS, Breakdown, Detail
from .model import AllocatorStats, ProbeDevice, Process
from .units import NONE_SHOWN, format_bytes, format_delta, format_percent

CATEGORY_LABELS: Final[Mapping[str, str]] = {
    "parameter": "parameters",
    "gradient": "gradients",
    "optimizer_state": "optimizer state",
    "activation": "activations",
    "input": "inputs",
    "temporary": "temporaries",
    "autograd_detail": "autograd detail",
    "unknown": "unknown",
    "cached": "cached, free",
    "fragmentation": "fragmentation",
    "outside_allocator": "outside allocator",
}
PART_LABELS: Final[Mapping[str, str]] = {
    "buffer": "buffers",
    "autocast_cache": "autocast cache",
    "kv_cache": "KV cache",
    "recomputed": "recomputed",
}


def category_label(category: str, torch_device: str) -> str:
    """What a category or part is called on a torch device: the CPU has no allocator."""
    if category == "outside_allocator" and torch_device == "cpu":
        return "rest of RSS"
    return CATEGORY_LABELS.get(category) or PART_LABELS[category]


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """One category of a process's memory on one torch device, or a part of one."""

    category: str
    label: str
    size_bytes: int | None
    peak_bytes: int | None
    """At the peak of the last step sampled in detail."""
    share: float | None
    """Part of the process's memory there, 0 to 1."""
    change_bytes: int | None
    """Since the first sample known of it."""
    parts: tuple[BreakdownRow, ...] = ()
    """What can be told apart within it, now or at the peak; contained in it, not beside it."""

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """Label, bytes, share and change as shown; nothing is known of what is a dash."""
        return (
            self.label,
            _text(self.size_bytes),
            NONE_SHOWN if self.share is None else format_percent(100 * self.share),
            NONE_SHOWN if self.change_bytes is None else format_delta(self.change_bytes),
        )

    @property
    def peak_text(self) -> str:
        """Bytes at the last peak as shown."""
        return _text(self.peak_bytes)


def torch_devices(process: Process) -> tuple[str, ...]:
    """The torch devices of which there is a breakdown, the most used first, the CPU last."""
    sized = [
        (part.device == "cpu", -total_bytes(part.breakdown), part.device)
        for part in process.probe.devices
        if part.breakdown is not None
    ]
    return tuple(name for _, _, name in sorted(sized))


def probe_device_of(process: Process, torch_device: str) -> ProbeDevice | None:
    """What the probe says of a torch device."""
    for device in process.probe.devices:
        if device.device == torch_device:
            return device
    return None


def breakdown_of(process: Process, torch_device: str) -> Breakdown | None:
    """The last breakdown of a process on a torch device."""
    device = probe_device_of(process, torch_device)
    return None if device is None else device.breakdown


def outside_bytes(process: Process, torch_device: str) -> int | None:
    """What a process really has outside its allocator; None where it is not known.

    On the CPU the RSS less the most that the sampled step held: what tensors give back malloc
    keeps, so the RSS of a training stays near its peak.
    """
    breakdown = breakdown_of(process, torch_device)
    if breakdown is None or torch_device != "cpu" or breakdown.process_bytes is None:
        return None if breakdown is None else breakdown.outside_allocator_bytes
    detail = detail_of(process, torch_device)
    held = detail.peak.total_bytes if detail and detail.peak else breakdown.tensor_bytes
    return max(breakdown.process_bytes - held, 0)


def detail_of(process: Process, torch_device: str) -> Detail | None:
    """The last step that was sampled in detail, as seen on a torch device."""
    device = probe_device_of(process, torch_device)
    return None if device is None else device.detail


def breakdown_rows(fleet: Fleet, process: Process, torch_device: str) -> list[BreakdownRow]:
    """The categories in their fixed order, each with its parts; none without a breakdown."""
    breakdown = breakdown_of(process, torch_device)
    if breakdown is None:
        return []
    first = fleet.first.get((process.key, torch_device))
    detail = detail_of(process, torch_device)
    at_peak = detail.peak.breakdown if detail and detail.peak else None
    # A process that was swapped out holds less in RAM than is counted in it.
    whole = max(breakdown.process_bytes or 0, total_bytes(breakdown))

    def row(category: str, parts: tuple[BreakdownRow, ...] = ()) -> BreakdownRow:
        size = breakdown.bytes_of(category)
        before = first.breakdown.bytes_of(category) if first else None
        return BreakdownRow(
            category=category,
            label=category_label(category, torch_device),
            size_bytes=size,
            peak_bytes=at_peak.bytes_of(category) if at_peak else None,
            share=size / whole if size is not None and whole else None,
            change_bytes=size - before if size is not None and before is not None else None,
            parts=parts,
        )

    parts_of: dict[str, tuple[BreakdownRow, ...]] = {}
    for part, category in PARTS:
        if breakdown.bytes_of(part) or (at_peak and at_peak.bytes_of(part)):
            parts_of[category] = (*parts_of.get(category, ()), row(part))
    return [row(category, parts_of.get(category, ())) for category in CATEGORIES]


def layers(breakdown: Breakdown | None) -> tuple[int, ...] | None:
    """The categories' bytes for a stacked chart; unknown ones take no room."""
    if breakdown is None:
        return None
    return tuple(breakdown.bytes_of(category) or 0 for category in CATEGORIES)


def with_allocator(breakdown: Breakdown, allocator: AllocatorStats) -> Breakdown:
    """What the caching allocator counts and no category names is unknown.

    Only where the probe has not said so itself, as before the first step in detail.
    """
    rest = allocator.allocated_bytes - breakdown.tensor_bytes
    if breakdown.unknown_bytes is not None or rest < 0:
        return breakdown
    return replace(breakdown, unknown_bytes=rest)


def with_process_figure(
    breakdown: Breakdown, process_bytes: int | None, inside_bytes: int
) -> Breakdown:
    """Add what the driver (on the CPU: the RSS) says of the whole process.

    ``inside_bytes`` is the part that the breakdown explains. The two figures are read at slightly
    different moments: a process that has just grown can hold more than was said of it. Unknown
    for one tick is better than a negative or a clamp.
    """
    known = process_bytes is not None and process_bytes >= inside_bytes
    return replace(
        breakdown,
        process_bytes=process_bytes,
        outside_allocator_bytes=process_bytes - inside_bytes if known and process_bytes else None,
    )


def _text(size_bytes: int | None) -> str:
    return NONE_SHOWN if size_bytes is None else format_bytes(size_bytes)
