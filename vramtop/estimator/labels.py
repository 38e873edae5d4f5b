"""What an estimate's components are called on the screen and in reports."""

from __future__ import annotations

from typing import Final

from ..core.breakdowns import CATEGORY_LABELS, PART_LABELS

COMPONENT_LABELS: Final = {
    **CATEGORY_LABELS,
    **PART_LABELS,
    "workspace": "cuBLAS workspaces",
    "context": "CUDA context, NCCL",
}
