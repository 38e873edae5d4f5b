"""Shapes of the decoders with layer norms and ungated MLPs: GPT's descendants, Falcon, OPT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from .llama_families import llama
from .shape import Config, Family, Names, Shape


def _gpt2(c: Config) -> Shape:
    names = Names(qkv="c_attn", o="c_proj", up="c_fc", down="c_proj", default_targets=("c_attn",))
    hidden, heads = int(c["n_embd"]), int(c["n_head"])
    return Shape(
        model_type="",
        auto_class="",
        hidden=hidden,
        layers=int(c["n_layer"]),
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        ffn=int(c.get("n_inner") or 4 * hidden),
        vocabulary=int(c["vocab_size"]),
        names=names,
        norm="layer",
        gated=False,
        activation="gelu_new",
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        rope=False,
        softmax_fp32=False,
        positions=int(c.get("n_positions", 1024)),
        max_sequence=int(c.get("n_positions", 1024)),
        tied=bool(c.get("tie_word_embeddings", True)),
        embedding_dropout=float(c.get("embd_pdrop", 0.1)),
        residual_dropout=float(c.get("resid_pdrop", 0.1)),
        attention_dropout=float(c.get("attn_pdrop", 0.1)),
    )


def _gptj(c: Config) -> Shape:
    base = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, **c}
    return replace(
        _gpt2(base),
        names=Names(o="out_proj", up="fc_in", down="fc_out"),
        block="parallel",
        qkv_bias=False,
        o_bias=False,
        rope=True,
        softmax_fp32=True,
        products_fp32=True,
        positions=0,
        tied=bool(c.get("tie_word_embeddings", False)),
        head_bias=True,
        eager_only=True,
    )


def _gpt_neo(c: Config) -> Shape:
    hidden, heads = int(c["hidden_size"]), int(c["num_heads"])
    return Shape(
        model_type="",
        auto_class="",
        hidden=hidden,
        layers=int(c["num_layers"]),
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        ffn=int(c.get("intermediate_size") or 4 * hidden),
        vocabulary=int(c["vocab_size"]),
        names=Names(o="out_proj", up="c_fc", down="c_proj"),
        norm="layer",
        gated=False,
        activation="gelu_new",
        o_bias=True,
        mlp_bias=True,
        rope=False,
        products_fp32=True,
        positions=int(c.get("max_position_embeddings", 2048)),
        max_sequence=int(c.get("max_position_embeddings", 2048)),
        tied=bool(c.get("tie_word_embeddings", True)),
        embedding_dropout=float(c.get("embed_dropout", 0.0)),
        residual_dropout=float(c.get("resid_dropout", 0.0)),
        attention_dropout=float(c.get("attention_dropout", 0.0)),
        eager_only=True,
    )


def _gpt_neox(c: Config) -> Shape:
    names = Names(
        qkv="query_key_value",
        o="dense",
        up="dense_h_to_4h",
        down="dense_4h_to_h",
        default_targets=("query_key_value",),
    )
    bias = bool(c.get("attention_bias", True))
    return replace(
        llama(c),
        names=names,
        norm="layer",
        block="parallel-2" if c.get("use_parallel_residual", True) else "pre",
        gated=False,
        activation="gelu",
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=True,
        rope_concatenates=True,
        residual_dropout=float(c.get("hidden_dropout", 0.0)),
        embedding_dropout=float(c.get("hidden_dropout", 0.0)),
    )


def _falcon(c: Config) -> Shape:
    hidden, heads = int(c["hidden_size"]), int(c["num_attention_heads"])
    new = bool(c.get("new_decoder_architecture", False))
    kv_heads = int(c.get("num_kv_heads") or heads) if new else heads
    if not new and c.get("multi_query", True):
        kv_heads = 1
    parallel = new or bool(c.get("parallel_attn", True))
    bias = bool(c.get("bias", False))
    names = Names(
        qkv="query_key_value",
        o="dense",
        up="dense_h_to_4h",
        down="dense_4h_to_h",
        default_targets=("query_key_value",),
    )
    return Shape(
        model_type="",
        auto_class="",
        hidden=hidden,
        layers=int(c["num_hidden_layers"]),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=hidden // heads,
        ffn=int(c.get("ffn_hidden_size") or 4 * hidden),
        vocabulary=int(c["vocab_size"]),
        names=names,
        norm="layer",
        block="parallel-2" if new else "parallel" if parallel else "pre",
        gated=False,
        activation="gelu",
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        rope=not c.get("alibi", False),
        softmax_fp32=False,
        qkv_copied=new,
        broadcast_heads=kv_heads < heads and not new,
        tied=bool(c.get("tie_word_embeddings", True)),
        max_sequence=int(c.get("max_position_embeddings", 2048)),
        residual_dropout=float(c.get("hidden_dropout", 0.0)),
        attention_dropout=float(c.get("attention_dropout", 0.0)),
    )


def _opt(c: Config) -> Shape:
    hidden = int(c["hidden_size"])
    before = bool(c.get("do_layer_norm_before", True))
    bias = bool(c.get("enable_bias", True))
    width = int(c.get("word_embed_proj_dim") or hidden)
    return replace(
        llama({**c, "intermediate_size": c["ffn_dim"]}),
        names=Names(o="out_proj", up="fc1", down="fc2"),
        norm="layer",
        block="pre" if before else "post",
        gated=False,
        activation="relu",
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        rope=False,
        positions=int(c.get("max_position_embeddings", 2048)) + 2,
        embedding_width=width if width != hidden else 0,
        final_norm=before,
        tied=bool(c.get("tie_word_embeddings", True)),
        residual_dropout=float(c.get("dropout", 0.1)),
    )


FAMILIES: Final[Mapping[str, Family]] = {
    "falcon": _falcon,
    "gpt2": _gpt2,
    "gpt_neo": _gpt_neo,
    "gpt_neox": _gpt_neox,
    "gptj": _gptj,
    "opt": _opt,
}
"""By ``model_type``."""
