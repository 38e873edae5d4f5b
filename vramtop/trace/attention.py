"""Scaled dot-product attention on fake CPU tensors, by the operators that CUDA would run.

The operators are real ones: fake tensors run PyTorch's meta functions of the CUDA kernels, which
give their outputs (``torch/_meta_registrations.py``), and autograd's own formulas say what is
saved. Only what a kernel allocates and drops inside is added here.

Left out: the partial outputs that the forward of flash attention has where it splits the keys
(``set_params_splitkv``: batch x heads too few to fill the GPU, so small and not linear in the
batch), and cuDNN's workspace, which no source tells; its backward is taken to need what flash
attention needs.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.nn import functional

from ..errors import UsageError
from .attention_kernels import (
    Capability,
    Kernel,
    Request,
    choose,
    efficient_backward_buffers,
    flash_backward_buffers,
)

FLASH_IMPLEMENTATION: Final = "vramtop_fa2"
"""For ``config._attn_implementation``: what ``flash_attention_2`` does, without that package.

Its name has no "flash" in it, as transformers then would look for the package.
"""
_aten = torch.ops.aten
_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def register(library: Any, capability: Capability) -> None:
    """Put the kernels into a library that implements ``aten``; they go with it."""

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        request = Request(
            q=tuple(query.shape),
            k=tuple(key.shape),
            v=tuple(value.shape),
            dtype=_NAMES.get(query.dtype, ""),
            mask=attn_mask is not None,
            dropout=dropout_p,
            causal=is_causal,
            gqa=enable_gqa,
            gradients=_gradients(query, key, value),
            dense=query.stride(-1) == key.stride(-1) == value.stride(-1) == 1,
        )
        kernel: Kernel = choose(request, capability)
        mask = _additive(attn_mask, query.dtype)
        if kernel == "flash":
            return _flash(query, key, value, dropout_p, is_causal, scale)
        if kernel == "cudnn":
            return _aten._scaled_dot_product_cudnn_attention(
                query,
                key,
                value,
                mask,
                request.gradients,
                dropout_p,
                is_causal,
                False,
                scale=scale,
            )[0]
        if kernel == "efficient":
            return _efficient(
                query, key, value, mask, request.gradients, dropout_p, is_causal, scale
            )
        return _math(query, key, value, mask, dropout_p, is_causal, scale, enable_gqa)

    def efficient_backward(*args: Any, **options: Any) -> Any:
        return _efficient_backward(capability, *args, **options)

    library.impl("scaled_dot_product_attention", attention, "AutogradCPU")
    library.impl("_scaled_dot_product_flash_attention_backward", _flash_backward, "AutogradCPU")
    library.impl("_scaled_dot_product_cudnn_attention_backward", _cudnn_backward, "AutogradCPU")
    library.impl(
        "_scaled_dot_product_efficient_attention_backward", efficient_backward, "AutogradCPU"
    )


def _gradients(*tensors: Any) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _flash(
    query: Any, key: Any, value: Any, dropout_p: float, is_causal: bool, scale: float | None
) -> Any:
    dim = query.shape[-1]
    if dim % 8:
        padding = (0, 8 - dim % 8)
        query, key, value = (functional.pad(each, padding) for each in (query, key, value))
    out = _aten._scaled_dot_product_flash_attention(
        query, key, value, dropout_p, is_causal, False, scale=scale or dim**-0.5
    )[0]
    return out[..., :dim] if dim % 8 else out


def _flash_backward(
    grad_out: Any, query: Any, key: Any, value: Any, out: Any, *rest: Any, **options: Any
) -> Any:
    copies = [each.transpose(1, 2).contiguous() for each in (grad_out, out)]
    with torch._C._AutoDispatchBelowAutograd():
        gradients = _aten._scaled_dot_product_flash_attention_backward(
            grad_out, query, key, value, out, *rest, **options
        )
    buffers = _flash_buffers(query, key)
    del copies, buffers
    return gradients


def _cudnn_backward(
    grad_out: Any, query: Any, key: Any, value: Any, *rest: Any, **options: Any
) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        gradients = _aten._scaled_dot_product_cudnn_attention_backward(
            grad_out, query, key, value, *rest, **options
        )
    buffers = _flash_buffers(query, key)
    del buffers
    return gradients


def _flash_buffers(query: Any, key: Any) -> list[Any]:
    single, same = flash_backward_buffers(tuple(query.shape), tuple(key.shape))
    return [
        *(torch.empty(elements, dtype=torch.float32) for elements in single),
        *(torch.empty(elements, dtype=query.dtype) for elements in same),
    ]


def _efficient(
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    gradients: bool,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> Any:
    if mask is not None:
        mask = _preprocessed(mask, query, key)
    out = _aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, gradients, dropout_p, is_causal, scale=scale
    )[0]
    if value.shape[-1] > 128 and query.dtype != torch.float32:
        # kNeedsOutputAccumulatorBuffer: a head that does not fit into registers.
        accumulator = torch.empty(out.shape, dtype=torch.float32)
        del accumulator
    return out


def _efficient_backward(
    capability: Capability,
    grad_out: Any,
    query: Any,
    key: Any,
    value: Any,
    *rest: Any,
    **options: Any,
) -> Any:
    copy = grad_out.transpose(1, 2).contiguous()
    with torch._C._AutoDispatchBelowAutograd():
        gradients = _aten._scaled_dot_product_efficient_attention_backward(
            grad_out, query, key, value, *rest, **options
        )
    sizes = efficient_backward_buffers(
        tuple(query.shape), tuple(value.shape), _NAMES[query.dtype], capability
    )
    products = torch.empty(sizes.products, dtype=torch.float32) if sizes.products else None
    delta = torch.empty(sizes.delta, dtype=torch.float32)
    if sizes.products:
        # Summed over the head dimension, transposed and made contiguous.
        copied = torch.empty(sizes.delta, dtype=torch.float32)
        del products
        delta = copied
        del copied
    workspace = torch.empty(sizes.workspace_bytes, dtype=torch.uint8)
    del workspace, delta, copy
    return gradients


def _additive(mask: Any, dtype: Any) -> Any:
    """``convert_boolean_attn_mask``."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    made = torch.zeros_like(mask, dtype=dtype)
    made.masked_fill_(mask.logical_not(), -torch.inf)
    return made


