"""What an estimate's components and phases are called on the screen and in reports."""

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
PHASE_WORDS: Final = {
    "load": "while the model is loaded",
    "forward": "in forward",
    "backward": "in backward",
    "step": "in the optimizer's step",
    "zero_grad": "in zero_grad",
    "generate": "while tokens are generated",
}


def component_label(component: str, backend: Backend) -> str:
    """What a component is called where it is; the CPU has no context."""
    if component == "context" and backend == "cpu":
        return "rest of RSS"
    return COMPONENT_LABELS[component]
