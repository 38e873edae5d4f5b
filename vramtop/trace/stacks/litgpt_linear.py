"""LitGPT's linear layers: bitsandbytes' 4-bit storage as Fabric applies it, and LoRA of its own.

Sources: litgpt/lora.py (0.3 to 0.4); lightning/fabric/plugins/precision/bitsandbytes.py (2.1 to
2.4); bitsandbytes/autograd/_functions.py and functional.py (0.41 to 0.42).
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

ABSMAX_BLOCK: Final = 64
"""Weights that share one scale (bitsandbytes Params4bit, blocksize)."""
NESTED_BLOCK: Final = 256
"""Scales that share one scale under double quantisation (functional.quantize_4bit)."""


class _FourBitProduct(torch.autograd.Function):  # type: ignore[misc]
    """MatMul4Bit of bitsandbytes 0.41 and 0.42: keeps its input although no gradient needs it.

    It is kept as an attribute of the node, which backward does not clear: it lives as long as
    the loss, thus until the next batch's is there.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, layer: Any) -> Any:
        output = functional.linear(x, layer.dequantized(x.dtype), layer.bias)
        ctx.layer = layer
        if ctx.needs_input_grad[0]:
            layer.kept.append(x)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        return gradient @ ctx.layer.dequantized(gradient.dtype), None


class FourBitLinear(nn.Module):  # type: ignore[misc]
    """A linear layer in NF4 or FP4: two weights a byte, an fp32 scale every 64 weights."""

    def __init__(self, inputs: int, outputs: int, bias: bool, double: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.kept: list[Any] = []
        count = inputs * outputs
        packed = torch.empty((count + 1) // 2, 1, dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        scales = -(-count // ABSMAX_BLOCK)
        self.register_buffer(
            "absmax", torch.empty(scales, dtype=torch.uint8 if double else torch.float32)
        )
        self.register_buffer("code", torch.empty(16, dtype=torch.float32))
        if double:
            nested = -(-scales // NESTED_BLOCK)
            self.register_buffer("nested_absmax", torch.empty(nested, dtype=torch.float32))
            self.register_buffer("offset", torch.empty((), dtype=torch.float32))

    def dequantized(self, dtype: Any) -> Any:
        """The whole weight as a temporary: fp16, as Fabric quantised it, then in ``dtype``."""
        absmax = self.absmax
        if absmax.dtype == torch.uint8:
            absmax = absmax.float() + self.offset
        weight = torch.empty(self.out_features, self.in_features, dtype=torch.float16)
        del absmax
        return weight.to(dtype)

    def forward(self, x: Any) -> Any:
        """The product with the dequantised weight."""
        return _FourBitProduct.apply(x, self)


def kept_inputs(module: Any) -> list[Any]:
    """The inputs that the last batch's loss holds; the layers hold them no more."""
    kept = []
    for child in module.modules():
        if isinstance(child, FourBitLinear):
            kept += child.kept
            child.kept = []
    return kept


def linear(inputs: int, outputs: int, bias: bool, storage: str | None) -> Any:
    """A linear layer, stored as ``storage`` says: None, nf4, nf4-dq."""
    if storage is None:
        return nn.Linear(inputs, outputs, bias=bias)
    return FourBitLinear(inputs, outputs, bias, double=storage.endswith("-dq"))


class LoraLinear(nn.Module):  # type: ignore[misc]
    """A frozen linear layer with an adapter beside it; rank 0: none."""

    def __init__(
        self, inputs: int, outputs: int, bias: bool, storage: str | None, rank: int, dropout: float
    ) -> None:
        super().__init__()
        self.linear = linear(inputs, outputs, bias, storage)
        self.rank = rank
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.scaling = 2.0
        if rank:
            self.lora_a = nn.Parameter(torch.empty(rank, inputs))
            self.lora_b = nn.Parameter(torch.empty(outputs, rank))

    def forward(self, x: Any) -> Any:
        """The pretrained product and, added to it, the adapter's."""
        pretrained = self.linear(x)
        if not self.rank:
            return pretrained
        return pretrained + (self.dropout(x) @ self.lora_a.T @ self.lora_b.T) * self.scaling


class LoraQkvLinear(nn.Module):  # type: ignore[misc]
    """The fused query, key and value layer with adapters for some of the three.

    The adapters' products are made by a grouped convolution and spread into a zeroed tensor as
    wide as all three, which then is scaled and added: three transients of the whole width.
    """

    def __init__(
        self,
        inputs: int,
        parts: tuple[int, int, int],
        bias: bool,
        storage: str | None,
        rank: int,
        dropout: float,
        enabled: tuple[bool, bool, bool],
    ) -> None:
        super().__init__()
        self.width = sum(parts)
        self.linear = linear(inputs, self.width, bias, storage)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.scaling = 2.0
        self.equal = parts[0] == parts[1]
        self.all = all(enabled)
        self.parts = [size for size, on in zip(parts, enabled, strict=True) if on]
        if self.parts:
            self.lora_a = nn.Parameter(torch.empty(rank * len(self.parts), inputs))
            self.lora_b = nn.Parameter(torch.empty(sum(self.parts), rank))
            self.register_buffer("index", torch.empty(sum(self.parts), dtype=torch.long))

    def forward(self, x: Any) -> Any:
        """Queries, keys and values side by side."""
        pretrained = self.linear(x)
        if not self.parts:
            return pretrained
        low = functional.linear(self.dropout(x), self.lora_a).transpose(-2, -1)
        made = self._convolved(low, self.lora_b.unsqueeze(-1)).transpose(-2, -1)
        return pretrained + self._spread(made) * self.scaling

    def _convolved(self, low: Any, weight: Any) -> Any:
        if self.equal:
            return functional.conv1d(low, weight, groups=len(self.parts))
        pairs = zip(low.chunk(len(self.parts), dim=1), weight.split(self.parts), strict=True)
        return torch.cat([functional.conv1d(a, b) for a, b in pairs], dim=1)

    def _spread(self, made: Any) -> Any:
        if self.all:
            return made
        whole = made.new_zeros(*made.shape[:-1], self.width)
        return whole.index_copy_(-1, self.index, made)
