"""From a probe's ``job`` message to models and optimizers: everything is checked.

Both functions raise ``ProtocolError`` for a value that the protocol does not allow.
"""

from __future__ import annotations

from typing import Any

from ..core.model import ModelInfo, OptimizerInfo
from ..errors import ProtocolError
from .fields import (
    MAX_SHAPES,
    counts,
    flag,
    integer,
    number,
    object_of,
    plain,
    required,
    shapes,
    text,
    texts,
    tuple_of,
)

MAX_OBJECTS = 64
_MAX_DTYPES = 16
_MAX_WRAPPERS = 16
_MAX_TARGETS = 64


def models(message: dict[str, Any]) -> tuple[ModelInfo, ...]:
    """The models of a job."""
    return tuple_of(message, "models", _model, MAX_OBJECTS)


def optimizers(message: dict[str, Any]) -> tuple[OptimizerInfo, ...]:
    """The optimizers of a job."""
    return tuple_of(message, "optimizers", _optimizer, MAX_OBJECTS)


def _model(item: dict[str, Any]) -> ModelInfo:
    batch_shapes = shapes(item, "batch_shapes")
    arguments = texts(item, "arguments", MAX_SHAPES)
    if arguments and len(arguments) != len(batch_shapes):
        raise ProtocolError("arguments and batch_shapes are not of one length")
    config, lora = item.get("hf_config"), item.get("lora")
    return ModelInfo(
        class_name=text(item, "class") or "?",
        parameters=required(item, "parameters"),
        trainable_parameters=required(item, "trainable_parameters"),
        parameters_by_dtype=counts(item, "parameters_by_dtype", _MAX_DTYPES),
        batch_shapes=batch_shapes,
        hf_config=None if config is None else plain(object_of(config, "hf_config"), "hf_config"),
        trainable_by_dtype=counts(item, "trainable_by_dtype", _MAX_DTYPES),
        tensors=integer(item, "tensors"),
        trainable_tensors=integer(item, "trainable_tensors"),
        arguments=arguments,
        training=flag(item, "training"),
        autocast=text(item, "autocast"),
        attention=text(item, "attention"),
        checkpointing=flag(item, "checkpointing"),
        lora=None if lora is None else _lora(object_of(lora, "lora")),
        wrappers=texts(item, "wrappers", _MAX_WRAPPERS),
        quantized=text(item, "quantized"),
    )


def _lora(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "rank": required(item, "rank"),
        "targets": list(texts(item, "targets", _MAX_TARGETS)),
        "dropout": number(item, "dropout") or 0.0,
    }


def _optimizer(item: dict[str, Any]) -> OptimizerInfo:
    return OptimizerInfo(
        class_name=text(item, "class") or "?",
        steps=integer(item, "steps") or 0,
        defaults=plain(object_of(item.get("defaults", {}), "defaults"), "defaults"),
        module=text(item, "module") or "",
        state_by_dtype=counts(item, "state_by_dtype", _MAX_DTYPES),
        parameters=integer(item, "parameters"),
    )
