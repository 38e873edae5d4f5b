"""Which module's forward is running: hooks on all modules at once, during sampled steps only."""

from __future__ import annotations

import sys
from _thread import get_ident
from typing import Any, Callable

# Read as ``torch.compiler.is_compiling()`` in the hooks: dynamo knows it by that path.
torch: Any = sys.modules["torch"]


class ModuleStack:
    """The modules whose forwards are running on one thread and in its backwards, by id.

    ``on_change`` hears of the innermost one (None when all have ended), on entry and exit;
    ``on_outermost`` gets a module itself that runs in no other, outside backward.
    """

    def __init__(
        self, on_change: Callable[[Any], None], on_outermost: Callable[[Any], None]
    ) -> None:
        self._on_change = on_change
        self._on_outermost = on_outermost
        self._running: list[int] = []
        self._thread = get_ident()
        self._handles: list[Any] = []
        self.names: dict[int, str] = {}
        """Class names by id, of every module that ran."""

    def install(self) -> None:
        """Begin to hear of every module's forwards."""
        registry = sys.modules["torch.nn.modules.module"]
        self._handles = [
            registry.register_module_forward_pre_hook(self._enter),
            # Also after an exception: a checkpoint ends its second forward with one.
            registry.register_module_forward_hook(self._leave, always_call=True),
        ]

    def remove(self) -> None:
        """Hear no more; may be repeated."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._on_change = self._on_outermost = _nothing  # else a cycle would be left

    def _is_ours(self) -> bool:
        # On CUDA a backward, and what it makes again, runs on a thread of the engine's.
        return get_ident() == self._thread or torch._C._current_graph_task_id() != -1

    def _enter(self, module: Any, _args: Any) -> None:
        if torch.compiler.is_compiling() or not self._is_ours():
            return
        if not self._running and torch._C._current_graph_task_id() == -1:
            self._on_outermost(module)
        self._running.append(id(module))
        self.names[id(module)] = type(module).__name__
        self._on_change(id(module))

    def _leave(self, module: Any, _args: Any, _output: Any) -> None:
        if torch.compiler.is_compiling() or not self._is_ours():
            return
        key = id(module)
        if key in self._running:
            while self._running.pop() != key:
                pass
        self._on_change(self._running[-1] if self._running else None)


def _nothing(_module: Any) -> None:
    """Nobody listens any more."""
