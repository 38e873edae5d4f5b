"""Predictions of live processes: rebuilt from what their probes say, traced, or fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.fleet import ObservedPeak
from ..core.model import Device, Process
from ..estimator.expected import Expecting
from ..estimator.result import Progress

if TYPE_CHECKING:
    from ..trace.tracer import Tracer


def expect(
    process: Process,
    torch_device: str,
    devices: tuple[Device, ...],
    observed: Sequence[ObservedPeak] = (),
    progress: Progress | None = None,
    tracer: Tracer | None = None,
) -> Expecting:
    """What a process should hold, by the best method that works.

    Takes seconds where a trace has to be made: not for the thread that paints.

    Raises:
        UsageError: nothing can be said yet; one line says why.
    """
    raise NotImplementedError


def signature(process: Process, torch_device: str, observed: Sequence[ObservedPeak] = ()) -> str:
    """Changes when, and only when, ``expect`` would answer differently; cheap, for every tick."""
    raise NotImplementedError
