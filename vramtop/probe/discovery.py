"""Finds root modules: those that hold an optimizer's parameters and are in no other module."""

from __future__ import annotations

import gc
import time
from typing import Any

from .accounting import modules_of
from .pace import Pace
from .records import OptimizerRecord

_MAX_ROOTS = 16
_FREE_SEARCHES = 8
_SEARCH_SPACING_S = 5.0


class RootFinder:
    """Finds the roots of optimizers, each once; many new optimizers do not mean many searches."""

    def __init__(self, torch: Any, pace: Pace) -> None:
        self._torch = torch
        self._pace = pace
        self._searches = 0
        self._searched_at = 0.0

    def find(self, optimizer: Any, record: OptimizerRecord, known: list[Any]) -> list[Any]:
        """The roots of an optimizer's parameters; empty if known ones hold them, or for now."""
        began = time.perf_counter()
        wanted = parameters_of(optimizer)
        if holds_all(known, wanted):
            record.rooted = True
            return []
        if self._searches >= _FREE_SEARCHES and began - self._searched_at < _SEARCH_SPACING_S:
            return []  # its parameters are counted all the same; looked for at a later step
        record.rooted = True
        self._searches += 1
        self._searched_at = began
        found = roots_holding(self._torch, wanted)
        now = time.perf_counter()
        self._pace.spend(now, now - began)
        return found


def parameters_of(optimizer: Any) -> list[Any]:
    """All parameters of an optimizer."""
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def holds_all(roots: list[Any], tensors: list[Any]) -> bool:
    """Whether every tensor is a parameter of a module under the roots."""
    held = {id(tensor) for module in modules_of(roots) for tensor in module._parameters.values()}
    return all(id(tensor) in held for tensor in tensors)


def roots_holding(torch: Any, tensors: list[Any]) -> list[Any]:
    """The outermost live modules with any of the tensors among their parameters.

    Looks at every object that the garbage collector knows, some tens of milliseconds in a large
    process: for the first step of an optimizer, not for every one, and on the thread that trains
    only. Each object has one reference more meanwhile: a tuple that another thread is just making
    from a generator would be refused to it (SystemError from _PyTuple_Resize).
    """
    kinds = _classes(torch.nn.Module)
    # The type, not isinstance: that would ask foreign objects for their __class__.
    modules = [item for item in gc.get_objects() if type(item) in kinds]
    modules = [module for module in modules if "_modules" in module.__dict__]
    wanted = {id(tensor) for tensor in tensors}
    parents: dict[int, list[Any]] = {}
    for module in modules:
        for child in module._modules.values():
            if child is not None:
                parents.setdefault(id(child), []).append(module)
    found = [
        module
        for module in modules
        if any(id(tensor) in wanted for tensor in module._parameters.values())
    ]
    outermost: dict[int, Any] = {}
    seen: set[int] = set()
    while found:
        module = found.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        above = parents.get(id(module))
        if above:
            found.extend(above)
        else:
            outermost[id(module)] = module
    return list(outermost.values())[:_MAX_ROOTS]


def _classes(base: type) -> set[type]:
    found: set[type] = set()
    stack = [base]
    while stack:
        kind = stack.pop()
        if kind not in found:
            found.add(kind)
            stack.extend(type.__subclasses__(kind))
    return found
