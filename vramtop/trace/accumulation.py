"""Where the engine of autograd adds gradients in place, though it does not for fake tensors.

A tensor that is used twice gets two gradients. ``can_accumulate_inplace`` of
``torch/csrc/autograd/input_buffer.cpp`` adds the second into the first if nothing else holds that;
but never where a dispatch mode is entered, and there a third tensor is made.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_ADD = torch.ops.aten.add.Tensor


def accumulates_in_place(args: tuple[Any, ...]) -> bool:
    """Whether on a GPU ``aten::add.Tensor(*args)``, as a mode sees it, would be ``add_``.

    To be called by the mode's ``__torch_dispatch__`` with its own ``args``: it counts who holds
    the first of them.
    """
    if torch._C._current_graph_task_id() == -1 or torch.is_grad_enabled():
        return False
    first, second = args[0], args[1]
    if not isinstance(second, torch.Tensor) or first.shape != second.shape:
        return False
    del first
    return args[0].dtype == second.dtype and _holders(args) == _ALONE


def _holders(args: tuple[Any, ...]) -> tuple[int, int, int]:
    """References to the first argument, to its tensor, and to its storage."""
    first = args[0]
    storage_uses = torch._C._storage_Use_Count(first.untyped_storage()._cdata)
    return sys.getrefcount(first), first._use_count(), storage_uses


class _Watching(TorchDispatchMode):  # type: ignore[misc]  # torch is not typed here
    seen = (0, 0, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _ADD:
            self.seen = _seen_by_a_function_called(args)
        return func(*args, **(kwargs or {}))


def _seen_by_a_function_called(args: tuple[Any, ...]) -> tuple[int, int, int]:
    return _holders(args)


def _measured() -> tuple[int, int, int]:
    """How many hold a gradient that only the engine's buffer holds, in this Python and torch."""
    x = torch.ones(2, requires_grad=True).exp()
    with _Watching() as mode:
        (x.sin() * x.cos()).sum().backward()
    return mode.seen


_ALONE = _measured()
