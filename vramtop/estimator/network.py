"""The forward of each part of a model, written onto a ``Tape`` from its ``Shape``."""

from __future__ import annotations

from typing import Literal

from .shape import Shape
from .tape import Tape, Value, Weight

LayerKind = Literal["dense", "experts", "encoder", "decoder"]


def embedding(t: Tape, s: Shape) -> Value:
    """Token, position and type embeddings, or patches."""
    x = t.stream(s.hidden)
    if s.image is not None:
        patch = s.image.patch**2 * s.image.channels
        t.save(Value(patch, t.autocast or t.width))
        t.weights.append(_whole("patch_embeddings", s.hidden * patch))
        t.parameter("patch_embeddings.bias", s.hidden, "bias")
        t.parameter("cls_token", s.hidden, "embedding")
    else:
        width = s.embedding_width or s.hidden
        t.parameter("embed_tokens", round(s.vocabulary * width / t.tensor), "embedding")
        if s.embedding_width:
            x = t.linear(Value(width, t.width), "project_in", s.hidden, width)
    if s.positions:
        t.parameter("position_embeddings", s.positions * s.hidden, "embedding")
    if s.token_types:
        t.parameter("token_type_embeddings", s.token_types * s.hidden, "embedding")
    if s.position_buckets:
        # One table for the encoder, one for the decoder: in the first layer of each.
        t.parameter("relative_attention_bias", 2 * s.position_buckets * s.heads, "embedding")
    if s.embedding_norm:
        x = t.norm(x, s.norm, "embeddings.LayerNorm", s.hidden)
    return t.dropout(x, s.embedding_dropout)


def _whole(name: str, elements: int) -> Weight:
    return Weight(name, 1, elements, "embedding")


def layer(t: Tape, s: Shape, x: Value, kind: LayerKind) -> Value:
    """One of the repeated layers."""
    if kind == "decoder":
        x = _residual(t, s, x, _attention(t, s, _norm(t, s, x, "self"), keys=t.sequence))
        x = _residual(t, s, x, _attention(t, s, _norm(t, s, x, "cross"), cross=True))
        return _residual(t, s, x, _mlp(t, s, _norm(t, s, x, "mlp")))
    mix = _experts if kind == "experts" else _mlp
    if s.block == "pre":
        x = _residual(t, s, x, _attention(t, s, _norm(t, s, x, "attention")))
        return _residual(t, s, x, mix(t, s, _norm(t, s, x, "mlp")))
    if s.block == "post":
        x = _norm(t, s, _residual(t, s, x, _attention(t, s, x)), "attention")
        return _norm(t, s, _residual(t, s, x, mix(t, s, x)), "mlp")
    if s.block == "reordered":
        x = _residual(t, s, x, _norm(t, s, _attention(t, s, x), "attention"))
        return _residual(t, s, x, _norm(t, s, mix(t, s, x), "mlp"))
    if s.block == "sandwich":
        part = _attention(t, s, _norm(t, s, x, "attention"))
        x = _residual(t, s, x, _norm(t, s, part, "post_attention"))
        part = mix(t, s, _norm(t, s, x, "mlp"))
        return _residual(t, s, x, _norm(t, s, part, "post_mlp"))
    first = _norm(t, s, x, "attention")
    second = _norm(t, s, x, "mlp") if s.block == "parallel-2" else first
    side = _attention(t, s, first)
    return _residual(t, s, _residual(t, s, x, side), mix(t, s, second))


def _norm(t: Tape, s: Shape, x: Value, name: str) -> Value:
    return t.norm(x, s.norm, f"{name}_norm", s.hidden)


def _residual(t: Tape, s: Shape, x: Value, part: Value) -> Value:
    part = t.dropout(part, s.residual_dropout)
    return Value(s.hidden * t.outer, max(x.width, part.width))


