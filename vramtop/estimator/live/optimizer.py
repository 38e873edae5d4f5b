"""The optimizer of a live process: which of ours it is, how it steps, what state it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...core.model import OptimizerInfo
from ...errors import UsageError
from ..workload import OptimizerImplementation

_BY_CLASS: Final = {
    "AdamW": "adamw",
    "Adam": "adam",
    "SGD": "sgd",
    "Adagrad": "adagrad",
    "RMSprop": "rmsprop",
    "Adafactor": "adafactor",
    "Lion": "lion",
    "Muon": "muon",
    "AdamW8bit": "adamw-8bit",
    "Adam8bit": "adam-8bit",
    "Lion8bit": "lion-8bit",
    "PagedAdamW8bit": "paged-adamw-8bit",
}
_MODULES: Final = ("torch", "transformers", "bitsandbytes", "lion_pytorch")
"""Packages whose classes of these names are what the tracer makes."""
_EXTRA_STATES: Final = ("amsgrad", "centered")
COUNTING: Final = ("adamw", "adam", "adagrad", "rmsprop")
"""With a count of steps for each parameter, one fp32 number."""


def optimizer_name(info: OptimizerInfo) -> str:
    """One of ``workload.OPTIMIZERS``.

    Raises:
        UsageError: it is none of them; one line says so.
    """
    name = _BY_CLASS.get(info.class_name)
    package = info.module.partition(".")[0]
    if name is None or (package and package not in _MODULES):
        raise UsageError(f"the optimizer {info.class_name} is not one that vramtop knows")
    settings = info.defaults
    for extra in _EXTRA_STATES:
        if settings.get(extra):
            raise UsageError(f"{info.class_name} with {extra} is not one that vramtop knows")
    if name == "rmsprop" and settings.get("momentum"):
        raise UsageError(f"{info.class_name} with momentum is not one that vramtop knows")
    return "sgd-momentum" if name == "sgd" and settings.get("momentum") else name


def implementation(settings: Mapping[str, Any]) -> OptimizerImplementation | None:
    """How it was asked to step; None: as the library does by default."""
    if settings.get("fused"):
        return "fused"
    if settings.get("foreach"):
        return "foreach"
    return "forloop" if settings.get("foreach") is False else None
