"""What an attach has done, as a sentence for whoever asked for it."""

from __future__ import annotations

from .attacher import Attached

_SOON_S = 1.0
_METHODS = {
    "cooperative": ": a probe was there already, nothing was done to it",
    "remote_exec": ": it took the probe by itself (sys.remote_exec) and never stood still",
}


def in_words(attached: Attached) -> str:
    """Who it is, how long it was held (early: a line on the screen may be cut), what is missing."""
    if attached.python is None:
        return (
            f"process {attached.pid} has a probe already, which does not answer now: a long C call "
            "may hold its interpreter; what it says is shown as soon as it does"
        )
    inside = f"Python {attached.python}"
    if attached.torch:
        inside += f", torch {attached.torch}"
    said = f"attached to {attached.pid}"
    said += _METHODS.get(attached.method, f" with {attached.method}")
    if attached.pause_s is not None:
        said += f"; it stood still for {attached.pause_s:.2f} s"
    if attached.waited_s >= _SOON_S:
        said += f", and came to the probe {attached.waited_s:.0f} s later"
    said += f" ({inside})"
    if not attached.torch:
        said += "; it has not imported torch yet: the probe starts when it does"
    return said
