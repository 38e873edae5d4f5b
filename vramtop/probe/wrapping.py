"""What is around the user's model (torch's wrappers, PEFT's adapters), and the model inside."""

from __future__ import annotations

from typing import Any

from .accounting import modules_of

_WRAPPERS = ("OptimizedModule", "DistributedDataParallel", "FullyShardedDataParallel")
_SHARDED = "FSDPModule"
_TASK = "LightningModule"
_MAX_TARGETS = 64
_MAX_TEXT = 300


def unwrapped(root: Any) -> Any:
    """The user's module inside torch's own wrappers."""
    return _unwrap(root)[-1]


def wrappers(root: Any) -> list[str]:
    """Class names of torch's wrappers, the outermost first; FSDPModule for ``fully_shard``."""
    *around, inner = _unwrap(root)
    names = [type(module).__name__ for module in around]
    if is_sharded(type(inner)) or is_sharded(type(base(inner))):
        names.append(_SHARDED)
    return names


def base(inner: Any) -> Any:
    """The model that PEFT has put its adapters into, or the module itself."""
    if _is_of("peft", inner):
        tuner = inner._modules.get("base_model")
        model = None if tuner is None else tuner._modules.get("model")
        return inner if model is None else model
    return inner


def class_name(module: Any) -> str:
    """The name of the class as its author wrote it; ``fully_shard`` makes one of its own."""
    kind = type(module)
    if is_sharded(kind):
        kind = next(k for k in kind.__bases__ if k.__name__ != _SHARDED)
    return kind.__name__[:_MAX_TEXT]


def is_sharded(kind: type) -> bool:
    """Whether it is a class that ``fully_shard`` has made of another."""
    return len(kind.__bases__) > 1 and any(
        k.__name__ == _SHARDED and k.__module__.startswith("torch.distributed.")
        for k in kind.__bases__
    )


def lora(model: Any) -> dict[str, Any] | None:
    """Rank, targets and dropout of the first adapter in a model (``base``), None without one."""
    adapters = vars(model).get("peft_config")
    if not issubclass(type(adapters), dict) or not adapters:
        return None
    config = next(iter(adapters.values()))
    settings = vars(config) if _is_of("peft", config) else {}
    rank, targets = settings.get("r"), settings.get("target_modules")
    if type(rank) is not int:
        return None
    if targets is not None and type(targets) in (set, list, tuple):
        # Those of "all-linear" are whole paths, each layer's.
        names = sorted({name.rpartition(".")[2] for name in targets if type(name) is str})
    else:
        names = [targets] if type(targets) is str else []
    dropout = settings.get("lora_dropout")
    return {
        "rank": rank,
        "targets": [name[:_MAX_TEXT] for name in names[:_MAX_TARGETS]],
        "dropout": dropout if type(dropout) in (int, float) else 0.0,
    }


def run_parts(root: Any) -> list[Any]:
    """The modules whose forward runs: the root, but of a LightningModule what is inside it first.

    Lightning calls its ``training_step`` and passes its forward by. One module that holds all
    parameters is the model itself.
    """
    if not any(kind.__name__ == _TASK for kind in type(root).__mro__):
        return [root]
    parts = [part for part in list(root._modules.values()) if part is not None and _learns(part)]
    return parts if len(parts) == 1 and not root._parameters else [*parts, root]


def _learns(part: Any) -> bool:
    return any(
        parameter is not None
        for module in modules_of([part])
        for parameter in list(module._parameters.values())
    )


def _unwrap(root: Any) -> list[Any]:
    """The wrappers, outermost first, and what they wrap."""
    found = [root]
    for _ in _WRAPPERS:
        children = list(found[-1]._modules.values())
        if type(found[-1]).__name__ not in _WRAPPERS or len(children) != 1:
            break
        found.append(children[0])
    return found


def _is_of(package: str, value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == package
