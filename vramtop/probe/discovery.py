"""Finds root modules: those that hold an optimizer's parameters and are in no other module."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from itertools import chain, compress, starmap, tee
from typing import Any

from .accounting import modules_of
from .pace import Pace
from .records import OptimizerRecord
from .wrapping import run_parts

_MAX_ROOTS = 16
_FREE_SEARCHES = 8
_SEARCH_SPACING_S = 5.0
_MAX_BLOCKS = 20_000_000
"""Python objects in memory (``sys.getallocatedblocks``), of which going through takes a second."""


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


class Found:
    """What is alive in a process that has long begun."""

    def __init__(self, optimizers: list[Any], roots: list[Any], others: list[Any]) -> None:
        self.optimizers = optimizers
        """Those that have made state; any other is heard at its first step."""
        self.roots = roots
        """What holds their parameters."""
        self.others = others
        """Outermost modules with parameters: models that infer, teachers, copies that nobody
        runs; the largest first."""


def search(torch: Any) -> Found:
    """Look for models and optimizers once, on any thread: no tensor is touched."""
    kinds = _classes(torch.optim.Optimizer)
    living = _living(kinds | _classes(torch.nn.Module))
    # A wrapper around an optimizer (accelerate's) has the other's state, not its own.
    optimizers = [item for item in living if type(item) in kinds and _has_state(item)]
    tree = _Tree([item for item in living if type(item) not in kinds])
    roots = tree.above({id(tensor) for item in optimizers for tensor in parameters_of(item)})
    others = [module for module in tree.above(None) if all(module is not root for root in roots)]
    others.sort(key=lambda module: -sum(1 for _ in modules_of([module])))
    roots = roots[:_MAX_ROOTS]
    return Found(optimizers[:_MAX_ROOTS], roots, others[: _MAX_ROOTS - len(roots)])


def _has_state(optimizer: Any) -> bool:
    own = vars(optimizer)
    state = own.get("state")
    return "param_groups" in own and issubclass(type(state), dict) and len(state) > 0


def roots_holding(torch: Any, tensors: list[Any]) -> list[Any]:
    """The outermost live modules with any of the tensors among their parameters.

    For the first step of an optimizer, not for every one.
    """
    tree = _Tree(_living(_classes(torch.nn.Module)))
    return tree.above({id(tensor) for tensor in tensors})[:_MAX_ROOTS]


class _Tree:
    """Modules, and which is in which."""

    def __init__(self, modules: list[Any]) -> None:
        # One that is just being made may have neither yet.
        made = [m for m in modules if {"_modules", "_parameters"} <= m.__dict__.keys()]
        self._modules = _without_graphs(made)
        self._parents: dict[int, list[Any]] = {}
        for module in self._modules:
            for child in list(module._modules.values()):
                if child is not None:
                    self._parents.setdefault(id(child), []).append(module)

    def above(self, wanted: set[int] | None) -> list[Any]:
        """The outermost modules over parameters of these ids (None: any)."""
        found = [module for module in self._modules if _holds(module, wanted)]
        outermost: dict[int, Any] = {}
        seen: set[int] = set()
        while found:
            module = found.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            above = self._parents.get(id(module))
            if above:
                found.extend(above)
            else:
                outermost.update((id(part), part) for part in run_parts(module))
        return list(outermost.values())


def _without_graphs(modules: list[Any]) -> list[Any]:
    """Without what torch.compile has traced: it holds others' parameters, and optimizers' state."""
    fx = sys.modules.get("torch.fx")
    kinds = set() if fx is None else _classes(fx.GraphModule)
    graphs = [module for module in modules if type(module) in kinds]
    if not graphs:
        return modules
    rest = [module for module in modules if type(module) not in kinds]
    held = {id(tensor) for module in rest for tensor in list(module._parameters.values())}
    own = [m for m in graphs if any(id(t) not in held for t in list(m._parameters.values()))]
    return rest + own


def _holds(module: Any, wanted: set[int] | None) -> bool:
    tensors = [tensor for tensor in list(module._parameters.values()) if tensor is not None]
    return bool(tensors) if wanted is None else any(id(tensor) in wanted for tensor in tensors)


def is_searchable() -> bool:
    """Whether a search takes no longer than a second: no thread runs meanwhile."""
    return sys.getallocatedblocks() <= _MAX_BLOCKS


def _living(kinds: set[type]) -> list[Any]:
    """Every live object of exactly these classes that the garbage collector knows (30–90 ms).

    Empty where there are too many to look through.

    The type, not isinstance: that would ask foreign objects for their ``__class__``. In one call
    that runs no bytecode, so that no other thread runs meanwhile: each object has one reference
    more until the call is over, and a tuple that a thread is just making from a generator would
    be refused to it (SystemError from _PyTuple_Resize).
    """
    return list(_of_kinds({id(kind) for kind in kinds})) if is_searchable() else []


def _of_kinds(kinds: set[int]) -> Iterator[Any]:
    # The list of all objects is made as the first one is asked for, and holds these iterators
    # too: emptied at the end, else a cycle would keep everything until the next collection.
    items, again, over = tee(starmap(gc.get_objects, [()]), 3)
    wanted = map(kinds.__contains__, map(id, map(type, chain.from_iterable(again))))
    found = compress(chain.from_iterable(items), wanted)
    return chain(found, filter(None, map(list.clear, over)))


def _classes(base: type) -> set[type]:
    found: set[type] = set()
    stack = [base]
    while stack:
        kind = stack.pop()
        if kind not in found:
            found.add(kind)
            stack.extend(type.__subclasses__(kind))
    return found
