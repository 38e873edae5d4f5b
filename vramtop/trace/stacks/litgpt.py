"""LitGPT: its model and its fine-tuning loop, as they use memory.

Sources: litgpt/model.py, lora.py, finetune/lora.py, finetune/full.py, utils.py (0.3) and
lightning/fabric/wrappers.py. What differs from transformers:

- queries, keys and values are one product, and attention's values stay a view of it;
- the rotation is made in fp32 and keeps nothing; RMSNorm keeps its input in fp32;
- embedding and head are two tensors, also where the checkpoint ties them;
- bitsandbytes replaces every linear layer, the head too, and keeps inputs (``litgpt_linear``);
- Fabric makes the logits fp32 when they leave the model; fine-tuning with LoRA makes logits and
  loss in pieces of 128 tokens, but all pieces live until the end of backward;
- the loop's ``logits`` and ``loss`` live until the next batch's are there; with bitsandbytes'
  layers the old loss holds all their inputs. The stack "lit-gpt" is the repository of 2023, whose
  scripts take the longest sample first: there is no batch of that length before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from ...errors import UsageError
from ...estimator.workload import Workload
from .litgpt_linear import LoraLinear, LoraQkvLinear, kept_inputs, linear
from .litgpt_shape import LitShape, lit_shape

HEAD_CHUNK: Final = 128
"""Tokens of one piece of logits in finetune/lora.py, and of the loss in utils.py."""
_DEFAULT_TARGETS: Final = ("query", "value")
_PARTS: Final = ("query", "key", "value")
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_STORAGES: Final = {"nf4": "nf4", "int4": "nf4"}

Step = Callable[[Any, int, int], Any]


def build(
    workload: Workload, layers: int | None = None, *, double_quantized: bool = False
) -> tuple[Any, Step]:
    """The model on the meta device, and the step of its training or inference.

    ``layers``: build so many of them only. Targets of LoRA are LitGPT's: query, key, value,
    projection, mlp, head; none: query and value. ``double_quantized``: Fabric's nf4-dq.

    Raises:
        UsageError: an architecture or a precision that LitGPT does not have.
    """
    shape = _of_one_rank(workload)
    storage = _storage(workload, double_quantized)
    default = torch.get_default_dtype()
    torch.set_default_dtype(_DTYPES[workload.weight_dtype])
    try:
        with torch.device("meta"):
            module = Gpt(shape, workload, storage, shape.layers if layers is None else layers)
    finally:
        torch.set_default_dtype(default)
    if workload.lora is not None:
        for name, parameter in module.named_parameters():
            parameter.requires_grad = "lora_" in name
    module.train(workload.training)
    if not workload.training:
        return module, _infer_with(workload)
    return module, _train_adapters if workload.lora is not None else _train_all


def _of_one_rank(workload: Workload) -> LitShape:
    """The part of the fullest device.

    generate/tp.py divides attention and MLP, sequentially.py layers; embedding and head are on
    every device of the former and on the first of the latter.
    """
    shape = lit_shape(workload.model.config or {})
    ways, stages = workload.parallel.tensor, workload.parallel.pipeline
    return replace(
        shape,
        layers=-(-shape.layers // stages),
        heads=shape.heads // ways,
        groups=max(shape.groups // ways, 1),
        ffn=shape.ffn // ways,
    )


def depth(workload: Workload) -> int:
    """Number of the model's layers."""
    return _of_one_rank(workload).layers


def period(workload: Workload) -> int:
    """Layers after which the pattern of layers repeats: Gemma 2 makes a mask in every other."""
    return 2 if lit_shape(workload.model.config or {}).sliding else 1


def _storage(workload: Workload, double_quantized: bool) -> str | None:
    if workload.precision in ("fp8", "int8"):
        raise UsageError(f"--stack litgpt has no {workload.precision} here; nf4 is there")
    storage = _STORAGES.get(workload.precision)
    return "nf4-dq" if storage and double_quantized else storage


