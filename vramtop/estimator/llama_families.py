"""Shapes of Llama and its kind: RMS norms, rotary positions, gated MLPs, and what varies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from .shape import Config, Experts, Family, Latent, Names, Shape


def llama(c: Config) -> Shape:
    """Llama's own; others of its kind, and some that are not, start from it."""
    hidden, heads = int(c["hidden_size"]), int(c["num_attention_heads"])
    bias = bool(c.get("attention_bias", False))
    return Shape(
        model_type="",
        auto_class="",
        hidden=hidden,
        layers=int(c["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(c.get("num_key_value_heads") or heads),
        head_dim=int(c.get("head_dim") or hidden // heads),
        ffn=int(c["intermediate_size"]),
        vocabulary=int(c["vocab_size"]),
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bool(c.get("mlp_bias", False)),
        tied=bool(c.get("tie_word_embeddings", False)),
        max_sequence=int(c.get("max_position_embeddings", 0)),
        attention_dropout=float(c.get("attention_dropout", 0.0)),
    )


def _mistral(c: Config) -> Shape:
    shape = llama(c)
    window = int(c.get("sliding_window") or 0)
    return replace(shape, window=window, sliding_layers=shape.layers if window else 0)


def _mixtral(c: Config) -> Shape:
    shape = _mistral(c)
    experts = Experts(
        int(c.get("num_local_experts", 8)), int(c.get("num_experts_per_tok", 2)), shape.ffn
    )
    return replace(shape, experts=experts)


def _qwen2(c: Config) -> Shape:
    return replace(llama(c), qkv_bias=True, o_bias=False)


def _qwen3(c: Config) -> Shape:
    return replace(llama(c), qk_norm="head")


def _qwen3_moe(c: Config) -> Shape:
    experts = Experts(
        int(c["num_experts"]), int(c["num_experts_per_tok"]), int(c["moe_intermediate_size"])
    )
    return replace(_qwen3(c), experts=experts)


def _gemma(c: Config) -> Shape:
    return replace(
        llama(c),
        head_dim=int(c.get("head_dim", 256)),
        norm="gemma",
        activation="gelu_tanh",
        tied=bool(c.get("tie_word_embeddings", True)),
        scaled_embedding=True,
    )


def _gemma2(c: Config) -> Shape:
    shape = _gemma(c)
    return replace(
        shape,
        block="sandwich",
        attention_softcap=c.get("attn_logit_softcapping", 50.0) is not None,
        logit_softcap=c.get("final_logit_softcapping", 30.0) is not None,
        window=int(c.get("sliding_window") or 4096),
        sliding_layers=(shape.layers + 1) // 2,
    )


def _gemma3(c: Config) -> Shape:
    shape = _gemma(c)
    every = int(c.get("sliding_window_pattern", 6))
    return replace(
        shape,
        block="sandwich",
        qk_norm="head",
        window=int(c.get("sliding_window") or 4096),
        sliding_layers=shape.layers - shape.layers // every,
    )


def _phi3(c: Config) -> Shape:
    names = Names(qkv="qkv_proj", gate_up="gate_up_proj", default_targets=("qkv_proj",))
    return replace(
        _mistral(c),
        names=names,
        rope_concatenates=True,
        residual_dropout=float(c.get("resid_pdrop", 0.0)),
    )


def _smollm3(c: Config) -> Shape:
    return llama(c)


def _stablelm(c: Config) -> Shape:
    parallel = bool(c.get("use_parallel_residual", False))
    return replace(
        llama(c),
        norm="layer",
        block="parallel" if parallel else "pre",
        qkv_bias=bool(c.get("use_qkv_bias", False)),
        o_bias=False,
        qk_norm="head" if c.get("qk_layernorm", False) else "",
        rope_concatenates=True,
    )


def _olmo2(c: Config) -> Shape:
    return replace(llama(c), norm="gemma", block="reordered", qk_norm="whole")


def _deepseek_v3(c: Config) -> Shape:
    shape = llama(c)
    latent = Latent(
        int(c.get("q_lora_rank") or 0),
        int(c["kv_lora_rank"]),
        int(c["qk_nope_head_dim"]),
        int(c["qk_rope_head_dim"]),
        int(c["v_head_dim"]),
    )
    moe = int(c["moe_intermediate_size"])
    experts = Experts(
        int(c["n_routed_experts"]),
        int(c["num_experts_per_tok"]),
        moe,
        moe * int(c.get("n_shared_experts", 1)),
        int(c.get("first_k_dense_replace", 3)),
    )
    return replace(shape, latent=latent, experts=experts, head_dim=latent.nope + latent.rope)


def _phi(c: Config) -> Shape:
    names = Names(
        o="dense", up="fc1", down="fc2", default_targets=("q_proj", "v_proj", "fc1", "fc2")
    )
    return replace(
        llama(c),
        names=names,
        norm="layer",
        block="parallel",
        gated=False,
        activation="gelu_new",
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        head_bias=True,
        rope_concatenates=True,
        residual_dropout=float(c.get("resid_pdrop", 0.0)),
        embedding_dropout=float(c.get("embd_pdrop", 0.0)),
    )


FAMILIES: Final[Mapping[str, Family]] = {
    "deepseek_v3": _deepseek_v3,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "llama": llama,
    "mistral": _mistral,
    "mixtral": _mixtral,
    "olmo2": _olmo2,
    "phi": _phi,
    "phi3": _phi3,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "smollm3": _smollm3,
    "stablelm": _stablelm,
}
"""By ``model_type``."""
