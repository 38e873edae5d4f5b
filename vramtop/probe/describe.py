"""What is being trained: the contents of a ``job`` message, from live objects to plain JSON."""

from __future__ import annotations

import json
import os
from typing import Any

from .accounting import modules_of

_WRAPPERS = ("OptimizedModule", "DistributedDataParallel", "FullyShardedDataParallel")
_MAX_CONFIG_BYTES = 64 << 10
_MAX_DEPTH = 8
_MAX_ITEMS = 200
_MAX_TEXT = 300
_MAX_SHAPES = 16

Job = dict[str, Any]


def environment(torch: Any) -> Job:
    """Versions and the rank as torchrun and its like give it; unknown is None."""
    return {
        "torch": str(torch.__version__),
        "cuda": getattr(torch.version, "cuda", None),
        "rank": _integer("RANK"),
        "local_rank": _integer("LOCAL_RANK"),
        "world_size": _integer("WORLD_SIZE"),
    }


def model(torch: Any, root: Any) -> Job:
    """Class, parameter counts and Hugging Face configuration of a root module."""
    by_dtype: dict[str, int] = {}
    trainable = 0
    seen: set[int] = set()
    with torch._C.DisableTorchFunction():
        for module in modules_of([root]):
            for parameter in module._parameters.values():
                if parameter is None or id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                try:
                    size = parameter.numel()
                except ValueError:  # a lazy module's parameter has no shape yet
                    continue
                dtype = str(parameter.dtype).rpartition(".")[2]
                by_dtype[dtype] = by_dtype.get(dtype, 0) + size
                trainable += size if parameter.requires_grad else 0
    inner = unwrapped(root)
    return {
        "class": type(inner).__name__[:_MAX_TEXT],
        "parameters": sum(by_dtype.values()),
        "trainable_parameters": trainable,
        "parameters_by_dtype": by_dtype,
        "hf_config": _hf_config(inner),
    }


def optimizer(instance: Any) -> Job:
    """Class and defaults of an optimizer."""
    return {
        "class": type(instance).__name__[:_MAX_TEXT],
        "defaults": plain(dict(instance.defaults)),
    }


def shapes(torch: Any, args: Any, kwargs: Any) -> list[list[int]]:
    """Shapes of the tensors given to a forward, one level of containers deep."""
    if torch._C._get_tracing_state() is not None:  # sizes are traced, and warned of
        return []
    with torch._C.DisableTorchFunction():  # the user's, who is not to hear of us
        return _shapes(torch, [*args, *kwargs.values()])


def _shapes(torch: Any, values: list[Any]) -> list[list[int]]:
    found: list[list[int]] = []
    for value in values:
        kind = type(value)
        if issubclass(kind, torch.Tensor):
            found.append([int(size) for size in value.shape])
        elif issubclass(kind, dict) and len(values) < _MAX_ITEMS:
            found += [list(v.shape) for v in value.values() if issubclass(type(v), torch.Tensor)]
        elif issubclass(kind, (list, tuple)) and len(value) < _MAX_ITEMS:
            found += [list(v.shape) for v in value if issubclass(type(v), torch.Tensor)]
    return found[:_MAX_SHAPES]


def unwrapped(root: Any) -> Any:
    """The user's module inside torch's own wrappers."""
    for _ in _WRAPPERS:
        children = list(root._modules.values())
        if type(root).__name__ not in _WRAPPERS or len(children) != 1:
            break
        root = children[0]
    return root


def plain(value: Any, depth: int = 0) -> Any:
    """A JSON value that says the same; what JSON has no word for becomes its text."""
    if value is None or type(value) in (bool, int, str):
        return value[:_MAX_TEXT] if isinstance(value, str) else value
    if type(value) is float:
        return value if value - value == 0 else str(value)  # NaN and infinity are not JSON
    if depth < _MAX_DEPTH:
        if issubclass(type(value), dict):
            items = list(value.items())[:_MAX_ITEMS]
            return {str(key)[:_MAX_TEXT]: plain(item, depth + 1) for key, item in items}
        if issubclass(type(value), (list, tuple)):
            return [plain(item, depth + 1) for item in value[:_MAX_ITEMS]]
    module = type(value).__module__
    # The text of a tensor would synchronise with the GPU, that of a stranger runs his code.
    if module in ("torch", "builtins") and type(value).__name__ not in ("Tensor", "Parameter"):
        return str(value)[:_MAX_TEXT]
    return f"<{type(value).__name__}>"


def _hf_config(module: Any) -> Any:
    config = vars(module).get("config")
    if not type(config).__module__.startswith("transformers."):
        return None
    if not hasattr(config, "to_dict"):
        return None
    described = plain(config.to_dict())
    return described if len(json.dumps(described)) <= _MAX_CONFIG_BYTES else None


def _integer(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else None
