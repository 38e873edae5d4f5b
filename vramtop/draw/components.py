"""What the components of an estimate are called, and in which colours they are drawn."""

from __future__ import annotations

from typing import Final

from ..core.breakdowns import CATEGORY_LABELS, PART_LABELS

COMPONENT_LABELS: Final = {
    **CATEGORY_LABELS,
    **PART_LABELS,
    "workspace": "cuBLAS workspaces",
    "context": "CUDA context, NCCL",
    "free": "free",
    "reserve": "driver reserve",
}
_TONES: Final = {
    "kv_cache": "unknown",
    "workspace": "fragmentation",
    "context": "outside_allocator",
    "reserve": "driver_reserved",
}
"""Components that the live screen does not tell apart, in colours that nothing else has here."""


def component_tone(component: str) -> str:
    """The tone of a component: that of the same category of the live screen, where there is one."""
    return _TONES.get(component, component)
