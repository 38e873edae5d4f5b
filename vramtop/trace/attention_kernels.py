"""Which kernel CUDA takes for scaled dot-product attention, and what it allocates beside outputs.

Sizes are plain integers, so that they can be checked without torch. The sources are those of
PyTorch 2.13: ``ATen/native/transformers/cuda/sdp_utils.cpp`` for the choice, ``attention.cu``,
``attention_backward.cu``, ``flash_attn/flash_api.cpp`` and ``mem_eff_attention/kernel_backward.h``
for the buffers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kernel = Literal["flash", "efficient", "cudnn", "math"]
Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Request:
    """One call; ``q``, ``k``, ``v`` are shapes (batch, heads, sequence, head dimension)."""

    q: tuple[int, ...]
    k: tuple[int, ...]
    v: tuple[int, ...]
    dtype: str
    """fp32, fp16, bf16, or anything else: then no fused kernel takes it."""
    mask: bool = False
    dropout: float = 0.0
    causal: bool = False
    gqa: bool = False
    gradients: bool = True
    dense: bool = True
    """Whether the last dimension of each has stride 1."""


def choose(request: Request, capability: Capability) -> Kernel:
    """The first kernel of ``sdp::priority_order`` that can serve the request.

    cuDNN comes first on compute capability 9 and 10 (``check_prefer_cudnn_attention``, with the
    cuDNN newer than 9.15 that current wheels bring), else flash, then memory-efficient.
    """
    if not _common(request):
        return "math"
    if capability[0] in (9, 10) and _cudnn(request):
        return "cudnn"
    if _flash(request, capability):
        return "flash"
    return "efficient" if _efficient(request, capability) else "math"


def _common(request: Request) -> bool:
    shapes = (request.q, request.k, request.v)
    if any(len(shape) != 4 or 0 in shape for shape in shapes) or not request.dense:
        return False
    if not request.q[0] == request.k[0] == request.v[0]:
        return False
    return request.q[3] == request.k[3] and request.k[2] == request.v[2]


def _heads(request: Request, *, grouped: bool) -> bool:
    """``check_batch_size_and_num_heads_dense``."""
    if request.q[1] == request.k[1] == request.v[1]:
        return True
    same = request.k[1] == request.v[1]
    return grouped and request.gqa and same and request.q[1] % request.k[1] == 0


def _half(request: Request) -> bool:
    return request.dtype in ("fp16", "bf16")


def _cudnn(request: Request) -> bool:
    """``can_use_cudnn_attention``; dimensions above 128 depend on the version and are left out."""
    dims = (request.q[3], request.v[3])
    if not _half(request) or any(dim % 8 or dim > 128 for dim in dims):
        return False
    if request.k[2] == 1 or (request.dropout and request.q[2] == 1):
        return False
    if request.dropout * 16 != math.floor(request.dropout * 16):
        return False
    return _heads(request, grouped=True)


def _flash(request: Request, capability: Capability) -> bool:
    """``can_use_flash_attention``."""
    dim = request.q[3]
    if capability < (8, 0) or not _half(request) or request.mask:
        return False
    if dim > 256 or request.v[3] != dim:
        return False
    small = (8, 6) <= capability <= (8, 9) or capability >= (12, 0)
    if small and request.gradients and not (dim <= 192 or (dim > 224 and not request.dropout)):
        return False
    if request.causal and request.q[2] != request.k[2]:
        return False
    return _heads(request, grouped=True)


def _efficient(request: Request, capability: Capability) -> bool:
    """``can_use_mem_efficient_attention``; grouped queries are not among what it can."""
    if request.dtype not in ("fp16", "fp32", "bf16"):
        return False
    if request.dtype == "bf16" and capability < (8, 0):
        return False
    alignment = _alignment(request.dtype, capability)
    if request.q[3] % alignment or request.v[3] % alignment:
        return False
    return _heads(request, grouped=False)


def _alignment(dtype: str, capability: Capability) -> int:
    """``minimum_gemm_alignment``, in elements."""
    half = dtype != "fp32"
    tensor_cores = capability[0] >= 8 or (capability[0] == 7 and half)
    smallest = 4 if capability[0] >= 8 else 1
    return max(smallest, 8 if half else 4) if tensor_cores else smallest


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is not below the value."""
    return -(-value // multiple) * multiple


def flash_backward_buffers(q: tuple[int, ...], k: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """What ``mha_bwd`` allocates beside dq, dk, dv: (elements in fp32, elements in q's dtype).

    ``softmax_d`` (batch, heads, sequence rounded up to 128) and ``dq_accum`` (…, head dimension
    rounded up to 32, above 128 to 64); with grouped queries dk and dv of every query head.
    """
    batch, heads, length, dim = q
    rows = round_up(length, 128)
    softmax_d = batch * heads * rows
    dq_accum = softmax_d * round_up(dim, 32 if dim <= 128 else 64)
    expanded = [batch * k[2] * heads * dim] * 2 if k[1] != heads else []
    return [softmax_d, dq_accum], expanded


@dataclass(frozen=True, slots=True)
class EfficientBackward:
    """What ``_efficient_attention_backward`` allocates beside the gradients."""

    products: int
    """fp32 elements of grad_out · out, where the kernel does not compute delta itself."""
    delta: int
    """fp32 elements, (batch, heads, queries)."""
    workspace_bytes: int


def efficient_backward_buffers(
    q: tuple[int, ...], v: tuple[int, ...], dtype: str, capability: Capability
) -> EfficientBackward:
    """Sizes by the kernel that ``dispatch_cutlassB`` takes first.

    A kernel has blocks of i queries by j keys. Its workspace (``Params::workspace_size``) holds,
    for each head, an fp32 tile of every block of dq with 16 bytes of lock before it, and, if a
    half-precision head does not fit into registers, one block of dk and of dv. Keys may be split
    further while batch x heads is below 200; that is left out, as it is not linear in the batch
    and adds 200 blocks at most.
    """
    batch, heads, queries, dim = q
    value_dim = v[3]
    half = dtype != "fp32"
    block_i, block_j, in_registers = _backward_block(max(dim, value_dim), half, capability)
    tiles = -(-queries // block_i) * -(-dim // block_j)
    floats = tiles * (4 + block_i * block_j)
    if half and not in_registers:
        floats += block_j * (round_up(dim, block_i) + round_up(value_dim, block_i))
    computes_delta = half and (in_registers or capability[0] != 7 or capability[1] >= 5)
    return EfficientBackward(
        products=0 if computes_delta else batch * queries * heads * value_dim,
        delta=batch * heads * queries,
        workspace_bytes=batch * heads * round_up(floats, 4) * 4,
    )


def _backward_block(dim: int, half: bool, capability: Capability) -> tuple[int, int, bool]:
    """(queries, keys, whether dk and dv stay in registers) of ``kernels/cutlassB.h``.

    On compute capability 8.6, 8.9 and 12 the shared memory of a block (99 KiB) has no room for
    the 128 x 128 kernel.
    """
    if dim <= 64:
        return 64, 64, half
    small = capability[0] == 12 or (8, 6) <= capability <= (8, 9)
    if not half:
        return (128, 64, False) if capability[0] >= 8 and not small else (64, 64, False)
    if dim > 128:
        return 128, 64, False
    if capability[0] < 8:
        return 128, 64, True
    if not small:
        return 128, 128, True
    if dim <= 96 and capability in ((8, 6), (8, 9)):
        return 128, 64, True
    return 64, 64, False
