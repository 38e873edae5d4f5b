"""Puts the observer's ears into torch: global optimizer hooks, forward hooks on root modules.

Every hook returns at once while torch.compile traces it, so that compiled graphs stay whole.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Callable

# Read as ``torch.compiler.is_compiling()`` in the hooks: dynamo knows it by that path.
torch: Any = sys.modules["torch"]

Listener = Callable[..., None]


class Hook:
    """A hook that hears ``listener(module, *rest)`` and gives torch None.

    It lives in the user's module, so it is pickled and copied with it: as a function of the
    standard library that does nothing, which every process can load.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def __call__(self, module: Any, *rest: Any) -> None:
        """As torch calls it."""
        if torch.compiler.is_compiling():
            return
        self._listener(module, *rest)

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")


def hook_optimizers(before: Listener, after: Listener) -> None:
    """Hear of every step of every optimizer, existing and future."""
    from torch.optim.optimizer import (
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

    register_optimizer_step_pre_hook(Hook(before))
    register_optimizer_step_post_hook(Hook(after))


def hook_root(module: Any, before: Listener, after: Listener) -> list[Any]:
    """Hear of the forwards of one module; the handles take the hooks out again."""
    return [
        module.register_forward_pre_hook(Hook(before), with_kwargs=True),
        module.register_forward_hook(Hook(after)),
    ]


class FirstForward:
    """Hears of the next forward of any module, once; for finding the root.

    torch.compile's wrapper warns about global forward hooks, so the ear is taken away when such
    a wrapper is made; the root is then found at the first optimizer step.
    """

    def __init__(self, listener: Listener) -> None:
        from torch.nn.modules import module

        self._listener = listener
        self._handles = [
            module.register_module_forward_pre_hook(Hook(self._forward)),
            module.register_module_module_registration_hook(self._registered),
        ]

    def remove(self) -> None:
        """Take both global hooks out; may be repeated."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _forward(self, module: Any, args: Any) -> None:
        self._listener(module, args)

    def _registered(self, _parent: Any, name: str, _child: Any) -> None:
        if name == "_orig_mod":
            self.remove()
