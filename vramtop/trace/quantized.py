"""Linear layers with quantised weights: what each library stores, and what each pass allocates.

The libraries themselves need CUDA or do not run on fake tensors; these modules make tensors of
the same sizes at the same moments. Sources:

- ``nf4``, ``int8``: bitsandbytes 0.50, autograd/_functions.py, nn/modules.py, backends/cuda/ops.py
- ``int4``: GPTQ's packing as AutoGPTQ and GPTQModel store it (groups of 128, int32 words of eight,
  fp16 scales, packed zeros, an int32 group index)
- ``fp8``: float8_e4m3 weights with an fp32 scale a row; inference multiplies them with fp8 copies
  of the input (transformers/integrations/fbgemm_fp8.py), LoRA dequantises them. Without LoRA,
  training in fp8 is torchao's ``Float8Linear``: the weights stay in the compute dtype, every
  product takes fp8 copies (``quantized_fp8``).

A product with a dequantised weight makes it in forward and again in backward. bitsandbytes 0.50 has
fused kernels that spare this below some tens of rows (backends/cuda/ops.py,
``_gemm_4bit_use_custom_cuda``); older releases only for a single row, which is what is done here.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import torch
from torch import nn

from ..errors import UsageError
from ..estimator.workload import QUANTIZED, Workload

NF4_BLOCK: Final = 64
NESTED_BLOCK: Final = 256
INT4_GROUP: Final = 128
_DTYPES: Final = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_FROZEN: Final = ("nf4", "int8", "int4")


def quantize(model: Any, workload: Workload) -> None:
    """Replace the linear layers of a model on the meta device, in place, as transformers does.

    transformers leaves the head, whatever is tied to it and the last module as they are
    (``quantizers.base.get_keys_to_not_convert``), and so embeddings, norms and biases, which stay
    in the dtype that they have. Training nf4 or int8 with LoRA follows PEFT's documented recipe
    (docs, "Quantization"): ``prepare_model_for_kbit_training`` makes all that is not quantised
    fp32 and freezes it. (TRL's SFTTrainer called it until 2025; its later releases do not.)

    Raises:
        UsageError: weights that cannot be trained are to be trained.
    """
    precision = workload.precision
    if precision not in QUANTIZED:
        return
    if workload.training and workload.lora is None:
        if precision in _FROZEN:
            raise UsageError(
                f"{precision} weights cannot be trained; add --lora RANK, or choose another of "
                "--precision"
            )
        from .quantized_fp8 import Float8Linear

        _replace(model, Float8Linear, _DTYPES[workload.activation_dtype])
        return
    kind = Nested4bit if workload.double_quantization else _CLASSES[precision]
    _replace(model, kind, _DTYPES[workload.activation_dtype])
    if workload.prepared_for_kbit:
        for parameter in model.parameters():
            parameter.requires_grad = False
            if parameter.dtype in (torch.float16, torch.bfloat16):
                parameter.data = parameter.data.to(torch.float32)


def _replace(model: Any, kind: Any, compute_dtype: Any) -> None:
    from transformers.pytorch_utils import Conv1D

    kept = _kept(model)
    for path, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            inner, outer = module.weight.shape
        elif type(module) is nn.Linear:
            inner, outer = module.in_features, module.out_features
        else:
            continue
        if _is_kept(path, kept):
            continue
        made = kind(inner, outer, compute_dtype)
        if module.bias is not None:
            made.bias = nn.Parameter(module.bias.data, requires_grad=made.trains)
        made.train(module.training)
        model.set_submodule(path, made)


def _kept(model: Any) -> list[str]:
    if hasattr(model, "all_tied_weights_keys"):
        from transformers.quantizers.base import get_keys_to_not_convert

        fp32 = getattr(model, "_keep_in_fp32_modules", None) or []
        return [*get_keys_to_not_convert(model), *fp32]
    names = [name for name, _ in model.named_parameters()]
    return [names[-1].rpartition(".")[0]] if names else []


def _is_kept(path: str, kept: list[str]) -> bool:
    from transformers.quantizers.quantizers_utils import should_convert_module

    return not should_convert_module(path, kept)


class QuantizedLinear(nn.Linear):  # type: ignore[misc]
    """A linear layer without its weight, which subclasses store; shape (outer, inner)."""

    trains = False

    def __init__(self, inner: int, outer: int, compute_dtype: Any) -> None:
        # Not nn.Linear's own: it would make a weight of the full size.
        nn.Module.__init__(self)
        self.in_features, self.out_features = inner, outer
        self.compute_dtype = compute_dtype
        self.register_parameter("bias", None)
        self._store(inner, outer)

    def _store(self, inner: int, outer: int) -> None:
        raise NotImplementedError

    def _keep(self, name: str, *shape: int, dtype: Any) -> None:
        self.register_buffer(name, torch.empty(shape, dtype=dtype, device="meta"))

    def weight_of(self, dtype: Any) -> Any:
        """The weight as a product takes it, (outer, inner)."""
        return torch.empty(self.out_features, self.in_features, dtype=dtype)

    def dequantize(self, dtype: Any) -> Any:
        """``weight_of`` with what has to be made for it, as backward does."""
        return self.weight_of(dtype)

    def forward_scales(self) -> Any:
        """What forward makes beside the weight, and holds as long."""
        return None

    def _weigh(self, *shape: int, dtype: Any) -> None:
        weight = torch.empty(shape, dtype=dtype, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)


class _Dequantized(torch.autograd.Function):  # type: ignore[misc]
    """A product whose weight is made for it: once in forward, once more in backward.

    Nothing of the size of the input is kept (``MatMul4Bit``: only the packed weight).
    """

    @staticmethod
    def forward(ctx: Any, x: Any, bias: Any, layer: Any) -> Any:
        ctx.layer, ctx.dtype_bias = layer, None if bias is None else bias.dtype
        _scales = layer.forward_scales()
        return nn.functional.linear(x, layer.weight_of(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        grad_bias = grad_x = None
        if ctx.needs_input_grad[1]:
            grad_bias = grad.sum(0, dtype=ctx.dtype_bias)
        if ctx.needs_input_grad[0]:
            grad_x = torch.matmul(grad, ctx.layer.dequantize(grad.dtype))
        return grad_x, grad_bias, None


class Linear4bit(QuantizedLinear):
    """bitsandbytes' Linear4bit: two weights a byte, an fp32 absmax for every 64.

    Not nested: transformers' default (``bnb_4bit_use_double_quant=False``); ``Nested4bit`` is.
    """

    def _store(self, inner: int, outer: int) -> None:
        count = inner * outer
        self._weigh((count + 1) // 2, 1, dtype=torch.uint8)
        self._keep("absmax", -(-count // NF4_BLOCK), dtype=torch.float32)
        # functional.get_4bit_type makes the sixteen values anew for every weight.
        self._keep("code", 16, dtype=torch.float32)

    def forward(self, x: Any) -> Any:
        """As nn/modules.py: in the compute dtype, the result in the input's."""
        dtype = x.dtype
        x = x.to(self.compute_dtype)
        bias = _bias(self, x.dtype)
        if x.numel() == x.shape[-1] and not (torch.is_grad_enabled() and x.requires_grad):
            result = torch.empty(*x.shape[:-1], self.out_features, dtype=x.dtype)
            return (result if bias is None else result.add_(bias)).to(dtype)
        return _Dequantized.apply(x, bias, self).to(dtype)


class Nested4bit(Linear4bit):
    """Linear4bit with double quantisation: the absmax in a byte each, an fp32 one for every 256."""

    def _store(self, inner: int, outer: int) -> None:
        super()._store(inner, outer)
        blocks = self.absmax.numel()
        self._keep("absmax", blocks, dtype=torch.uint8)
        self._keep("offset", dtype=torch.float32)
        self._keep("nested_absmax", -(-blocks // NESTED_BLOCK), dtype=torch.float32)
        self.register_buffer("nested_code", _dynamic_map())

    def forward_scales(self) -> Any:
        """The fp32 absmax, and the same with the offset (``_dequant_linear_fallback``)."""
        scales = torch.empty(self.absmax.shape, dtype=torch.float32)
        return scales, scales + self.offset

    def dequantize(self, dtype: Any) -> Any:
        """With the fp32 absmax, which goes before the product (``dequantize_4bit``)."""
        _scales = torch.empty(self.absmax.shape, dtype=torch.float32)
        return self.weight_of(dtype)


@cache
def _dynamic_map() -> Any:
    """The 256 values of 8-bit quantisation, one tensor for all weights (``name2qmap``)."""
    return torch.empty(256, dtype=torch.float32, device="meta")


def _bias(layer: Any, dtype: Any) -> Any:
    """The bias in the dtype of the product; it is changed for good, as bitsandbytes does."""
    bias = layer.bias
    if bias is not None and bias.dtype != dtype:
        bias.data = bias.data.to(dtype)
    return bias


class _Int8Product(torch.autograd.Function):  # type: ignore[misc]
    """``MatMul8bitLt`` with a threshold of 6 (transformers' default) and no outlier columns.

    How many columns hold outliers depends on values; LLM.int8's paper finds some 0.1 % of them.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, bias: Any, layer: Any) -> Any:
        shape = x.shape
        if x.dim() == 3:
            x = x.reshape(-1, shape[-1])
        half = x.to(torch.float16)
        rows, _scales = _row_wise(half)
        del half
        result = _scaled(rows, layer.out_features, bias, x.dtype)
        ctx.layer, ctx.shape, ctx.dtype = layer, shape, x.dtype
        ctx.dtype_bias = None if bias is None else bias.dtype
        # On the node itself, not as saved tensors: it lives as long as the graph does.
        ctx.tensors = (None, None, x) if any(ctx.needs_input_grad[:2]) else (None, None, None)
        return result.reshape(*shape[:-1], layer.out_features) if len(shape) == 3 else result

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        grad_bias = grad_x = None
        if ctx.needs_input_grad[1]:
            grad_bias = grad.sum(0, dtype=ctx.dtype_bias)
        if grad.dim() == 3:
            grad = grad.reshape(-1, grad.shape[-1]).contiguous()
        if ctx.needs_input_grad[0]:
            layer = ctx.layer
            weight = layer.weight.to(ctx.dtype, copy=True)
            weight.mul_(layer.row_scales.unsqueeze(1).mul(1.0 / 127.0))
            grad_x = torch.matmul(grad.to(ctx.dtype), weight).view(ctx.shape)
        return grad_x, grad_bias, None


def _row_wise(x: Any) -> tuple[Any, Any]:
    """int8 rows and their fp32 scales, with the temporaries of the search for outliers."""
    scales = torch.empty(x.shape[0], dtype=torch.float32)
    rows = torch.empty(x.shape, dtype=torch.int8)
    outliers = x.abs() >= 6.0
    outliers.any(dim=0)
    return rows, scales


def _scaled(rows: Any, outer: int, bias: Any, dtype: Any) -> Any:
    """An int32 product, made fp16, then the dtype of the input."""
    product = torch.empty(rows.shape[0], outer, dtype=torch.int32)
    return _dequantized_product(product, bias, dtype)


def _dequantized_product(product: Any, bias: Any, dtype: Any) -> Any:
    # A function of its own, as there (int8_mm_dequant): the fp16 result goes before the int32 one.
    result = torch.empty_like(product, dtype=torch.float16)
    if bias is not None and bias.dtype != torch.float16:
        result.add_(bias)
    return result.to(dtype)


class Linear8bitLt(QuantizedLinear):
    """bitsandbytes' Linear8bitLt (LLM.int8): int8 weights with an fp32 scale a row."""

    def _store(self, inner: int, outer: int) -> None:
        self._weigh(outer, inner, dtype=torch.int8)
        self._keep("row_scales", outer, dtype=torch.float32)

    def forward(self, x: Any) -> Any:
        """As nn/modules.py; the product casts to fp16 itself."""
        return _Int8Product.apply(x, _bias(self, x.dtype), self)


class _DequantizedLinear(QuantizedLinear):
    def forward(self, x: Any) -> Any:
        """In the input's dtype."""
        return _Dequantized.apply(x, _bias(self, x.dtype), self)


class LinearInt4(_DequantizedLinear):
    """GPTQ's: eight weights in an int32 down a column, groups of 128 rows."""

    def _store(self, inner: int, outer: int) -> None:
        groups = -(-inner // INT4_GROUP)
        self._weigh(-(-inner // 8), outer, dtype=torch.int32)
        self._keep("qzeros", groups, -(-outer // 8), dtype=torch.int32)
        self._keep("scales", groups, outer, dtype=torch.float16)
        self._keep("g_idx", inner, dtype=torch.int32)


class LinearFp8(_DequantizedLinear):
    """float8_e4m3 weights with an fp32 scale a row (``FbgemmFp8Linear``)."""

    def _store(self, inner: int, outer: int) -> None:
        self._weigh(outer, inner, dtype=torch.float8_e4m3fn)
        self._keep("scale", outer, 1, dtype=torch.float32)

    def forward(self, x: Any) -> Any:
        """With fp8 copies of the input's rows where no gradient is wanted."""
        if torch.is_grad_enabled() and x.requires_grad:
            return super().forward(x)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        copies = torch.empty(rows.shape, dtype=torch.float8_e4m3fn)
        scales = torch.empty(rows.shape[0], dtype=torch.float32)
        result = torch.empty(rows.shape[0], self.out_features, dtype=x.dtype)
        if self.bias is not None:
            result = result + self.bias
        result = result.reshape(*x.shape[:-1], self.out_features)
        del copies, scales
        return result


_CLASSES: Final = {
    "nf4": Linear4bit,
    "int8": Linear8bitLt,
    "int4": LinearInt4,
    "fp8": LinearFp8,
}
