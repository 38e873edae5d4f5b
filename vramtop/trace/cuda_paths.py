"""Makes fake CPU tensors allocate what CUDA allocates, where the two take different paths.

While entered, PyTorch's dispatcher runs kernels of this package for a few operators: attention
(``attention``), dropout, softmax from fp16 to fp32, layer and RMS norm, the gradient of an
embedding, and autocast's policies (``autocast``); and for three that take another path because
tensors are fake (``areAnyTensorSubclassLike``). All else allocates the same on both, but for:

- cuDNN's workspaces of convolutions and recurrent layers, chosen at run time by what is fastest:
  left out, with no bound;
- cuBLASLt's workspace of a linear layer with bias, 1 MiB by default (``CUDABlas.cpp``), and what
  CUB needs to sort or scan (``cumsum``, ``topk``, ``sort``, gradients of indexing): at most a few
  times the indices, 8 bytes each, and gone when the operator returns;
- statistics of batch and group norm, fp32 on CUDA: 4 bytes for a channel or group.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..estimator.workload import Workload
from . import attention
from .autocast import policies
from .known_values import values_that_are_known

_DEFAULT_CAPABILITY = (8, 0)
_aten = torch.ops.aten


@contextmanager
def cuda_paths(workload: Workload) -> Iterator[None]:
    """CUDA's paths on the workload's device; without one those of compute capability 8.0."""
    device = workload.device
    capability = _DEFAULT_CAPABILITY if device is None else device.compute_capability
    library = torch.library.Library("aten", "IMPL")
    try:
        attention.register(library, capability)
        library.impl("dropout", _dropout, "AutogradCPU")
        library.impl("softmax.int", _softmax, "AutogradCPU")
        library.impl("log_softmax.int", _log_softmax, "AutogradCPU")
        library.impl("layer_norm", _layer_norm, "AutogradCPU")
        library.impl("rms_norm", _rms_norm, "AutogradCPU")
        library.impl("embedding_dense_backward", _embedding_backward, "AutogradCPU")
        library.impl("linear", _linear, "AutogradCPU")
        library.impl("index_put", _index_put, "AutogradCPU")
        library.impl("scatter_add", _scatter_add, "AutogradCPU")
        with policies(), values_that_are_known():
            yield
    finally:
        library._destroy()


def _dropout(tensor: Any, p: float, train: bool) -> Any:
    """``is_fused_kernel_acceptable`` of ``Dropout.cpp``: a mask of one byte for an element."""
    if not train or p == 0 or not tensor.numel():
        return tensor
    return torch.native_dropout(tensor, p, True)[0]


def _fused_to_fp32(tensor: Any, dtype: Any) -> bool:
    """``SoftMax.cpp``: only from fp16; bf16 is copied to fp32 first, as on the CPU."""
    return bool(tensor.dtype == torch.float16 and dtype == torch.float32)


def _softmax(tensor: Any, dim: int, dtype: Any = None) -> Any:
    if _fused_to_fp32(tensor, dtype):
        return torch._softmax(tensor, dim, True)
    return torch._softmax(tensor if dtype is None else tensor.to(dtype), dim, False)


def _log_softmax(tensor: Any, dim: int, dtype: Any = None) -> Any:
    if _fused_to_fp32(tensor, dtype):
        return torch._log_softmax(tensor, dim, True)
    return torch._log_softmax(tensor if dtype is None else tensor.to(dtype), dim, False)


def _layer_norm(
    tensor: Any,
    shape: list[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    _cudnn: bool = True,
) -> Any:
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return _LayerNorm.apply(tensor, weight, bias, len(shape))
    return torch.native_layer_norm(tensor, shape, weight, bias, eps)[0]


def _statistics(tensor: Any, dimensions: int) -> Any:
    return torch.empty(tensor.shape[:-dimensions] + (1,) * dimensions, dtype=torch.float32)


class _LayerNorm(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed here
    """Layer norm in half precision: mean and rstd in fp32 (``layer_norm_kernel.cu``).

    The CPU keeps them in the dtype of the input.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Any, weight: Any, bias: Any, dimensions: int) -> Any:
        tensor = tensor.contiguous()
        out = torch.empty_like(tensor)
        statistics = _statistics(tensor, dimensions), _statistics(tensor, dimensions)
        ctx.save_for_backward(tensor, weight, bias, *statistics)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        tensor, weight, bias, _, _ = ctx.saved_tensors
        grad = grad.contiguous()
        needs = ctx.needs_input_grad
        made = [
            torch.empty_like(each) if need and each is not None else None
            for each, need in zip((tensor, weight, bias), needs, strict=False)
        ]
        return (*made, None)


