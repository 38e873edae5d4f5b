"""Starting in a process that has long begun: torch is there, or missing, or half imported."""

from __future__ import annotations

from pathlib import Path

from . import boot
from .faults import Faults
from .presence import PRESENCE
from .waiting import Waiting, loaded_torch


def attach(directory: str) -> str | None:
    """Listen in that directory; the version of torch, None: the probe waits for it.

    On a thread of its own, never the one that trains. Models and optimizers are looked for
    afterwards, by the server's thread.

    Raises:
        RendezvousRefused: the directory is not safely ours.
        OSError: nothing can be bound there.
    """
    where = Path(directory)
    torch = loaded_torch()
    if torch is not None:
        _attach_session(where)
        return str(torch.__version__)
    waiting = Waiting(lambda: _attach_session(where), _leave)
    PRESENCE.listen(waiting, Faults(), where)
    return None


def _leave() -> None:
    boot.remove()  # under `vramtop run` it waits for torch as well
    PRESENCE.leave()


def _attach_session(directory: Path) -> None:
    from .session import session  # some of its modules look for torch as they load

    session().attach(directory)