def _train_adapters(module: Any, batch: int, sequence: int) -> Any:
    """finetune/lora.py: forward and loss of one micro-batch, in pieces."""
    tokens, targets = _batch(batch, sequence)
    before = module.begin()
    logits = module(tokens, HEAD_CHUNK)
    logits = [piece.float() for piece in logits]
    module.held = logits
    logits[-1] = logits[-1][..., :-1, :]
    targets = targets[..., 1:]
    loss = _loss(logits, targets.split(logits[0].size(1), dim=1), targets)
    del before
    return loss


def _train_all(module: Any, batch: int, sequence: int) -> Any:
    """finetune/full.py: logits in one, the loss in pieces.

    A piece is 128 tokens of the flattened batch; here of every sample, so that there are as many
    for any batch. Their sum is the same.
    """
    tokens, targets = _batch(batch, sequence)
    before = module.begin()
    logits = module(tokens)
    logits = logits.float()
    module.held = logits
    flat = logits[..., :-1, :].reshape(-1, logits.size(-1))
    wanted = targets[..., 1:].reshape(-1)
    loss = _loss(flat.split(HEAD_CHUNK * batch), wanted.split(HEAD_CHUNK * batch), wanted)
    del before
    return loss


def _loss(logits: Any, targets: Any, all_targets: Any) -> Any:
    losses = [
        functional.cross_entropy(a.reshape(-1, a.size(-1)), b.reshape(-1), reduction="none")
        for a, b in zip(logits, targets, strict=True)
    ]
    counted = (all_targets != -1).sum()
    return torch.cat(losses).sum() / counted.maximum(torch.ones_like(counted))


def _batch(batch: int, sequence: int) -> tuple[Any, Any]:
    return (
        torch.zeros(batch, sequence, dtype=torch.long),
        torch.zeros(batch, sequence, dtype=torch.long),
    )


def _infer_with(workload: Workload) -> Step:
    def infer(module: Any, batch: int, sequence: int) -> Any:
        """generate/base.py: the prompt, then one token with a cache as long as all of them."""
        module.make_cache(batch, sequence + workload.new_tokens)
        logits = module(torch.zeros(batch, sequence, dtype=torch.long)).float()
        for _ in range(min(workload.new_tokens, 2)):
            _ = functional.softmax(logits[:, -1] / 0.8, dim=-1)
            logits = module(torch.zeros(batch, 1, dtype=torch.long)).float()
        return logits

    return infer


class Gpt(nn.Module):  # type: ignore[misc]
    """LitGPT's model; ``forward`` gives logits, in pieces if a piece's tokens are given."""

    def __init__(self, shape: LitShape, workload: Workload, storage: str | None, depth: int):
        super().__init__()
        self.shape = shape
        targets = () if workload.lora is None else workload.lora.targets or _DEFAULT_TARGETS
        make = _Maker(workload, storage, targets)
        self.lm_head = make("head", shape.hidden, shape.vocabulary, shape.head_bias)
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(shape.vocabulary, shape.hidden),
                "h": nn.ModuleList(_Block(shape, make, i) for i in range(depth)),
                "ln_f": make.norm(shape),
            }
        )
        length = workload.sequence + workload.new_tokens
        for name in ("cos", "sin"):
            table = torch.empty(length, shape.rotary, dtype=torch.float32)
            self.register_buffer(name, table, persistent=False)
        self.checkpointed = False
        self.longest_first = workload.stack == "lit-gpt"
        self.held: Any = None
        """The logits of the last batch, which the loop's variable keeps alive."""
        self.cached = False
        self.sequential = workload.parallel.pipeline > 1

    def begin(self) -> Any:
        """A batch begins; what is returned is what the loss before it holds."""
        kept = kept_inputs(self)
        if self.longest_first:
            self.held = None
            kept.clear()
        return kept

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Any = None) -> None:
        """Recompute every block in backward, as Fabric's activation_checkpointing_policy does."""
        del gradient_checkpointing_kwargs
        self.checkpointed = True

    def make_cache(self, batch: int, length: int) -> None:
        """Keys and values of all heads, or of one where there is but one.

        In fp32 by generate/sequentially.py, until a layer first runs (model.py, KVCache.forward).
        """
        dtype = torch.float32 if self.sequential else self.transformer["wte"].weight.dtype
        for block in self.transformer["h"]:
            block(None, None, None, None, cache=(batch, length, dtype))
        self.register_buffer(
            "mask", torch.ones(1, 1, length, length, dtype=torch.bool), persistent=False
        )
        self.cached = True

    def forward(self, tokens: Any, chunk: int = 0) -> Any:
        """Logits of shape (batch, sequence, vocabulary), or a list of pieces of them."""
        length = tokens.size(1)
        cos, sin = self.cos[:length], self.sin[:length]
        mask = self.mask[:, :, :length].clone() if self.cached else None
        x = self.transformer["wte"](tokens)
        if self.shape.scale_embeddings:
            x = x * math.sqrt(self.shape.hidden)
        for block in self.transformer["h"]:
            if self.checkpointed:
                x = torch.utils.checkpoint.checkpoint(block, x, cos, sin, mask, use_reentrant=False)
            else:
                x = block(x, cos, sin, mask)
        x = self.transformer["ln_f"](x)
        if chunk:
            return [self.lm_head(piece) for piece in x.split(chunk, dim=1)]
        x = self.lm_head(x)
        cap = self.shape.logit_cap
        return x if cap is None else torch.tanh(x / cap) * cap


