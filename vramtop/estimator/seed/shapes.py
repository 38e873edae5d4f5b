"""What the texts' formulas ask of a model, read from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...errors import UsageError
from ..workload import Model
from .values import Shape

_HIDDEN: Final = ("hidden_size", "n_embd", "d_model")
_LAYERS: Final = ("num_hidden_layers", "n_layer", "num_layers")
_HEADS: Final = ("num_attention_heads", "n_head", "num_heads")


def shape_of(model: Model) -> Shape:
    """Parameters, hidden size, layers and heads of a model with a configuration.

    Raises:
        UsageError: the model has no configuration, or one without these.
    """
    if model.config is None:
        raise UsageError(
            f"the seed formulas need a configuration, and {model.name!r} is code; "
            "--method trace runs it"
        )
    return Shape(
        parameters=float(model.parameters or _counted(model)),
        hidden=_read(model, model.config, _HIDDEN),
        layers=_read(model, model.config, _LAYERS),
        heads=_read(model, model.config, _HEADS),
    )


def _read(model: Model, config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    for name in names:
        if isinstance(value := config.get(name), int):
            return value
    raise UsageError(
        f"the configuration of {model.name!r} has none of {', '.join(names)}, "
        "which the seed formulas need; --method trace does not"
    )


def _counted(model: Model) -> int:
    from ..shape import Shape as Architecture  # heavy, and only where nothing is published

    assert model.config is not None
    return Architecture.from_config(model.config, model.auto_class).parameters
