"""What the forward of a root was given, and in which surroundings it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .accounting import modules_of
from .describe import config_of
from .wrapping import base, unwrapped

_MAX_ITEMS = 200
_MAX_TENSORS = 16
_MAX_NAME = 60


class Call:
    """One forward of a root, read as it begins; a few microseconds."""

    def __init__(self, torch: Any, root: Any, args: Any, kwargs: Any) -> None:
        self._torch = torch
        self.tensors: list[tuple[str, list[int]]] = []
        """Name and shape of each tensor that it was given."""
        with torch._C.DisableTorchFunction():  # the user's, who is not to hear of us
            self._device_type = _device_type(root)
            if torch._C._get_tracing_state() is None:  # else sizes are traced, and warned of
                self.tensors = list(_tensors(torch, args, kwargs))[:_MAX_TENSORS]
        self.training = vars(root).get("training")
        self.attention = attention(config_of(base(unwrapped(root))))
        self.autocast = autocast(torch, self._device_type)
        self.autocast_inside: str | None = None
        """What a module inside runs under, where that was looked at: accelerate puts autocast
        into the root's forward."""

    def runs_module(self) -> None:
        """A module inside the root runs."""
        if self.autocast is None and self.autocast_inside is None:
            self.autocast_inside = autocast(self._torch, self._device_type)

    @property
    def shapes(self) -> list[list[int]]:
        """The shapes alone."""
        return [shape for _, shape in self.tensors]

    def job(self) -> dict[str, Any]:
        """Its part of the root's entry in a job message."""
        return {
            "arguments": [name for name, _ in self.tensors],
            "batch_shapes": self.shapes,
            "training": self.training,
            "autocast": self.autocast or self.autocast_inside,
            "attention": self.attention,
        }


def autocast(torch: Any, device_type: str) -> str | None:
    """The dtype that autocast casts to here and now, None where it is off."""
    try:
        if not torch.is_autocast_enabled(device_type):
            return None
        dtype = torch.get_autocast_dtype(device_type)
    except (TypeError, AttributeError):  # before torch 2.4 the CPU had functions of its own
        if device_type == "cpu":
            dtype = torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
        else:
            dtype = torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
    except RuntimeError:  # a device that has no autocast
        return None
    return None if dtype is None else str(dtype).rpartition(".")[2]


def attention(config: Any) -> str | None:
    """The attention implementation that a transformers configuration names."""
    if config is None:
        return None
    known = vars(config)  # the public name is a property
    name = known.get("_attn_implementation_internal", known.get("_attn_implementation"))
    return name[:_MAX_NAME] if type(name) is str else None


def _tensors(torch: Any, args: Any, kwargs: Any) -> Iterator[tuple[str, list[int]]]:
    """One level of containers deep; their members are named "0.input_ids", "features.1"."""
    given = [*((str(number), value) for number, value in enumerate(args)), *kwargs.items()]
    for name, value in given[:_MAX_ITEMS]:
        kind = type(value)
        if issubclass(kind, torch.Tensor):
            yield name[:_MAX_NAME], _shape(value)
            continue
        if issubclass(kind, dict) and len(value) < _MAX_ITEMS:
            members = list(value.items())
        elif issubclass(kind, (list, tuple)) and len(value) < _MAX_ITEMS:
            members = list(enumerate(value))
        else:
            continue
        for number, (key, member) in enumerate(members):
            if issubclass(type(member), torch.Tensor):
                label = key if type(key) is str else number
                yield f"{name}.{label}"[:_MAX_NAME], _shape(member)


def _shape(tensor: Any) -> list[int]:
    return [int(size) for size in tensor.shape]


def _device_type(root: Any) -> str:
    for module in modules_of([root]):
        for parameter in module._parameters.values():
            if parameter is not None:
                return str(parameter.device.type)
    return "cpu"