class _Maker:
    """Makes the linear layers of a workload: plain, quantised, with adapters where wanted."""

    def __init__(self, workload: Workload, storage: str | None, targets: tuple[str, ...]) -> None:
        self.storage = storage
        self.targets = targets
        self.lora = workload.lora
        self.wide_norms = workload.stack == "lit-gpt"

    def norm(self, shape: LitShape) -> Any:
        """A norm over the hidden size."""
        if shape.rms_norm:
            return _RmsNorm(shape, self.wide_norms)
        return nn.LayerNorm(shape.hidden)

    def __call__(self, target: str, inputs: int, outputs: int, bias: bool) -> Any:
        if self.lora is None:
            return linear(inputs, outputs, bias, self.storage)
        rank = self.lora.rank if target in self.targets else 0
        return LoraLinear(inputs, outputs, bias, self.storage, rank, self.lora.dropout)

    def qkv(self, shape: LitShape) -> Any:
        """The fused layer before attention."""
        wide, narrow = shape.heads * shape.head, shape.groups * shape.head
        if self.lora is None:
            return linear(shape.hidden, wide + 2 * narrow, shape.bias, self.storage)
        q, k, v = (part in self.targets for part in _PARTS)
        return LoraQkvLinear(
            shape.hidden,
            (wide, narrow, narrow),
            shape.bias,
            self.storage,
            self.lora.rank,
            self.lora.dropout,
            (q, k, v),
        )


class _RmsNorm(nn.Module):  # type: ignore[misc]
    """Normalises in fp32; litgpt 0.3 then scales in the model's dtype, lit-gpt in fp32."""

    def __init__(self, shape: LitShape, wide: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape.hidden))
        self.unit_offset = shape.unit_offset
        self.wide = wide

    def forward(self, x: Any) -> Any:
        dtype = x.dtype
        x = x.float()
        normed = x * torch.rsqrt(torch.mean(x * x, dim=-1, keepdim=True) + 1e-5)
        weight = 1 + self.weight if self.unit_offset else self.weight
        return (normed * weight.float()).to(dtype) if self.wide else normed.to(dtype) * weight


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: LitShape, make: _Maker, index: int) -> None:
        super().__init__()
        self.parallel = shape.parallel
        self.norm_1 = make.norm(shape)
        self.attn = _Attention(shape, make, index)
        self.norm_2: Any = None if shape.one_norm else make.norm(shape)
        self.mlp = _Mlp(shape, make)
        self.post_attention_norm = make.norm(shape) if shape.post_norms else nn.Identity()
        self.post_mlp_norm = make.norm(shape) if shape.post_norms else nn.Identity()

    def forward(self, x: Any, cos: Any, sin: Any, mask: Any, cache: Any = None) -> Any:
        """The hidden states; with (batch, length, dtype) of a cache only that is made."""
        if cache is not None:
            return self.attn.make_cache(*cache)
        normed = self.norm_1(x)
        attended = self.post_attention_norm(self.attn(normed, cos, sin, mask))
        if self.parallel:
            if self.norm_2 is not None:
                normed = self.norm_2(x)
            return self.mlp(normed) + attended + x
        x = attended + x
        return self.post_mlp_norm(self.mlp(self.norm_2(x))) + x