def _attention(
    t: Tape, s: Shape, x: Value, *, cross: bool = False, keys: int | None = None
) -> Value:
    if s.latent is not None:
        return _latent_attention(t, s, x)
    n = s.names
    q_size, kv_size = s.heads * s.head_dim, s.kv_heads * s.head_dim
    local_q = q_size / t.tensor
    # Fewer heads of keys than GPUs: each GPU has a whole one.
    local_kv = max(kv_size / t.tensor, s.head_dim)
    if n.qkv:
        fused = t.linear(x, n.qkv, q_size + 2 * kv_size, s.hidden, bias=s.qkv_bias, split="rows")
        q = k = v = fused
        if s.qkv_copied:
            q, k, v = (Value(local_q, fused.width) for _ in range(3))
            local_kv = local_q
        elif s.model_type == "falcon":
            # Indexing with a list copies the single head of keys and of values.
            k, v = Value(local_kv, fused.width), Value(local_kv, fused.width)
        elif t.caches and s.auto_class == "AutoModelForCausalLM":
            k, v = Value(local_kv, fused.width), Value(local_kv, fused.width)
        if t.autocast not in (0, fused.width):
            # A quantised layer's, in the width of its input: autocast copies each view by itself.
            q, k, v = (Value(size, fused.width) for size in (local_q, local_kv, local_kv))
    else:
        source = Value(s.hidden, x.width) if cross else x
        q = t.linear(x, n.q, q_size, s.hidden, bias=s.qkv_bias, split="rows")
        k = t.linear(source, n.k, kv_size, s.hidden, bias=s.qkv_bias, split="rows")
        v = t.linear(source, n.v, kv_size, s.hidden, bias=s.qkv_bias, split="rows")
        k, v = Value(local_kv, k.width), Value(local_kv, v.width)
    if s.qk_norm:
        q_weights = q_size if s.qk_norm == "whole" else s.head_dim
        k_weights = kv_size if s.qk_norm == "whole" else s.head_dim
        q = t.norm(q, s.norm, "q_norm", q_weights)
        k = t.norm(k, s.norm, "k_norm", k_weights)
    if s.rope:
        # cos and sin have the dtype of the hidden states, so under autocast the products are fp32.
        q = Value(local_q, max(q.width, t.width))
        k = Value(local_kv, max(k.width, t.width))
    # transformers has no SDPA for scores with a softcap (Gemma 2) and falls back to eager.
    eager = t.attention == "eager" or (t.attention == "sdpa" and s.attention_softcap)
    math = s.broadcast_heads or t.lacks_kernel(s.kv_heads < s.heads, q)
    out = t.attend(
        q,
        k,
        v,
        heads=s.heads / t.tensor,
        out_size=local_q,
        repeated=(local_q, local_q),
        eager=eager or s.eager_only or math,
        softmax_fp32=s.softmax_fp32,
        unfused=math and not eager,
        copied=s.rope_concatenates,
        products_fp32=s.products_fp32,
        softcap=s.attention_softcap,
        dropout=s.attention_dropout,
        keys=keys,
    )
    return t.linear(out, n.o, s.hidden, q_size, bias=s.o_bias, split="columns")


def _latent_attention(t: Tape, s: Shape, x: Value) -> Value:
    latent = s.latent
    assert latent is not None
    q_size = s.heads * s.head_dim
    v_size = s.heads * latent.value
    local = s.heads / t.tensor
    if latent.q_rank:
        low = t.linear(x, "q_a_proj", latent.q_rank, s.hidden)
        low = t.norm(low, s.norm, "q_a_norm", latent.q_rank)
        t.linear(low, "q_b_proj", q_size, latent.q_rank, split="rows")
    else:
        t.linear(x, "q_proj", q_size, s.hidden, split="rows")
    t.linear(x, "kv_a_proj_with_mqa", latent.kv_rank + latent.rope, s.hidden)
    low = t.norm(Value(latent.kv_rank, t.width), s.norm, "kv_a_norm", latent.kv_rank)
    both = t.linear(
        low, "kv_b_proj", s.heads * (latent.nope + latent.value), latent.kv_rank, split="rows"
    )
    q, k = Value(local * s.head_dim, t.width), Value(local * s.head_dim, t.width)
    math = t.lacks_kernel(False, q)
    out = t.attend(
        q,
        k,
        both,
        heads=local,
        out_size=local * latent.value,
        repeated=(local * s.head_dim, local * latent.value),
        eager=t.attention == "eager" or math,
        softmax_fp32=True,
        unfused=math,
        copied=True,
    )
    return t.linear(out, "o_proj", s.hidden, v_size, split="columns")


def _mlp(t: Tape, s: Shape, x: Value) -> Value:
    return _feed_forward(t, s, x, s.ffn)


