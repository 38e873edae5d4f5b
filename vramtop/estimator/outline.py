"""The few sizes of a model that rules of thumb and costs need, read from any configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import UsageError
from .config_numbers import number
from .workload import Model

_EXPERTS_USED: Final = ("num_experts_per_tok", "num_selected_experts")
_EXPERT_WIDTH: Final = ("moe_intermediate_size", "intermediate_size", "ffn_dim")
_FIELDS: Final = ("hidden", "layers", "heads")


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
    hidden, layers, heads = (_needed(model, config, field) for field in _FIELDS)
    return Outline(
        parameters=count,
        hidden=hidden,
        layers=layers,
        heads=heads,
        head_dim=int(config.get("head_dim") or hidden // heads),
        vocabulary=number(config, "vocabulary") or 0,
        tied=bool(config.get("tie_word_embeddings", False)),
        unused_expert_weights=_unused(config, hidden, layers),
    )


def _unused(config: Mapping[str, Any], hidden: int, layers: int) -> int:
    """Three matrices (gate, up, down) an expert, in every layer but the first dense ones."""
    experts = number(config, "experts")
    if not experts:
        return 0
    used = _first(config, _EXPERTS_USED) or 1
    sparse = layers - int(config.get("first_k_dense_replace") or 0)
    return (experts - used) * 3 * hidden * _first(config, _EXPERT_WIDTH) * sparse


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((int(config[name]) for name in names if config.get(name)), 0)


def _needed(model: Model, config: Mapping[str, Any], field: str) -> int:
    if value := number(config, field):
        return value
    raise UsageError(f"the configuration of {model.name!r} does not say its number of {field}")
