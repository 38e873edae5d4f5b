"""What the texts' formulas ask of a model, read from its configuration."""

from __future__ import annotations

from ...errors import UsageError
from ..outline import outline
from ..workload import Model, Workload
from .values import Shape


def shape_of(model: Model) -> Shape:
    """Parameters, hidden size, layers and heads of a model with a configuration.

    Raises:
        UsageError: the model has no configuration, or one without these.
    """
    try:
        sizes = outline(model, None if model.parameters else _counted(model))
    except UsageError as error:
        raise UsageError(f"--method seed: {error}; --method trace does without") from None
    return Shape(float(sizes.parameters), sizes.hidden, sizes.layers, sizes.heads)


def _counted(model: Model) -> int | None:
    """Parameters of a model that the catalogue does not know: its fp32 weights over 4 B."""
    if model.config is None:
        return None
    from ..closed import predictor  # only here do the texts' formulas need our own

    loaded = predictor(Workload(model, mode="inference", precision="fp32")).at(1)
    return loaded.components["parameter"] // 4
