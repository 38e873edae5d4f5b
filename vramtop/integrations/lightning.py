"""A callback for the Trainer of Lightning, under either of its names.

::

    trainer = lightning.Trainer(callbacks=[VramtopCallback()])
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from .telling import OpenStage, watch_all

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _callbacks() -> tuple[type, ...]:
    """The Callback of each of Lightning's packages that is in use, else of one that is there."""
    used = [name for name in _PACKAGES if sys.modules.get(name)]
    for name in _PACKAGES if not used else ():
        try:
            import_module(name)
        except ImportError:
            continue
        used = [name]
        break
    if not used:
        raise ImportError("VramtopCallback needs Lightning: pip install lightning")
    return tuple(sys.modules[name].Callback for name in used)


class VramtopCallback(*_callbacks()):  # type: ignore[misc]  # whichever package is in use
    """Shows a Trainer's model and optimizers; validation, test and prediction are stages."""

    def __init__(self) -> None:
        self._stage = OpenStage()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Watch what is about to be trained."""
        self._stage.end()
        _watch(trainer, pl_module)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Name it."""
        self._begin("validate", trainer, pl_module)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Name it."""
        self._begin("test", trainer, pl_module)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Name it."""
        self._begin("predict", trainer, pl_module)

    def on_validation_end(self, *_: Any) -> None:
        """It is over, or has failed."""
        self._stage.end()

    on_test_end = on_predict_end = on_exception = on_validation_end

    def _begin(self, name: str, trainer: Any, pl_module: Any) -> None:
        _watch(trainer, pl_module)  # there may have been no training
        self._stage.begin(name)


def _watch(trainer: Any, pl_module: Any) -> None:
    """Watch the module as Lightning has wrapped it, and what its ``training_step`` calls.

    Lightning calls ``training_step`` and passes the module's own forward by: what is heard are
    the forwards of the modules inside. One that holds all parameters is the model itself.
    """
    whole = trainer.model
    parts = [part for part in pl_module.children() if next(part.parameters(), None) is not None]
    is_bare = whole is pl_module and not pl_module._parameters
    watch_all(*parts, *([] if is_bare and len(parts) == 1 else [whole]), *trainer.optimizers)
