"""From the configuration of each model family to its ``Shape``; defaults are transformers 5.23's.

A function a family; what is fixed in its modeling file (biases, where norms are) is set here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from ..errors import UsageError
from .shape import Experts, Image, Latent, Names, Shape

Config = Mapping[str, Any]


def shape_of(config: Config, auto_class: str) -> Shape:
    """See ``Shape.from_config``."""
    model_type = str(config.get("model_type", ""))
    family = _FAMILIES.get(model_type)
    if family is None:
        raise UsageError(
            f"the closed form has no formulas for model_type {model_type!r} (it has "
            f"{', '.join(sorted(_FAMILIES))}); --method trace can do it"
        )
    try:
        shape = replace(family(config), model_type=model_type, auto_class=auto_class)
    except KeyError as error:
        raise UsageError(f"the configuration of this {model_type} has no {error}") from None
    labels = int(config.get("num_labels", len(config.get("id2label", ())) or 2))
    if "SequenceClassification" in auto_class:
        pooled = model_type in ("bert", "roberta")
        shape = replace(
            shape, head_transform=False, tied=False, pooler=pooled, head_bias=pooled, labels=labels
        )
    return replace(shape, labels=labels)


def _llama(c: Config) -> Shape:
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
    shape = _llama(c)
    window = int(c.get("sliding_window") or 0)
    return replace(shape, window=window, sliding_layers=shape.layers if window else 0)


def _mixtral(c: Config) -> Shape:
    shape = _mistral(c)
    experts = Experts(
        int(c.get("num_local_experts", 8)), int(c.get("num_experts_per_tok", 2)), shape.ffn
    )
    return replace(shape, experts=experts)


def _qwen2(c: Config) -> Shape:
    return replace(_llama(c), qkv_bias=True, o_bias=False)


def _qwen3(c: Config) -> Shape:
    return replace(_llama(c), qk_norm="head")


def _qwen3_moe(c: Config) -> Shape:
    experts = Experts(
        int(c["num_experts"]), int(c["num_experts_per_tok"]), int(c["moe_intermediate_size"])
    )
    return replace(_qwen3(c), experts=experts)


def _gemma(c: Config) -> Shape:
    return replace(
        _llama(c),
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
    return _llama(c)


def _stablelm(c: Config) -> Shape:
    parallel = bool(c.get("use_parallel_residual", False))
    return replace(
        _llama(c),
        norm="layer",
        block="parallel" if parallel else "pre",
        qkv_bias=bool(c.get("use_qkv_bias", False)),
        o_bias=False,
        qk_norm="head" if c.get("qk_layernorm", False) else "",
        rope_concatenates=True,
    )


def _olmo2(c: Config) -> Shape:
    return replace(_llama(c), norm="gemma", block="reordered", qk_norm="whole")


def _deepseek_v3(c: Config) -> Shape:
    shape = _llama(c)
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
        _llama(c),
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
        _llama(c),
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
        _llama({**c, "intermediate_size": c["ffn_dim"]}),
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


def _bert(c: Config) -> Shape:
    dropout = float(c.get("hidden_dropout_prob", 0.1))
    names = Names("query", "key", "value", o="dense", up="dense", down="dense")
    return replace(
        _llama(c),
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


_FAMILIES: Final[Mapping[str, Callable[[Config], Shape]]] = {
    "bert": _bert,
    "deepseek_v3": _deepseek_v3,
    "falcon": _falcon,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "gpt2": _gpt2,
    "gpt_neo": _gpt_neo,
    "gpt_neox": _gpt_neox,
    "gptj": _gptj,
    "llama": _llama,
    "mistral": _mistral,
    "mixtral": _mixtral,
    "olmo2": _olmo2,
    "opt": _opt,
    "phi": _phi,
    "phi3": _phi3,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "roberta": _bert,
    "smollm3": _smollm3,
    "stablelm": _stablelm,
    "t5": _t5,
    "vit": _vit,
}
