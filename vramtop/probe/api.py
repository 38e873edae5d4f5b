"""``vramtop.watch``: telling the probe by hand, without ``vramtop run``."""

from __future__ import annotations

import sys
from typing import Any

INJECTED_ROOT = "_vramtop_injected"
"""The private name under which an injected probe is loaded beside the user's own modules."""


def watch(*objects: Any) -> None:
    """Show these models and optimizers to viewers; before or after the first step, any number.

    A probe that ``vramtop run`` has put into this process is used. Anything but a wrong argument
    is the probe's own trouble: viewers are told, the training is not.

    Raises:
        TypeError: an object is neither a torch module nor an optimizer.
    """
    torch: Any = sys.modules.get("torch")
    for item in objects:
        if torch is None or not isinstance(item, (torch.nn.Module, torch.optim.Optimizer)):
            raise TypeError(f"watch() takes models and optimizers, not {type(item).__name__}")
    if torch is None:
        return
    try:
        probe = _session()
        probe.install_hooks()
        for item in objects:
            if isinstance(item, torch.nn.Module):
                probe.observer.add_root(item)
            else:
                probe.observer.add_optimizer(item)
        probe.serve()
    except Exception as error:
        _report(error)


def _session() -> Any:
    injected = sys.modules.get(f"{INJECTED_ROOT}.probe.session")
    if injected is not None:
        return injected.session()
    from .session import session

    return session()


def _report(error: Exception) -> None:
    try:
        _session().faults.report("watch", error)
    except Exception:  # without a session there is nobody to tell
        pass
