"""What is being trained: the contents of a ``job`` message, from live objects to plain JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable

from .accounting import modules_of
from .faults import Faults
from .wrapping import base, class_name, lora, unwrapped, wrappers

_MAX_CONFIG_BYTES = 64 << 10
_MAX_DEPTH = 8
_MAX_ITEMS = 200
_MAX_TEXT = 300
_LABELS = ("id2label", "label2id")

Job = dict[str, Any]


def environment(torch: Any | None) -> Job:
    """Versions and the rank as torchrun and its like give it; unknown is None."""
    rank, world_size = _integer("RANK"), _integer("WORLD_SIZE")
    if rank is None:
        rank, world_size = _place_in_process_group() or (None, world_size)
    return {
        "torch": None if torch is None else str(torch.__version__),
        "cuda": None if torch is None else getattr(torch.version, "cuda", None),
        "rank": rank,
        "local_rank": _integer("LOCAL_RANK"),
        "world_size": world_size,
        "group": None if rank is None else _group(),
    }


def _place_in_process_group() -> tuple[int, int] | None:
    """Rank and world size of launchers that tell torch only (Lightning's); None before they do."""
    module = sys.modules.get("torch.distributed.distributed_c10d")
    if module is None:
        return None
    try:
        if module.is_initialized():
            return int(module.get_rank()), int(module.get_world_size())
    except Exception:  # it is being set up or taken down just now
        pass
    return None


def _group() -> str | None:
    """What all ranks of one job have in common: where they meet, and the run's name if it has one.

    Two jobs may meet at one port one after the other; torchrun's run id then tells them apart.
    """
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not address or not port:
        return None
    run = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"{address}:{port}{'' if run == 'none' else f' {run}'}"[:_MAX_TEXT]


def model(torch: Any, root: Any, faults: Faults) -> Job:
    """Class, parameters and what is known of how a root module was made.

    What libraries' objects cannot tell goes to ``faults`` and is None.
    """
    parameters = _Elements()
    trainable = _Elements()
    quantized = None
    checkpointing = None
    with torch._C.DisableTorchFunction():
        for module in modules_of([root]):
            for parameter in module._parameters.values():
                if parameter is not None:
                    parameters.add(parameter)
                    if parameter.requires_grad:
                        trainable.add(parameter)
                    if type(parameter).__module__.partition(".")[0] == "bitsandbytes":
                        quantized = type(parameter).__name__[:_MAX_TEXT]
            switch = _checkpointing(module)
            if switch is not None:
                checkpointing = switch or checkpointing or False
    inner = unwrapped(root)

    def told(what: str, tell: Callable[[], Any]) -> Any:
        if faults.off(what):
            return None
        try:
            return tell()
        except Exception as error:
            faults.report(what, error)
            return None

    adapters = told("the description of adapters", lambda: lora(base(inner)))
    return {
        "class": class_name(inner if adapters is None else base(inner)),
        "parameters": parameters.total,
        "trainable_parameters": trainable.total,
        "parameters_by_dtype": parameters.by_dtype,
        "trainable_by_dtype": trainable.by_dtype,
        "tensors": parameters.tensors,
        "trainable_tensors": trainable.tensors,
        "hf_config": told("the description of configurations", lambda: _hf_config(base(inner))),
        "checkpointing": checkpointing,
        "lora": adapters,
        "wrappers": wrappers(root),
        "quantized": quantized,
    }


def optimizer(torch: Any, instance: Any) -> Job:
    """Class, settings and size of an optimizer."""
    parameters, state = _Elements(), _Elements()
    with torch._C.DisableTorchFunction():
        for group in instance.param_groups:
            for parameter in group["params"]:
                parameters.add(parameter)
        for value in instance.state.values():
            _add_state(torch, state, value, 0)
    return {
        "class": type(instance).__name__[:_MAX_TEXT],
        "module": type(instance).__module__[:_MAX_TEXT],
        "defaults": plain(dict(instance.defaults)),
        "parameters": parameters.total,
        "state_by_dtype": state.by_dtype,
    }


class _Elements:
    """Counts the elements of tensors, each tensor once."""

    def __init__(self) -> None:
        self.by_dtype: dict[str, int] = {}
        self.tensors = 0
        self._seen: set[int] = set()

    @property
    def total(self) -> int:
        return sum(self.by_dtype.values())

    def add(self, tensor: Any, at_least: int = 0) -> None:
        if id(tensor) in self._seen:
            return
        self._seen.add(id(tensor))
        try:
            size = tensor.numel()
        except ValueError:  # a lazy module's parameter has no shape yet
            return
        if size >= at_least:
            dtype = str(tensor.dtype).rpartition(".")[2]
            self.by_dtype[dtype] = self.by_dtype.get(dtype, 0) + size
            self.tensors += 1


def _add_state(torch: Any, state: _Elements, value: Any, depth: int) -> None:
    kind = type(value)
    if issubclass(kind, torch.Tensor):
        state.add(value, at_least=2)  # not the count of steps
    elif depth < _MAX_DEPTH:
        items: Any = ()
        if issubclass(kind, dict):
            items = value.values()
        elif issubclass(kind, (list, tuple)):
            items = value
        for item in items:
            _add_state(torch, state, item, depth + 1)


def _checkpointing(module: Any) -> bool | None:
    """Whether transformers' gradient checkpointing is on in one module, None without a switch."""
    name = "gradient_checkpointing"
    # Of the class only a plain value: a stranger's property is not to be run.
    value = vars(module).get(name, getattr(type(module), name, None))
    return value if type(value) is bool else None


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


def config_of(module: Any) -> Any:
    """A transformers model's configuration, None of any other module."""
    config = vars(module).get("config")
    return config if type(config).__module__.startswith("transformers.") else None


def _hf_config(module: Any) -> Any:
    config = config_of(module)
    if not hasattr(config, "to_dict"):
        return None
    settings = config.to_dict()
    labels = settings.get(_LABELS[0])
    if issubclass(type(labels), dict) and len(labels) > _MAX_ITEMS:
        # Cut short they would make a smaller head; their number says as much.
        settings = {name: value for name, value in settings.items() if name not in _LABELS}
        settings["num_labels"] = len(labels)
    described = plain(settings)
    return described if len(json.dumps(described)) <= _MAX_CONFIG_BYTES else None


def _integer(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else None
