"""cuBLAS workspaces, which are tensors of the caching allocator."""

from __future__ import annotations

from ..sizes import Affine, Sizes
from .context import cublas_workspace_bytes


def workspace_bytes(sizes: Sizes) -> Affine:
    """One a thread that multiplies: forward's, and that of the autograd engine."""
    w = sizes.workload
    if w.backend == "cpu":
        return Affine()
    return Affine((2 if w.training else 1) * cublas_workspace_bytes(w.device))
