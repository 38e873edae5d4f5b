"""The architecture of a LitGPT model, from the Hugging Face configuration of the same checkpoint.

Source: litgpt/config.py (0.3 to 0.4), whose entries name the Hugging Face checkpoint each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import UsageError

MlpKind = Literal["plain", "swiglu", "geglu"]


@dataclass(frozen=True, slots=True)
class LitShape:
    """What LitGPT's modules are built from; lengths in elements."""

    layers: int
    hidden: int
    heads: int
    groups: int
    """Key and value heads."""
    head: int
    """Elements of one head."""
    ffn: int
    vocabulary: int
    rotary: int
    """Elements of a head that are rotated."""
    mlp: MlpKind = "plain"
    rms_norm: bool = False
    unit_offset: bool = False
    """Gemma's RMSNorm multiplies by 1 + weight."""
    parallel: bool = False
    """Attention and MLP read the same residual stream."""
    one_norm: bool = False
    """The MLP reads attention's norm."""
    bias: bool = False
    head_bias: bool = False
    tanh_gelu: bool = False
    scale_embeddings: bool = False
    post_norms: bool = False
    score_cap: float | None = None
    logit_cap: float | None = None
    sliding: bool = False
    """Every other layer makes the mask of a sliding window."""


_SUPPORTED = "llama, mistral, gpt_neox, phi, phi3, falcon, gemma, gemma2"


def lit_shape(config: Mapping[str, Any]) -> LitShape:
    """The shape of a checkpoint in LitGPT.

    Raises:
        UsageError: an architecture that LitGPT's model does not cover, or that is not modelled.
    """
    kind = config.get("model_type")
    makers = {
        "llama": _llama,
        "mistral": _llama,
        "phi3": _llama,
        "gpt_neox": _neox,
        "phi": _phi,
        "falcon": _falcon,
        "gemma": _gemma,
        "gemma2": _gemma2,
    }
    if kind not in makers:
        raise UsageError(f"--stack litgpt knows no model type {kind!r}; it knows {_SUPPORTED}")
    return makers[kind](config)


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    return {
        "layers": config["num_hidden_layers"],
        "hidden": hidden,
        "heads": heads,
        "groups": config.get("num_key_value_heads") or heads,
        "head": config.get("head_dim") or hidden // heads,
        "ffn": config.get("intermediate_size") or 4 * hidden,
        "vocabulary": config["vocab_size"],
    }


def _llama(config: Mapping[str, Any]) -> LitShape:
    common = _common(config)
    return LitShape(**common, rotary=common["head"], mlp="swiglu", rms_norm=True)


def _partial(config: Mapping[str, Any], head: int, default: float) -> int:
    rope = config.get("rope_parameters") or {}
    fraction = (
        config.get("rotary_pct")
        or config.get("partial_rotary_factor")
        or rope.get("partial_rotary_factor")
        or default
    )
    return int(fraction * head)


def _neox(config: Mapping[str, Any]) -> LitShape:
    common = _common(config)
    return LitShape(
        **common, rotary=_partial(config, common["head"], 0.25), parallel=True, bias=True
    )


def _phi(config: Mapping[str, Any]) -> LitShape:
    common = _common(config)
    return LitShape(
        **common,
        rotary=_partial(config, common["head"], 0.5),
        parallel=True,
        one_norm=True,
        bias=True,
        head_bias=True,
        tanh_gelu=True,
    )


def _falcon(config: Mapping[str, Any]) -> LitShape:
    common = _common(config)
    new = bool(config.get("new_decoder_architecture"))
    common["groups"] = (config.get("num_kv_heads") or common["heads"]) if new else 1
    common["ffn"] = config.get("ffn_hidden_size") or 4 * common["hidden"]
    return LitShape(**common, rotary=common["head"], parallel=True, one_norm=not new)


def _gemma(config: Mapping[str, Any]) -> LitShape:
    common = _common({"head_dim": 256, **config})
    return LitShape(
        **common,
        rotary=common["head"],
        mlp="geglu",
        rms_norm=True,
        unit_offset=True,
        tanh_gelu=True,
        scale_embeddings=True,
    )


def _gemma2(config: Mapping[str, Any]) -> LitShape:
    common = _common({"head_dim": 256, **config})
    return LitShape(
        **common,
        rotary=common["head"],
        mlp="geglu",
        rms_norm=True,
        unit_offset=True,
        tanh_gelu=True,
        scale_embeddings=True,
        post_norms=True,
        score_cap=50.0,
        logit_cap=30.0,
        sliding=True,
    )
