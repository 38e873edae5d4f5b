"""The few sizes of a model that rules of thumb and costs need, read from any configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import UsageError
from .workload import Model

_NAMES: Final = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
}
"""How transformers' configurations name them."""
_EXPERTS: Final = ("num_local_experts", "num_experts", "n_routed_experts")
_EXPERTS_USED: Final = ("num_experts_per_tok", "num_selected_experts")


@dataclass(frozen=True, slots=True)
class Outline:
    """A model's sizes."""

    parameters: int
    """All of them, tied weights once."""
    hidden: int
    layers: int
    heads: int
    head_dim: int
    vocabulary: int
    """0 where there is none."""
    tied: bool
    """Whether the head is the embedding."""
    unused_expert_weights: int
    """Expert weights that a token does not visit, in all layers; 0 without experts."""

    @property
    def head_weights(self) -> int:
        """Weights of the output layer, shared or not."""
        return self.vocabulary * self.hidden

    @property
    def layer_weights(self) -> int:
        """Weights that a token is multiplied with outside the output layer."""
        tables = self.head_weights * (1 if self.tied else 2)
        return max(self.parameters - tables - self.unused_expert_weights, 0)


def outline(model: Model, parameters: int | None = None) -> Outline:
    """The sizes of a model with a configuration; ``parameters`` where the model has no count.

    Raises:
        UsageError: the model is code, its configuration lacks a size, or nobody counted it.
    """
    config = model.config
    if config is None:
        raise UsageError(f"{model.name!r} is code, and has no configuration to read sizes from")
    count = model.parameters or parameters
    if count is None:
        raise UsageError(f"the number of parameters of {model.name!r} is not known")
    sizes = {field: _read(model, config, names) for field, names in _NAMES.items()}
    return Outline(
        parameters=count,
        hidden=sizes["hidden"],
        layers=sizes["layers"],
        heads=sizes["heads"],
        head_dim=_optional(config, ("head_dim",)) or sizes["hidden"] // sizes["heads"],
        vocabulary=_optional(config, ("vocab_size",)),
        tied=bool(config.get("tie_word_embeddings", False)),
        unused_expert_weights=_unused(config, sizes["hidden"], sizes["layers"]),
    )


def _unused(config: Mapping[str, Any], hidden: int, layers: int) -> int:
    """Three matrices (gate, up, down) an expert, in every layer but the first dense ones."""
    experts = _optional(config, _EXPERTS)
    if not experts:
        return 0
    used = _optional(config, _EXPERTS_USED) or 1
    width = _optional(config, ("moe_intermediate_size", "intermediate_size", "ffn_dim"))
    sparse = layers - _optional(config, ("first_k_dense_replace",))
    return (experts - used) * 3 * hidden * width * sparse


def _read(model: Model, config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    if value := _optional(config, names):
        return value
    raise UsageError(f"the configuration of {model.name!r} has none of {', '.join(names)}")


def _optional(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0
