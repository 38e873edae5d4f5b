"""What viewers are told beside samples: the latest of each kind of message, once to each viewer."""

from __future__ import annotations

import time
from typing import Any

from ..protocol.messages import MAX_MODULES, MAX_PHASES
from .replay import DeviceDetail, to_sizes
from .sizes import named


class Updates:
    """Written by training threads, read by the server's."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[int, dict[str, Any]]] = {}
        self._number = 0

    def put(self, name: str, message: dict[str, Any]) -> None:
        """Replace the message of that name."""
        self._number += 1
        self._latest[name] = (self._number, message)

    def last(self, name: str) -> dict[str, Any] | None:
        """The message of that name, None before there was one."""
        latest = self._latest.get(name)
        return None if latest is None else latest[1]

    def names(self) -> list[str]:
        """Of all messages that there are."""
        return list(self._latest)

    def since(self, told: dict[str, int]) -> list[dict[str, Any]]:
        """What is newer than a viewer knows; ``told`` is brought up to date."""
        news = []
        for name, (number, message) in list(self._latest.items()):
            if told.get(name) != number:
                told[name] = number
                news.append(message)
        return news


def detail_message(
    device: str,
    step: int | None,
    detail: DeviceDetail,
    notes: list[str],
    shapes: list[list[int]],
) -> dict[str, Any]:
    """The ``detail`` message of one device."""
    replay = detail.replay
    return {
        "type": "detail",
        "device": device,
        "at": time.time(),
        "step": step,
        "phases": [
            {
                "name": phase.name,
                "before_bytes": phase.before_bytes,
                "after_bytes": phase.after_bytes,
                "peak_bytes": phase.peak_bytes,
                "count": phase.count,
                "after": named(phase.after),
            }
            for phase in replay.phases[:MAX_PHASES]
        ],
        "peak": _peak(detail),
        "modules": [
            [module.path, module.class_name, module.activation_bytes, module.parameter_bytes]
            for module in detail.modules[:MAX_MODULES]
        ],
        "notes": notes,
        "batch_shapes": shapes,
    }


def _peak(detail: DeviceDetail) -> dict[str, Any] | None:
    replay = detail.replay
    if replay.peak_bytes < 0:  # only boundaries were seen
        return None
    return {
        "phase": replay.peak_phase,
        "module": detail.peak_module,
        "total_bytes": replay.peak_bytes,
        "breakdown": named(to_sizes(replay.peak_kinds)),
    }