def _rms_norm(tensor: Any, shape: list[int], weight: Any = None, eps: float | None = None) -> Any:
    """``rms_norm_symint`` of ``layer_norm.cpp``: fused where weight and input share a dtype."""
    if weight is not None and weight.dtype != tensor.dtype:
        return _aten._fused_rms_norm(tensor, shape, weight, eps)[0]
    return _RmsNorm.apply(tensor, weight, len(shape))


class _RmsNorm(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed here
    """``_fused_rms_norm`` of ``layer_norm_kernel.cu``: keeps the input and rstd in fp32."""

    @staticmethod
    def forward(ctx: Any, tensor: Any, weight: Any, dimensions: int) -> Any:
        tensor = tensor.contiguous()
        out = torch.empty_like(tensor)
        ctx.save_for_backward(tensor, weight, _statistics(tensor, dimensions))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        tensor, weight, _ = ctx.saved_tensors
        grad = grad.contiguous()
        needs = ctx.needs_input_grad
        made = [
            torch.empty_like(each) if need and each is not None else None
            for each, need in zip((tensor, weight), needs, strict=False)
        ]
        return (*made, None)


_ROWS_OF_A_PARTIAL = 10
"""``NROWS_PER_THREAD`` of ``EmbeddingBackwardKernel.cu``."""


def _embedding_backward(
    grad: Any, indices: Any, num_weights: int, padding_idx: int, scale_grad_by_freq: bool
) -> Any:
    """``embedding_dense_backward_cuda``: sorts the indices and sums rows in fp32 partials.

    Up to 3072 indices it adds directly and needs none of this; the buffers are allocated here all
    the same, as the tracer's batches are small ones from which it goes on to larger.
    """
    grad = grad.contiguous()
    # A line over the batch: each sample by itself, and as if no index of a large table came twice.
    count = indices.numel()
    samples = indices.shape[0] if indices.dim() > 1 else 1
    each = count // samples
    segments = num_weights if num_weights <= each else count
    partials = samples * (each // _ROWS_OF_A_PARTIAL) + segments
    orders = [torch.empty(count, dtype=indices.dtype) for _ in ("sorted", "original")]
    with torch._C._AutoDispatchBelowAutograd():
        made = _aten.embedding_dense_backward(
            grad, indices, num_weights, padding_idx, scale_grad_by_freq
        )
    offsets = [torch.empty(n, dtype=indices.dtype) for n in (count, segments, segments, partials)]
    sums = torch.empty(partials, grad.shape[-1], dtype=torch.float32)
    del sums, offsets, orders
    return made


def _linear(tensor: Any, weight: Any, bias: Any = None) -> Any:
    """``Linear.cpp`` adds a bias to a product in place, but not where tensors are fake."""
    if bias is None or tensor.dim() <= 2 or (tensor.dim() == 3 and tensor.is_contiguous()):
        return _aten.linear.default.decompose(tensor, weight, bias)
    return tensor.matmul(weight.t()).add_(bias)


def _index_put(tensor: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """``index_backward`` of ``FunctionsManual.cpp`` adds to its zeros in place."""
    if _in_formula():
        return tensor.index_put_(indices, values, accumulate)
    return tensor.clone().index_put_(indices, values, accumulate)


def _scatter_add(tensor: Any, dim: int, index: Any, source: Any) -> Any:
    """``gather_backward`` of ``FunctionsManual.cpp`` adds to its zeros in place."""
    if _in_formula():
        return tensor.scatter_add_(dim, index, source)
    return tensor.clone().scatter_add_(dim, index, source)


def _in_formula() -> bool:
    """Whether a formula of autograd runs, and no forward that is done again."""
    return torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()