def _preprocessed(mask: Any, query: Any, key: Any) -> Any:
    """``preprocess_mask``: four dimensions, rows padded to a multiple of 16 elements."""
    mask = mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    length = mask.shape[-1]
    if length % 16:
        return functional.pad(mask, (0, 16 - length % 16))[..., :length]
    return mask.contiguous() if any(stride % 16 for stride in mask.stride()[:3]) else mask


def _math(
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Any:
    """``_scaled_dot_product_attention_math``, which computes half precision in fp32.

    As there, the copies in fp32 live until the return, and the weights are cast, too.
    """
    dtype = query.dtype
    single = query, key, value
    if dtype in (torch.float16, torch.bfloat16):
        single = query.float(), key.float(), value.float()
    factor = (scale or query.shape[-1] ** -0.5) ** 0.5
    scaled = single[0] * factor
    if is_causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        mask = _additive(mask, scaled.dtype)
    _, keys, values = single
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        keys = keys.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        values = values.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    scores = scaled @ (keys.transpose(-2, -1) * factor)
    if mask is not None:
        scores.add_(mask)
    weights = torch._safe_softmax(scores, -1)
    infinite = torch.empty(scores.shape, dtype=torch.bool)
    del infinite, scores
    if dropout_p > 0:
        weights = torch.dropout(weights, dropout_p, True)
    out = (weights @ values).to(dtype)
    cast = weights.to(dtype)
    del cast
    return out


def flash_attention_forward(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    _attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Any = None,
    **_kwargs: Any,
) -> tuple[Any, None]:
    """What transformers does for ``flash_attention_2``, on (batch, heads, sequence, dim).

    The package's ``flash_attn_func`` allocates and saves what PyTorch's copy of the same kernels
    does. Inputs in fp32 are cast first, as the kernels know only half precision.

    Raises:
        UsageError: neither autocast nor the weights are in half precision, or the model adds a
            bias to the scores.
    """
    if position_bias is not None:
        raise UsageError("flash attention cannot add this model's position bias; use sdpa or eager")
    if query.dtype == torch.float32:
        dtype = _half_precision(module)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    dim, value_dim = query.shape[-1], value.shape[-1]
    if value_dim != dim:
        value = functional.pad(value, (0, dim - value_dim))
    causal = module.is_causal if is_causal is None else is_causal
    causal = causal and query.shape[2] == key.shape[2]
    out = _flash(query, key, value, dropout, causal, scaling).transpose(1, 2)
    return (out if value_dim == dim else out[..., :value_dim]), None


def _half_precision(module: Any) -> Any:
    """``get_target_dtype`` of transformers: autocast's dtype, else that of the weights."""
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    for parameter in module.parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            return parameter.dtype
    raise UsageError("flash attention needs fp16, bf16 or amp; fp32 can use sdpa or eager")


def _flash_mask(*_args: Any, **_kwargs: Any) -> None:
    """``flash_attention_mask`` where no row is padded."""


def register_flash() -> None:
    """Make transformers know ``FLASH_IMPLEMENTATION``; once in a process."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(FLASH_IMPLEMENTATION, flash_attention_forward)
    AttentionMaskInterface.register(FLASH_IMPLEMENTATION, _flash_mask)
