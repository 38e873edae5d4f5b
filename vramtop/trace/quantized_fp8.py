"""Training in fp8 as torchao's ``Float8Linear`` does it: weights stay, products take fp8 copies.

Source: torchao/float8/float8_linear.py (``manual_float8_matmul_with_args_in_hp``), dynamic
tensor-wise scaling. Its casts are one kernel each under torch.compile, as torchao and torchtitan
run them; in eager mode each makes fp32 temporaries besides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Float8Linear(nn.Linear):  # type: ignore[misc]
    """A linear layer that multiplies in fp8; weight (outer, inner) in the compute dtype."""

    trains = True

    def __init__(self, inner: int, outer: int, compute_dtype: Any) -> None:
        super().__init__(inner, outer, bias=False, device="meta", dtype=compute_dtype)

    def forward(self, x: Any) -> Any:
        """The product, in the input's dtype; the bias is added apart."""
        product = _Product.apply(x, self.weight.t())
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):  # type: ignore[misc]
    """Keeps its arguments as they came; casts them in forward and again in backward."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any) -> Any:
        ctx.save_for_backward(x, weight)
        rows = _cast(x).reshape(-1, x.shape[-1])
        return _multiply(rows, _cast(weight), x.dtype).reshape(*x.shape[:-1], weight.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        by_row = _cast(rows)
        grad_x = _multiply(by_row, _cast(weight).t(), x.dtype).reshape(x.shape)
        by_column = _cast(rows)
        inputs = _cast(x.reshape(-1, x.shape[-1]))
        return grad_x, _multiply(by_column.t(), inputs, weight.dtype).t()


def _cast(tensor: Any) -> Any:
    """A copy of one byte an element, and its scale."""
    torch.empty((), dtype=torch.float32)
    return torch.empty(tensor.shape, dtype=torch.float8_e4m3fn)


def _multiply(left: Any, right: Any, dtype: Any) -> Any:
    """What ``torch._scaled_mm`` gives, (rows of left, columns of right)."""
    return torch.empty(left.shape[0], right.shape[1], dtype=dtype)
