"""Shapes of the models with an encoder: BERT, RoBERTa, ViT, and T5's encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from .llama_families import llama
from .shape import Config, Family, Image, Names, Shape


def _bert(c: Config) -> Shape:
    dropout = float(c.get("hidden_dropout_prob", 0.1))
    names = Names("query", "key", "value", o="dense", up="dense", down="dense")
    return replace(
        llama(c),
        names=replace(names, default_targets=("query", "value")),
        norm="layer",
        block="post",
        gated=False,
        activation="gelu",
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        rope=False,
        softmax_fp32=False,
        positions=int(c.get("max_position_embeddings", 512)),
        token_types=int(c.get("type_vocab_size", 2)),
        embedding_norm=True,
        final_norm=False,
        tied=bool(c.get("tie_word_embeddings", True)),
        head_bias=True,
        head_transform=True,
        embedding_dropout=dropout,
        residual_dropout=dropout,
        attention_dropout=float(c.get("attention_probs_dropout_prob", 0.1)),
    )


def _vit(c: Config) -> Shape:
    image = Image(
        int(c.get("image_size", 224)), int(c.get("patch_size", 16)), int(c.get("num_channels", 3))
    )
    return replace(
        _bert({**c, "vocab_size": 0, "max_position_embeddings": 0}),
        block="pre",
        softmax_fp32=True,
        qkv_bias=bool(c.get("qkv_bias", True)),
        positions=image.tokens,
        max_sequence=0,
        token_types=0,
        embedding_norm=False,
        final_norm=True,
        tied=False,
        head_transform=False,
        image=image,
        embedding_dropout=float(c.get("hidden_dropout_prob", 0.0)),
        residual_dropout=float(c.get("hidden_dropout_prob", 0.0)),
        attention_dropout=float(c.get("attention_probs_dropout_prob", 0.0)),
    )


def _t5(c: Config) -> Shape:
    dropout = float(c.get("dropout_rate", 0.1))
    layers = int(c["num_layers"])
    projection = str(c.get("feed_forward_proj", "relu"))
    names = Names("q", "k", "v", o="o", gate="wi_0", up="wi", down="wo")
    return Shape(
        model_type="",
        auto_class="",
        hidden=int(c["d_model"]),
        layers=int(c.get("num_decoder_layers") or layers),
        heads=int(c["num_heads"]),
        kv_heads=int(c["num_heads"]),
        head_dim=int(c["d_kv"]),
        ffn=int(c["d_ff"]),
        vocabulary=int(c["vocab_size"]),
        names=replace(names, default_targets=("q", "v")),
        gated=projection.startswith("gated"),
        activation="gelu_new" if projection.startswith("gated") else projection,
        norm="t5",
        rope=False,
        softmax_fp32=False,
        tied=bool(c.get("tie_word_embeddings", True)),
        embedding_dropout=dropout,
        residual_dropout=dropout,
        attention_dropout=dropout,
        mlp_dropout=dropout,
        encoder_layers=layers,
        position_buckets=int(c.get("relative_attention_num_buckets", 32)),
    )


FAMILIES: Final[Mapping[str, Family]] = {
    "bert": _bert,
    "roberta": _bert,
    "t5": _t5,
    "vit": _vit,
}
"""By ``model_type``."""
