"""Puts the observer's ears into torch: global optimizer hooks, forward hooks on root modules.

Every hook returns at once while torch.compile traces it, so that compiled graphs stay whole.
"""

from __future__ import annotations

import contextlib
import sys
from _thread import get_ident
from time import perf_counter
from typing import Any, Callable

from .gate import Gate

# Read as ``torch.compiler.is_compiling()`` in the hooks: dynamo knows it by that path.
torch: Any = sys.modules["torch"]

Listener = Callable[..., None]


def deaf(*_: Any) -> None:
    """A listener that takes no notice."""


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

    def listen(self, listener: Listener) -> None:
        """Hand everything to this one from now on, on any thread."""
        self._listener = listener

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")


class BeginHook(Hook):
    """Something begins: mostly there is nothing to do but to leave word that it was passed."""

    def __init__(self, listener: Listener, gate: Gate, what: str) -> None:
        super().__init__(listener)
        self._gate = gate
        self._what = what

    def __call__(self, module: Any, *rest: Any) -> None:
        """As torch calls it."""
        if torch.compiler.is_compiling():
            return
        gate = self._gate
        gate.last = boundary = (self._what, id(module))
        is_new = boundary not in gate.known
        if is_new or gate.busy or perf_counter() >= gate.wanted_at or gate.thread != get_ident():
            self._listener(module, *rest)


class ForwardEndHook(BeginHook):
    """What has begun unheard ends unheard; hears of the exception that a forward is left by, too.

    Not for ``super()`` to do: found cold, that alone costs some microseconds.
    """

    def __init__(self, listener: Listener, gate: Gate, what: str, failed: Listener) -> None:
        super().__init__(listener, gate, what)
        self._failed = failed

    def __call__(self, module: Any, *rest: Any) -> None:
        """As torch calls it, with what the forward gave: nothing, where it has failed."""
        if torch.compiler.is_compiling():
            return
        if rest[-1] is None and self._has_failed(module, *rest[:-1]):
            return
        gate = self._gate
        gate.last = boundary = (self._what, id(module))
        if gate.busy or boundary not in gate.known:
            self._listener(module, *rest)

    def _has_failed(self, module: Any, *given: Any) -> bool:
        error = sys.exc_info()[1]
        trace = None if error is None else error.__traceback__
        # Else the user is handling an exception while a forward of his gives None.
        if trace is None or trace.tb_frame.f_code.co_name != "_call_impl":
            return False
        if self._listener is not deaf:
            self._failed(module, error, *given)
        return True


class StepEndHook(BeginHook):
    """What has begun unheard ends unheard; but every step is counted."""

    def __call__(self, module: Any, *rest: Any) -> None:
        """As torch calls it."""
        if torch.compiler.is_compiling():
            return
        gate, key = self._gate, id(module)
        gate.last = boundary = (self._what, key)
        gate.steps[key] = gate.steps.get(key, 0) + 1
        if gate.busy or boundary not in gate.known:
            self._listener(module, *rest)


class FirstForward:
    """Hears of the next forward of any module, once; for finding the root.

    torch.compile warns about global forward hooks and compiles again when they go, so the ear is
    taken away as soon as anything imports the compiler (creating an optimizer does). The root is
    then found at the first optimizer step; what is left for this ear is inference.
    """

    def __init__(self, listener: Listener) -> None:
        from torch.nn.modules import module

        self._listener = listener
        self._handle: Any = None
        if "torch._dynamo" not in sys.modules:
            self._handle = module.register_module_forward_pre_hook(Hook(self._forward))
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Take the hook out; may be repeated."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            if self in sys.meta_path:
                sys.meta_path.remove(self)

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> None:
        """Asked for every import, finds nothing, but hears of the compiler's."""
        if name == "torch._dynamo":
            try:
                self.remove()
            except Exception:  # an import that is not ours must not fail for us
                pass

    def _forward(self, module: Any, args: Any) -> None:
        self._listener(module, args)
