"""From the configuration of each model family to its ``Shape``; defaults are transformers 5.23's.

The families are in ``llama_families``, ``gpt_families`` and ``encoder_families``, a function each;
what is fixed in a modeling file (biases, where norms are) is set there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from ..errors import UsageError
from . import encoder_families, gpt_families, llama_families
from .shape import Config, Family, Shape

_FAMILIES: Final[Mapping[str, Family]] = {
    **llama_families.FAMILIES,
    **gpt_families.FAMILIES,
    **encoder_families.FAMILIES,
}


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
