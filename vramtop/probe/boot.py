"""Waits for torch to be imported, then starts the probe; costs a process without torch nothing."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing for this constant would cost every process 9 ms
    from typing import Any

_finder: Any = None


def install() -> None:
    """Start the probe now if torch is loaded, else as soon as its import has finished.

    Runs in every Python process under ``vramtop run``: imports nothing, never raises, idempotent.
    """
    global _finder
    try:
        if _finder is not None:
            return
        _finder = _TorchFinder()
        torch = sys.modules.get("torch")
        spec = getattr(torch, "__spec__", None)
        if torch is not None and not getattr(spec, "_initializing", False):
            start()
        else:
            sys.meta_path.insert(0, _finder)
    except BaseException:  # nothing of ours may end a process that did not ask for us
        pass


def remove() -> None:
    """As if it had never been installed."""
    global _finder
    finder, _finder = _finder, None
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)


def start() -> None:
    """Put the hooks into the torch that is loaded; never raises, faults go to the viewers."""
    try:
        from .session import session

        probe = session()
        probe.install_hooks()
        probe.announce()
    except Exception:  # without a session there is nobody to tell
        pass


class _TorchFinder:
    """Stands first in ``sys.meta_path`` and lets the other finders find torch.

    It stays until an import has succeeded: ``importlib.util.find_spec("torch")`` asks finders
    without importing, and a failed import may be tried again.
    """

    def __init__(self) -> None:
        self._asking: set[int] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The others' spec for torch with its loader wrapped; None for everything else."""
        if name != "torch":
            return None
        from _thread import get_ident

        thread = get_ident()
        if thread in self._asking:  # a finder behind us asked the whole chain again
            return None
        self._asking.add(thread)
        try:
            for finder in list(sys.meta_path):
                find = getattr(finder, "find_spec", None)
                spec = find(name, path, target) if find and finder is not self else None
                if spec is not None:
                    if hasattr(spec.loader, "exec_module"):
                        spec.loader = _TorchLoader(spec.loader, self)
                    return spec
            return None
        finally:
            self._asking.discard(thread)


class _TorchLoader:
    """Runs the real loader, gives it its place back, and starts the probe when torch is there."""

    def __init__(self, loader: Any, finder: _TorchFinder) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        # Whoever only asked for the spec may want get_source, get_data, is_package, ...
        return getattr(self.__dict__["_loader"], name)

    def create_module(self, spec: Any) -> Any:
        """As the real loader makes it."""
        create = getattr(self._loader, "create_module", None)
        return None if create is None else create(spec)

    def exec_module(self, module: Any) -> None:
        """Run torch as if we were not here; its exceptions are the user's."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        start()