def _feed_forward(t: Tape, s: Shape, x: Value, ffn: int) -> Value:
    n = s.names
    if s.gated and n.gate_up:
        both = t.linear(x, n.gate_up, 2 * ffn, s.hidden, bias=s.mlp_bias, split="rows")
        # Chunks of one tensor: the product keeps all of it.
        active = t.activation(both, s.activation)
        part = t.product(Value(both.size / 2, active.width), both)
        inner = Value(both.size / 2, part.width)
    elif s.gated:
        gate = t.linear(x, n.gate, ffn, s.hidden, bias=s.mlp_bias, split="rows")
        up_name = "wi_1" if n.gate == "wi_0" else n.up
        up = t.linear(x, up_name, ffn, s.hidden, bias=s.mlp_bias, split="rows")
        inner = t.product(t.activation(gate, s.activation), up)
    else:
        up = t.linear(x, n.up, ffn, s.hidden, bias=s.mlp_bias, split="rows")
        inner = t.activation(up, s.activation)
    inner = t.dropout(inner, s.mlp_dropout)
    return t.linear(inner, n.down, s.hidden, ffn, bias=s.mlp_bias, split="columns")


def _experts(t: Tape, s: Shape, x: Value) -> Value:
    """Tokens gathered by expert; each is there as many times as experts see it."""
    e = s.experts
    assert e is not None
    here = e.count // t.expert
    routes = t.linear(x, "gate", e.count, s.hidden)
    t.save(Value(routes.size, 4))
    gathered = Value(s.hidden * e.per_token, x.width)
    ffn = e.ffn
    both = t.linear(
        gathered,
        "gate_up_proj",
        2 * ffn,
        s.hidden,
        split="rows",
        kind="expert",
        copies=here,
        output_size=2 * ffn * e.per_token / t.tensor,
    )
    active = t.activation(both, s.activation)
    t.product(Value(both.size / 2, active.width), both)
    out = t.linear(
        Value(both.size / 2, both.width),
        "down_proj",
        s.hidden,
        ffn,
        split="columns",
        kind="expert",
        copies=here,
        output_size=s.hidden * e.per_token,
    )
    t.save(out)  # multiplied with the router's weights
    if e.shared_ffn:
        _feed_forward(t, s, x, e.shared_ffn)
    return Value(s.hidden * t.outer, x.width)


def head(t: Tape, s: Shape, x: Value) -> None:
    """Final norm and what makes the logits (their own bytes are the component ``logits``)."""
    if s.final_norm:
        x = _norm(t, s, x, "final")
    if s.encoder_layers:
        _norm(t, s, t.stream(s.hidden), "encoder_final")
    if s.embedding_width:
        x = t.linear(x, "project_out", s.embedding_width, s.hidden)
    if s.head_transform:
        x = t.linear(x, "transform", s.hidden, s.hidden, bias=True, kind="head")
        x = t.activation(x, "gelu")
        x = t.norm(x, "layer", "transform_norm", s.hidden)
    if s.image is not None or "SequenceClassification" in s.auto_class:
        _classifier(t, s)
        return
    rows = s.vocabulary
    width = s.embedding_width or s.hidden
    if s.tied:
        given = t.cast(x, t.autocast) if t.autocast else x
        if not t.frozen:
            t.save(given)
        if t.autocast:
            t.cast_elements += rows * width / t.tensor
    else:
        t.linear(x, "lm_head", rows, width, kind="head", split="rows", output_size=0)
    if s.head_bias:
        t.parameter("lm_head.bias", rows, "bias")


def _classifier(t: Tape, s: Shape) -> None:
    if s.pooler:
        t.weights.append(_whole("pooler", s.hidden * s.hidden))
        t.parameter("pooler.bias", s.hidden, "bias")
    t.weights.append(_whole("classifier", s.labels * s.hidden))
    if s.pooler or s.image is not None:
        t.parameter("classifier.bias", s.labels, "bias")


def layer_kinds(s: Shape) -> tuple[tuple[LayerKind, int], ...]:
    """Kinds of layers and how many there are of each, in order."""
    if s.encoder_layers:
        return (("encoder", s.encoder_layers), ("decoder", s.layers))
    if s.experts is None:
        return (("dense", s.layers),)
    dense = min(s.experts.dense_layers, s.layers)
    kinds: tuple[tuple[LayerKind, int], ...] = (("dense", dense), ("experts", s.layers - dense))
    return tuple(kind for kind in kinds if kind[1])
