"""One process's memory on one torch device by category: labels, table rows, chart layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from .fleet import Fleet
from .history import total_bytes
from .memory import CATEGORIES, Breakdown
from .model import Process
from .units import format_bytes, format_delta, format_percent

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
    """What a category is called on a torch device: the CPU has no allocator to be outside of."""
    if category == "outside_allocator" and torch_device == "cpu":
        return "rest of RSS"
    return CATEGORY_LABELS[category]


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """One category of a process's memory on one torch device."""

    category: str
    label: str
    size_bytes: int | None
    share: float | None
    """Part of the process's memory there, 0 to 1."""
    change_bytes: int | None
    """Since the first sample known of it."""

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """Label, bytes, share and change as shown."""
        share = None if self.share is None else 100 * self.share
        return (
            self.label,
            format_bytes(self.size_bytes),
            format_percent(share),
            format_delta(self.change_bytes),
        )


def torch_devices(process: Process) -> tuple[str, ...]:
    """The torch devices of which there is a breakdown, the most used first, the CPU last."""
    sized = [
        (part.device == "cpu", -total_bytes(part.breakdown), part.device)
        for part in process.probe.devices
        if part.breakdown is not None
    ]
    return tuple(name for _, _, name in sorted(sized))


def breakdown_of(process: Process, torch_device: str) -> Breakdown | None:
    """The last breakdown of a process on a torch device."""
    for device in process.probe.devices:
        if device.device == torch_device:
            return device.breakdown
    return None


def breakdown_rows(fleet: Fleet, process: Process, torch_device: str) -> list[BreakdownRow]:
    """The categories in their fixed order; none without a breakdown."""
    breakdown = breakdown_of(process, torch_device)
    if breakdown is None:
        return []
    first = fleet.first.get((process.key, torch_device))
    # A process that was swapped out holds less in RAM than is counted in it.
    whole = max(breakdown.process_bytes or 0, total_bytes(breakdown))
    rows = []
    for category in CATEGORIES:
        size = breakdown.bytes_of(category)
        before = first.breakdown.bytes_of(category) if first else None
        rows.append(
            BreakdownRow(
                category=category,
                label=category_label(category, torch_device),
                size_bytes=size,
                share=size / whole if size is not None and whole else None,
                change_bytes=size - before if size is not None and before is not None else None,
            )
        )
    return rows


def layers(breakdown: Breakdown | None) -> tuple[int, ...] | None:
    """The categories' bytes for a stacked chart; unknown ones take no room."""
    if breakdown is None:
        return None
    return tuple(breakdown.bytes_of(category) or 0 for category in CATEGORIES)


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
