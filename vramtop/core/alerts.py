"""What deserves a word: failures, forecasts of OOM, thresholds passed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from .breakdowns import probe_device_of
from .devices import device_rows, uuid_of
from .fleet import Fleet
from .forecast import CAUSES, about
from .model import Probe
from .oom_figures import failed_device
from .postmortem import is_settled, verdict
from .units import format_bytes

_OUTLIVED_S: Final = 600.0
"""So long a failure is an alert that its program has outlived."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to be warned of; the same ``key`` is the same alert in a later snapshot."""

    key: str
    kind: Literal["threshold", "forecast", "oom", "lost"]
    text: str
    """In words, one line."""
    pid: int | None = None
    device: str | None = None
    """uuid."""
    more: str = ""
    """The whole of it, where the line is short of something."""


def alerts(
    fleet: Fleet, at_percent: float | None = None, seen: Collection[str] = ()
) -> tuple[Alert, ...]:
    """What is to be warned of in the last snapshot: failures, the latest first, the nearest OOM.

    Args:
        fleet: with its forecasts (``outlook.foresee``).
        at_percent: the share of a device's memory in use from which on that is an alert; None for
            never, since a GPU that a training fills is as it should be.
        seen: keys of failures that are known by now.
    """
    failures = (alert for alert in _failures(fleet) if alert.key not in seen)
    return (*failures, *_forecasts(fleet), *_thresholds(fleet, at_percent))


def _failures(fleet: Fleet) -> Iterator[Alert]:
    now = fleet.snapshot.taken_at
    failed = [
        (process.probe.failure, process)
        for process in fleet.processes
        if process.probe.failure is not None
        and is_settled(process, now)
        and (_has_ended_it(process.probe) or now - process.probe.failure.at < _OUTLIVED_S)
    ]
    for failure, process in sorted(failed, key=lambda pair: -pair[0].at):
        device = failed_device(process, failure)
        part = probe_device_of(process, device) if device else None
        words = "ran out of memory" if failure.kind == "oom" else "ended without a word"
        yield Alert(
            key=f"{failure.kind} {process.pid} {process.started_at} {failure.at}",
            kind=failure.kind,
            text=f"pid {process.pid} {words}: press w",
            more=f"pid {process.pid}: {verdict(fleet, process)} (w: all of it)",
            pid=process.pid,
            device=uuid_of(part, process) if part else None,
        )


def _has_ended_it(probe: Probe) -> bool:
    return probe.state == "gone" and not probe.has_outlived_failure


def _forecasts(fleet: Fleet) -> Iterator[Alert]:
    near = sorted(fleet.forecasts.items(), key=lambda item: item[1].oom_in_s)
    for ((pid, started_at), torch_device), forecast in near:
        if forecast.confidence == "low":
            continue
        process = fleet.process((pid, started_at))
        part = probe_device_of(process, torch_device) if process else None
        yield Alert(
            key=f"forecast {pid} {started_at} {torch_device}",
            kind="forecast",
            text=f"OOM in {about(forecast.oom_in_s)} (pid {pid})",
            more=f"pid {pid} on {torch_device}: {forecast.text}; {CAUSES[forecast.kind]}",
            pid=pid,
            device=uuid_of(part, process) if process and part else None,
        )


def _thresholds(fleet: Fleet, at_percent: float | None) -> Iterator[Alert]:
    for row in device_rows(fleet):
        stale = row.device.stale_s is not None
        if at_percent is None or row.used_share is None or stale:
            continue
        if 100 * row.used_share >= at_percent:
            name = "host RAM" if row.short_name == "host" else f"GPU {row.short_name}"
            total = format_bytes(row.memory.total_bytes)
            yield Alert(
                key=f"threshold {row.uuid}",
                kind="threshold",
                text=f"{name} is {100 * row.used_share:.0f}% full (of {total})",
                device=row.uuid,
            )
