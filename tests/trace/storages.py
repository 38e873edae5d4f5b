"""New storages on fake tensors and what of them lives, without the project's recorder."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from vramtop.estimator.workload import Device, Model, Workload
from vramtop.trace.cuda_paths import cuda_paths

Made = tuple[str, tuple[int, ...], torch.dtype]


class Storages(TorchDispatchMode):
    """Outputs in storages that were not there before; those up to 64 bytes are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._made: list[Made] = []
        self._references: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(part, torch.Tensor):
                self._see(func.name()[6:], part)
        return out

    def _see(self, name: str, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._references or size <= 64:
            return

        def gone(_reference: Any) -> None:
            del self._references[key]
            self.live_bytes -= size

        self._references[key] = weakref.ref(storage, gone)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self._made.append((name, tuple(tensor.shape), tensor.dtype))

    def take(self) -> list[Made]:
        """What was made since the last time."""
        made, self._made = self._made, []
        return made


def traced(
    act: Callable[[Storages], Any], capability: tuple[int, int] = (8, 0), **fields: Any
) -> Any:
    """What ``act`` returns, run on fake tensors as on a device of a compute capability."""
    workload = Workload(Model("test"), device=Device("test", 1 << 34, capability), **fields)
    with FakeTensorMode(), cuda_paths(workload), Storages() as storages:
        return act(storages)


def faked(model: Any) -> Any:
    """The model itself, its tensors replaced by fake ones of the mode that is entered."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    made = torch.empty(tensor.shape, dtype=tensor.dtype)
                    if isinstance(tensor, torch.nn.Parameter):
                        made = torch.nn.Parameter(made, requires_grad=tensor.requires_grad)
                    tensors[name] = made
    return model
