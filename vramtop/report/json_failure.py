"""How a training failed, as plain values: the key ``failure`` of a probe."""

from __future__ import annotations

from typing import Any

from ..core.failure import Failure
from .json_time import time_text


def failure_object(failure: Failure | None) -> dict[str, Any] | None:
    """One failed allocation, or the end of a process; None where there was none."""
    if failure is None:
        return None
    return {
        "kind": failure.kind,
        "at": time_text(failure.at),
        "device": failure.device,
        "step": failure.step,
        "phase": failure.phase,
        "module": failure.module,
        "module_source": failure.module_source,
        "requested_bytes": failure.requested_bytes,
        "free_bytes": failure.free_bytes,
        "total_bytes": failure.total_bytes,
        "message": failure.message,
        "caught": failure.caught,
        "file": failure.file,
    }
