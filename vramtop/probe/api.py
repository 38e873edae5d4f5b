"""``vramtop.watch`` and ``vramtop.stage``: telling the probe by hand."""

from __future__ import annotations

import sys
from contextlib import ContextDecorator
from importlib import import_module
from typing import Any

INJECTED_ROOT = "_vramtop_injected"
"""The private name under which an injected probe is loaded beside the user's own modules."""
_MAX_NAME = 80


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
                probe.observer.add_optimizer(_inner(torch, item))
        probe.serve()
    except Exception as error:
        _report("watch", error)


class stage(ContextDecorator):  # noqa: N801  used like a function
    """Show what memory a part of the program takes: a context manager and a decorator.

    Stages nest; viewers show them, and with ``table=True`` on any of them a table of all is
    printed on stderr when the process ends, viewer or not::

        with vramtop.stage("load"):
            model = Net().cuda()

        @vramtop.stage("validate", table=True)
        def validate(): ...

    Bytes are allocated bytes on CUDA devices, the process's RSS on the CPU.

    Raises:
        TypeError: the name is no text.
    """

    def __init__(self, name: str, table: bool = False) -> None:
        if not isinstance(name, str):
            raise TypeError(f"stage() takes a name, not {type(name).__name__}")
        self._name = "".join(c for c in name[:_MAX_NAME] if c.isprintable())
        self._table = table

    def __enter__(self) -> stage:  # noqa: PYI034  Self is not in Python 3.9
        try:
            stages = _part("stages").STAGES
            stages.begin(self._name)
            if self._table:
                stages.want_table()
            if "torch" in sys.modules:
                probe = _session()
                probe.install_hooks()
                probe.serve()
        except Exception as error:
            _report("stages", error)
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            _part("stages").STAGES.end()
        except Exception as error:
            _report("stages", error)


def _inner(torch: Any, optimizer: Any) -> Any:
    """The optimizer that steps: Accelerate's is a shell around it."""
    inner = vars(optimizer).get("optimizer")
    return inner if isinstance(inner, torch.optim.Optimizer) else optimizer


def _session() -> Any:
    return _part("session").session()


def _part(name: str) -> Any:
    """A module of the probe: the injected one's, if there is such."""
    root = INJECTED_ROOT if f"{INJECTED_ROOT}.probe" in sys.modules else __package__.split(".")[0]
    return import_module(f"{root}.probe.{name}")


def _report(part: str, error: Exception) -> None:
    try:
        _session().faults.report(part, error)
    except Exception:  # without a session there is nobody to tell
        pass
