"""Sizes read from a Hugging Face configuration, whatever its model type calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_NAMES: Final = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "positions": ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"),
    "vocabulary": ("vocab_size",),
}
"""Names in transformers' configuration classes, the usual one first."""
_ROBERTA: Final = ("roberta", "xlm-roberta", "camembert")


def number(config: Mapping[str, Any], what: str) -> int | None:
    """The size called ``what`` (hidden, layers, heads, …); None where the model has none."""
    for name in _NAMES[what]:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def entries(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every size that the configuration gives, by its own name, as it stands there."""
    known = [name for names in _NAMES.values() for name in names]
    return [(name, config[name]) for name in known if config.get(name) is not None]


def kv_heads(config: Mapping[str, Any]) -> int | None:
    """Key-value heads: those of the queries where nothing else is said."""
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1  # falcon and gpt_bigcode
    return number(config, "kv_heads") or number(config, "heads")


def longest_sequence(config: Mapping[str, Any]) -> int | None:
    """Most tokens of a sample; None: the architecture has no limit (T5), or has no tokens (ViT).

    RoBERTa counts positions from behind the padding's (create_position_ids_from_input_ids).
    """
    positions = number(config, "positions")
    if positions is not None and config.get("model_type") in _ROBERTA:
        return positions - 1 - int(config.get("pad_token_id") or 1)
    return positions


def is_image_model(config: Mapping[str, Any]) -> bool:
    """Whether its samples are images."""
    return "image_size" in config or config.get("model_type") in ("vit", "deit", "beit")
