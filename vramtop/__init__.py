"""vramtop: where the memory of a PyTorch training goes, live and before it runs.

Importing this package imports no third-party module; the public names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .predict import estimate
    from .probe.api import stage, watch

__all__ = ["__version__", "estimate", "stage", "watch"]

_LAZY = {
    "estimate": ("vramtop.predict", "estimate"),
    "stage": ("vramtop.probe.api", "stage"),
    "watch": ("vramtop.probe.api", "watch"),
}


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    from importlib import import_module

    return getattr(import_module(module), attribute)
