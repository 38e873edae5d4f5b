"""What an estimate's components are called on the screen and in reports."""

from __future__ import annotations

from typing import Final

from ..core.breakdowns import CATEGORY_LABELS, PART_LABELS
from .workload import Backend

COMPONENT_LABELS: Final = {
    **CATEGORY_LABELS,
    **PART_LABELS,
    "workspace": "cuBLAS workspaces",
    "context": "CUDA context, NCCL",
}


def component_label(component: str, backend: Backend) -> str:
    """What a component is called where it is; the CPU has no context."""
    if component == "context" and backend == "cpu":
        return "rest of RSS"
    return COMPONENT_LABELS[component]
