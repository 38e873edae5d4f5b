"""All that the observer has in torch: put in and taken out without disturbing who is just there."""

from __future__ import annotations

import sys
from typing import Any

from .boundaries import FORWARD_BEGINS, FORWARD_ENDS, STEP_BEGINS, STEP_ENDS
from .frames import is_importing, is_running
from .gate import Gate
from .hooks import BeginHook, FirstForward, ForwardEndHook, Hook, Listener, StepEndHook, deaf
from .records import RootRecord

_MODULE = "torch.optim.optimizer"


class Ears:
    """Hooks on optimizers, on roots, and on the first forward of any module."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._hooks: list[Hook] = []
        self._optimizers: list[Any] = []
        self._first_forward: FirstForward | None = None

    def may_hear_steps(self) -> bool:
        """Whether hooks on all optimizers can be put in or taken out now.

        Inside ``step`` torch goes through the dictionaries of hooks themselves: one more or less
        would fail in the program. Where they are empty nothing is gone through.
        """
        module = sys.modules[_MODULE]
        if not module._global_optimizer_pre_hooks and not module._global_optimizer_post_hooks:
            return True
        return not is_running("wrapper", str(module.__file__))

    def hear_steps(self, before: Listener, after: Listener) -> None:
        """Hear of every step of every optimizer, existing and future."""
        from torch.optim.optimizer import (
            register_optimizer_step_post_hook,
            register_optimizer_step_pre_hook,
        )

        begins = BeginHook(before, self._gate, STEP_BEGINS)
        ends = StepEndHook(after, self._gate, STEP_ENDS)
        self._optimizers = [
            register_optimizer_step_pre_hook(begins),
            register_optimizer_step_post_hook(ends),
        ]
        self._hooks += [begins, ends]

    def hear_root(
        self, record: RootRecord, before: Listener, after: Listener, failed: Listener
    ) -> None:
        """Hear of the forwards of one module.

        A ScriptModule takes no hooks: what it holds is counted at optimizer steps.
        """
        module = record.target()
        if module is None or issubclass(type(module), sys.modules["torch"].jit.ScriptModule):
            return
        # Deaf until torch knows that they take keywords: a forward may run meanwhile.
        begins = BeginHook(deaf, self._gate, FORWARD_BEGINS)
        ends = ForwardEndHook(deaf, self._gate, FORWARD_ENDS, failed)
        record.hooks = [begins, ends]
        record.handles = [
            module.register_forward_pre_hook(begins, with_kwargs=True),
            module.register_forward_hook(ends, with_kwargs=True, always_call=True),
        ]
        begins.listen(before)
        ends.listen(after)

    def hear_first_forward(self, listener: Listener) -> None:
        """Hear of the next forward of any module, once."""
        self._first_forward = FirstForward(listener)

    def forget_first_forward(self) -> None:
        """No more; may be repeated."""
        if self._first_forward is not None:
            self._first_forward.remove()

    def remove(self, roots: list[RootRecord]) -> bool:
        """Take everything out; False: not now, to be repeated soon. At once nothing is heard."""
        for record in roots:
            for hook in record.hooks:
                hook.listen(deaf)
        for hook in self._hooks:
            hook.listen(deaf)
        if not self.may_hear_steps() or is_importing():
            return False
        for handle in self._optimizers:
            handle.remove()
        self._optimizers, self._hooks = [], []
        self.forget_first_forward()
        for record in roots:
            for handle in record.handles:
                handle.remove()
            record.handles, record.hooks = [], []
        return True
