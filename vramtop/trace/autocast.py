"""CUDA's autocast on fake CPU tensors.

The tensors are on the CPU, so the real autocast of the CPU runs; while ``policies`` is entered,
its kernels for each operator are those of CUDA's lists in ``ATen/autocast_mode.h`` and
``autocast_mode.cpp`` of PyTorch 2.13. What the CPU casts as CUDA does stays in C++, the cache of
cast weights with it; what only the CPU casts falls through.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import torch


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LOWER_PRECISION: Final = _names(
    """
    _convolution.deprecated _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d
    conv_transpose2d.input conv_transpose3d.input convolution prelu addmm addmv addr matmul
    einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot
    _thnn_fused_lstm_cell _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    _scaled_dot_product_flash_attention scaled_dot_product_attention
    """
)
"""AT_FORALL_LOWER_PRECISION_FP."""
FP32: Final = _names(
    """
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan
    pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm
    rms_norm group_norm frobenius_norm.dim nuclear_norm nuclear_norm.dim cosine_similarity
    poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div
    l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss multilabel_margin_loss
    soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits
    dist pdist cdist renorm logsumexp upsample_nearest1d _upsample_nearest_exact1d
    upsample_nearest2d _upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d
    upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d
    upsample_bicubic2d _upsample_bicubic2d_aa
    """
)
"""AT_FORALL_FP32."""
FP32_BY_DTYPE: Final = _names(
    """
    prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm
    linalg_matrix_norm linalg_matrix_norm.str_ord sum sum.dim_IntList
    """
)
"""AT_FORALL_FP32_SET_OPT_DTYPE: told to give fp32, not given it."""
FP32_APPENDED: Final = {
    "norm.Scalar": "ScalarOpt_dtype",
    "norm.ScalarOpt_dim": "ScalarOpt_dim_dtype",
}
"""AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE: the overload that takes a dtype runs instead."""
PROMOTE: Final = _names(
    """
    addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add
    """
)
"""AT_FORALL_PROMOTE."""
_KEY: Final = "AutocastCPU"
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@contextmanager
def autocast(dtype: str) -> Iterator[None]:
    """Autocast to ``fp16`` or ``bf16`` as ``torch.autocast("cuda", …)`` does it.

    A leaf that requires a gradient is cast once; its copy lives until the outermost exit.
    """
    with policies(), torch.autocast("cpu", dtype=_DTYPES[dtype]):
        yield


_entered = 0


@contextmanager
def policies() -> Iterator[None]:
    """CUDA's policies for the autocast of the CPU; may be entered again inside itself."""
    global _entered
    library = _library() if not _entered else None
    _entered += 1
    try:
        yield
    finally:
        _entered -= 1
        if library is not None:
            library._destroy()


def _library() -> Any:
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*other operators may also be overridden")
        for name, kernel in _kernels().items():
            library.impl(name, kernel, _KEY)
    return library


@cache
def _kernels() -> dict[str, Callable[..., Any]]:
    """For each operator whose kernel of the CPU is not CUDA's: the one to put there."""
    on_cpu = _cast_on_cpu()
    made: dict[str, Callable[..., Any]] = {}
    for name in LOWER_PRECISION - on_cpu:
        made[name] = _casting(_operator(name), _lower)
    for name in FP32:
        made[name] = _casting(_operator(name), _to_fp32)
    for name in FP32_BY_DTYPE:
        made[name] = _telling(_operator(name))
    for name, overload in FP32_APPENDED.items():
        made[name] = _appending(_operator(f"{name.partition('.')[0]}.{overload}"))
    for name in PROMOTE:
        made[name] = _promoting(_operator(name))
    for name in on_cpu - made.keys() - LOWER_PRECISION:
        made[name] = torch.library.fallthrough_kernel
    return made


@cache
def _cast_on_cpu() -> frozenset[str]:
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return frozenset(
        name.removeprefix("aten::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("aten::") and has_kernel(name, _KEY)
    )


def _operator(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _below() -> Any:
    return torch._C._ExcludeDispatchKeyGuard(
        torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
    )


def _eligible(value: Any) -> bool:
    """``is_eligible`` of ``autocast_mode.h``: of any floating dtype but double."""
    return (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.dtype != torch.float64
    )


def _cast(value: Any, dtype: Any) -> Any:
    if _eligible(value):
        return value.to(dtype)
    if isinstance(value, (list, tuple)) and any(_eligible(each) for each in value):
        return [_cast(each, dtype) for each in value]
    return value


def _lower() -> Any:
    return torch.get_autocast_dtype("cpu")


def _to_fp32() -> Any:
    return torch.float32


def _casting(operator: Any, dtype_of: Callable[[], Any]) -> Callable[..., Any]:
    """``CastPolicy::fp32``, ``CastPolicy::lower_precision_fp``."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        dtype = dtype_of()
        with _below():
            return operator(
                *(_cast(each, dtype) for each in args),
                **{name: _cast(each, dtype) for name, each in kwargs.items()},
            )

    return kernel


def _telling(operator: Any) -> Callable[..., Any]:
    """``CastPolicy::fp32_set_opt_dtype``: an argument ``dtype`` that was left out is fp32."""
    arguments = operator._schema.arguments
    place = next(i for i, each in enumerate(arguments) if each.name == "dtype")

    def kernel(*args: Any, **kwargs: Any) -> Any:
        given = args[place] if len(args) > place else kwargs.get("dtype")
        if given is None and _eligible(args[0]):
            args = args[:place]
            if arguments[place].kwarg_only:
                kwargs["dtype"] = torch.float32
            else:
                args = (*args, *(each.default_value for each in arguments[len(args) : place]))
                args = (*args, torch.float32)
        with _below():
            return operator(*args, **kwargs)

    return kernel


def _appending(operator: Any) -> Callable[..., Any]:
    """``CastPolicy::fp32_append_dtype``."""
    names = [each.name for each in operator._schema.arguments if each.name != "dtype"]

    def kernel(*args: Any, **kwargs: Any) -> Any:
        named = {"p": 2, **dict(zip(names, args, strict=False)), **kwargs}
        if "dim" in names:
            named.setdefault("keepdim", False)
        dtype = torch.float32 if _eligible(args[0]) else args[0].dtype
        with _below():
            return operator(*(named[name] for name in names), dtype=dtype)

    return kernel


def _promoting(operator: Any) -> Callable[..., Any]:
    """``CastPolicy::promote``: to fp32 if anything is fp32, else to the lower precision."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        dtype = _lower()
        for each in _flat((*args, *kwargs.values())):
            if _eligible(each) and each.dtype == torch.float32:
                dtype = torch.float32
        with _below():
            return operator(
                *(_cast(each, dtype) for each in args),
                **{name: _cast(each, dtype) for name, each in kwargs.items()},
            )

    return kernel


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value
