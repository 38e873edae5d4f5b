"""From an ``oom`` message, or the ``lost`` of a post-mortem, to a failure: everything is checked.

Raises ``ProtocolError`` for a value that the protocol does not allow.
"""

from __future__ import annotations

from typing import Any

from ..core.failure import Failure, FailureKind, Limit, ModuleSource
from ..errors import ProtocolError
from . import fields

_KINDS: dict[str, FailureKind] = {"oom": "oom", "lost": "lost"}
_SOURCES: dict[str, ModuleSource] = {
    "exact": "exact",
    "nearest": "nearest",
    "last_peak": "last_peak",
}
_LIMITS: dict[str, Limit] = {"address_space": "address_space", "cgroup": "cgroup", "ram": "ram"}
_MAX_MESSAGE = 2000
_MAX_PATH = 4096


def failure(message: dict[str, Any]) -> Failure:
    """The failure that a message tells of."""
    kind = _KINDS.get(str(message.get("type")))
    if kind is None:
        raise ProtocolError("a failure is neither oom nor lost")
    return Failure(
        kind=kind,
        at=fields.time_of(message),
        device=fields.text(message, "device"),
        step=fields.integer(message, "step"),
        phase=fields.text(message, "phase"),
        module=fields.text(message, "module"),
        module_source=_SOURCES.get(fields.text(message, "module_source") or ""),
        requested_bytes=fields.integer(message, "requested_bytes"),
        free_bytes=fields.integer(message, "free_bytes"),
        total_bytes=fields.integer(message, "total_bytes"),
        limited_by=_LIMITS.get(fields.text(message, "limited_by") or ""),
        message=fields.text(message, "message", _MAX_MESSAGE),
        caught=fields.flag(message, "caught"),
        file=fields.text(message, "file", _MAX_PATH),
    )
