"""Cross entropy that never has all logits at once: Liger's fused linear cross entropy.

Source: linkedin/Liger-Kernel, ops/fused_linear_cross_entropy.py (at 00eba63, 2026) and
transformers/model/llama.py. The gradients of hidden states and head are made in forward, in pieces:
the logits of a piece become their own gradient in place, in a buffer that the pieces share. The
gradients are kept until backward, which gives them on. Older releases add to the head's gradient
by way of temporaries of 6 B a weight; this one does so only in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import UsageError

_IGNORED = -100


def chunked_outputs(model: Any, inputs: dict[str, Any]) -> Any:
    """What Liger's patched forward returns: the loss and the cache, no logits.

    ``inputs``: input_ids and labels, (batch, sequence). The model below the head runs as it is, all
    positions are multiplied, the labels are shifted.

    Raises:
        UsageError: the model is no causal language model with a linear head.
    """
    from transformers.modeling_outputs import CausalLMOutputWithPast

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = getattr(base, "get_output_embeddings", lambda: None)()
    body = getattr(base, getattr(base, "base_model_prefix", None) or "model", None)
    if not isinstance(head, nn.Module) or body is None or body is base:
        raise UsageError(f"{type(base).__name__} has no language model head for --chunked-loss")
    labels = inputs["labels"]
    outputs = body(**{name: value for name, value in inputs.items() if name != "labels"})
    hidden = outputs[0]
    shifted = nn.functional.pad(labels, (0, 1), value=_IGNORED)[..., 1:].contiguous().view(-1)
    rows = hidden.view(-1, hidden.shape[-1])
    head = getattr(head, "base_layer", head)
    loss = _FusedLinearCrossEntropy.apply(
        rows,
        head.weight,
        shifted,
        getattr(head, "bias", None),
        hidden.shape[0] * piece_tokens(hidden.shape[1], *head.weight.shape),
    )
    return CausalLMOutputWithPast(loss=loss, past_key_values=outputs.get("past_key_values"))


def chunked_loss(model: Any, inputs: dict[str, Any]) -> Any:
    """The scalar loss alone."""
    return chunked_outputs(model, inputs).loss


def shifted_outputs(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """What causal language models gave in transformers 4.38: all logits fp32, shifted in a copy.

    LlamaForCausalLM.forward (models/llama/modeling_llama.py); since 4.46 logits keep their dtype
    and labels are shifted (loss/loss_utils.py).
    """
    given = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**given).logits.float()
    shifted = logits[..., :-1, :].contiguous()
    shifted = shifted.view(-1, shifted.shape[-1])
    labels = inputs["labels"][..., 1:].contiguous().view(-1)
    return {"loss": nn.functional.cross_entropy(shifted, labels), "logits": logits}


def outside_outputs(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the model gives without labels, and the loss of a loop that takes it of all positions.

    Raises:
        UsageError: the model gives no logits.
    """
    outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
    logits = outputs.get("logits") if isinstance(outputs, dict) else None
    if logits is None:
        raise UsageError(f"{type(model).__name__} gives no logits to take a loss of")
    loss = nn.functional.cross_entropy(logits.flatten(0, -2), inputs["labels"].flatten())
    return {**outputs, "loss": loss}


def piece_tokens(sequence: int, vocabulary: int, hidden: int) -> int:
    """Tokens of each sample in one piece.

    Liger's pieces have ``next_power_of_2(rows / ceil(vocabulary / hidden))`` rows: as many logits
    as ``rows x hidden``, up to twice that. Twice is taken, so that pieces grow evenly with the
    batch; it is too much by one hidden state at most.
    """
    return min(-(-2 * sequence // -(-vocabulary // hidden)), sequence)


class _FusedLinearCrossEntropy(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, rows: Any, weight: Any, labels: Any, bias: Any, size: int) -> Any:
        grad_rows = torch.zeros_like(rows)
        grad_weight = torch.zeros_like(weight) if weight.requires_grad else None
        grad_bias = torch.zeros_like(bias) if bias is not None else None
        losses = torch.zeros(rows.shape[0], dtype=torch.float32)
        counted = labels != _IGNORED
        counted.sum()
        buffer = _buffer(rows, weight, size)
        for start in range(0, rows.shape[0], size):
            piece = rows[start : start + size]
            target = grad_rows[start : start + size]
            if buffer is None:
                logits = piece @ weight.t()
                if bias is not None:
                    logits = logits + bias
                target.copy_(logits @ weight)
            else:
                logits = buffer[: piece.shape[0]]
                torch.mm(logits, weight, out=target)
            if grad_weight is not None:
                _make_product(logits.t(), piece)
            if grad_bias is not None:
                logits.sum(dim=0)
            del logits, piece
        del buffer
        ctx.save_for_backward(grad_rows, grad_weight, grad_bias)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, _grad: Any) -> Any:
        grad_rows, grad_weight, grad_bias = ctx.saved_tensors
        return grad_rows, grad_weight, None, grad_bias, None


def _buffer(rows: Any, weight: Any, size: int) -> Any:
    """One buffer of logits for all pieces, where nothing has to be cast (``_can_use_mm_out``)."""
    cast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    if cast or rows.dtype != weight.dtype:
        return None
    return torch.empty(min(size, rows.shape[0]), weight.shape[0], dtype=rows.dtype)


def _make_product(left: Any, right: Any) -> None:
    """The temporaries of adding ``left @ right`` to the head's gradient, on sm_80 and newer.

    16-bit logits are multiplied into the sum itself (addmm), with the input cast where it is wider;
    fp32 ones make a product first.
    """
    if left.dtype == torch.float32:
        torch.mm(left, right)
    elif right.dtype != left.dtype:
        right.to(left.dtype)