class _Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: LitShape, make: _Maker, index: int) -> None:
        super().__init__()
        self.shape = shape
        self.attn = make.qkv(shape)
        self.proj = make("projection", shape.heads * shape.head, shape.hidden, shape.bias)
        self.sliding = shape.sliding and index % 2 == 0
        self.cache: Any = None

    def make_cache(self, batch: int, length: int, dtype: Any) -> None:
        heads = 1 if self.shape.groups == 1 else self.shape.heads
        size = (batch, heads, length, self.shape.head)
        self.cache = [torch.zeros(size, dtype=dtype) for _ in range(2)]

    def forward(self, x: Any, cos: Any, sin: Any, mask: Any) -> Any:
        shape = self.shape
        batch, length, _ = x.size()
        each = shape.heads // shape.groups
        qkv = self.attn(x).view(batch, length, shape.groups, each + 2, shape.head)
        q, k, v = qkv.permute(0, 2, 3, 1, 4).split((each, 1, 1), dim=2)
        if shape.groups != shape.heads and (self.cache is None or shape.groups != 1):
            wide = (batch, shape.groups, each, length, shape.head)
            k, v = k.expand(wide), v.expand(wide)
        q = q.reshape(batch, -1, length, shape.head)
        k = k.reshape(batch, -1, length, shape.head)
        v = v.reshape(batch, -1, length, shape.head)
        q_turned = _rotate(q[..., : shape.rotary], cos, sin)
        k_turned = _rotate(k[..., : shape.rotary], cos, sin)
        q = torch.cat((q_turned, q[..., shape.rotary :]), dim=-1)
        k = torch.cat((k_turned, k[..., shape.rotary :]), dim=-1)
        if self.cache is not None:
            k, v = self.cache = [part.to(k.dtype) for part in self.cache]
        y = self._attend(q, k, v, mask).transpose(1, 2)
        return self.proj(y.reshape(batch, length, shape.heads * shape.head))

    def _attend(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        cap = self.shape.score_cap
        if self.sliding and mask is None:
            mask = torch.ones(q.size(2), q.size(2), dtype=q.dtype).triu(diagonal=1)
            mask.masked_fill_(mask.bool(), float("-inf"))
            mask += torch.ones_like(mask).tril(diagonal=-q.size(2))
        if cap is None:
            return functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None
            )
        scores = q @ k.mT * (1 / math.sqrt(self.shape.head))
        scores = torch.tanh(scores / cap) * cap
        if mask is None:
            mask = torch.ones(q.size(2), q.size(2), dtype=q.dtype).triu(diagonal=1)
            mask.masked_fill_(mask.bool(), torch.finfo(q.dtype).min)
        scores = scores + mask
        return functional.softmax(scores, dim=-1, dtype=torch.float).to(q.dtype) @ v


def _rotate(x: Any, cos: Any, sin: Any) -> Any:
    """In fp32, as the tables are."""
    half = x.size(-1) // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return ((x * cos) + (turned * sin)).to(x.dtype)


class _Mlp(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: LitShape, make: _Maker) -> None:
        super().__init__()
        self.kind = shape.mlp
        self.approximate = "tanh" if shape.tanh_gelu else "none"
        self.fc_1 = make("mlp", shape.hidden, shape.ffn, shape.bias)
        if shape.mlp != "plain":
            self.fc_2 = make("mlp", shape.hidden, shape.ffn, shape.bias)
        self.proj = make("mlp", shape.ffn, shape.hidden, shape.bias)

    def forward(self, x: Any) -> Any:
        first = self.fc_1(x)
        if self.kind == "plain":
            return self.proj(functional.gelu(first, approximate=self.approximate))
        second = self.fc_2(x)
        if self.kind == "swiglu":
            return self.proj(functional.silu(first) * second)
        return self.proj(functional.gelu(first, approximate=self.approximate) * second)
