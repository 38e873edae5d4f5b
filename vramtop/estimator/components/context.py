"""What a process holds outside its tensors: CUDA context, NCCL's buffers; and cuBLAS workspaces.

Only the workspace is inside *allocated*; the rest is in the process's total alone.
"""

from __future__ import annotations

from typing import Final

from ..workload import Device

_MIB: Final = 1 << 20

_CONTEXT_OF_CARD: Final = {
    # FitCheck 0.3.1's published runs: NVML's process figure less reserved after training kernels.
    "T4": 141 * _MIB,
    # Published nvidia-smi of a PyTorch process with an empty tensor, CUDA 12.
    "RTX 6000 Ada": 426 * _MIB,
    # vLLM's published memory profiles: non-torch memory of one GPU before any NCCL group, 0.52 GiB.
    "H100": 532 * _MIB,
}
_CONTEXT_OF_GENERATION: Final = (
    # The card of that generation that was measured stands for the others; the context grows with
    # the number of multiprocessors, so a small card's is overestimated.
    ((9, 0), _CONTEXT_OF_CARD["H100"]),
    ((8, 0), _CONTEXT_OF_CARD["RTX 6000 Ada"]),
    # NVIDIA's figure for CUDA's lazy module loading (667 MB without), card not named.
    ((0, 0), 287_000_000),
)

NCCL_PAIR_BYTES: Final = 544 * _MIB
"""4 x A100 with NVLink, published: one communicator of two ranks (4 MiB a channel and
connection)."""
NCCL_GROUP_BYTES: Final = 688 * _MIB
"""The same machine, one communicator of more than two ranks."""

_HOPPER: Final = (9, 0)
_CUBLAS_HOPPER_BYTES: Final = 4096 * 8 * 1024
_CUBLAS_BYTES: Final = (2 * 4096 + 8 * 16) * 1024


def context_bytes(device: Device | None, gpus: int) -> int:
    """The CUDA context with the kernels of a training, and one NCCL communicator's buffers.

    Without a device: that of a data-centre card of compute capability 8.0. Lazy module loading
    (the default since CUDA 11.7) is assumed; eager loading takes about twice as much.
    """
    return _cuda_context_bytes(device) + nccl_bytes(gpus)


def nccl_bytes(gpus: int) -> int:
    """Buffers of one communicator over so many GPUs; 0 for one GPU."""
    if gpus < 2:
        return 0
    return NCCL_PAIR_BYTES if gpus == 2 else NCCL_GROUP_BYTES


def _cuda_context_bytes(device: Device | None) -> int:
    name, capability = (device.name, device.compute_capability) if device else ("", (8, 0))
    for card, size_bytes in _CONTEXT_OF_CARD.items():
        if card in name:
            return size_bytes
    return next(size for least, size in _CONTEXT_OF_GENERATION if capability >= least)


def cublas_workspace_bytes(device: Device | None) -> int:
    """One cuBLAS workspace, of which each pair of handle and stream has its own.

    32 MiB from compute capability 9.0, 8,519,680 B (":4096:2:16:8") before: PyTorch's
    aten/src/ATen/cuda/CublasHandlePool.cpp, ``parseChosenWorkspaceSize``, without
    CUBLAS_WORKSPACE_CONFIG.
    """
    if device is not None and device.compute_capability >= _HOPPER:
        return _CUBLAS_HOPPER_BYTES
    return _CUBLAS_BYTES
