"""Forecasts for every process of a fleet: who has how much room, and what its past says."""

from __future__ import annotations

from dataclasses import replace

from .devices import device_memory
from .fleet import Fleet, HistoryKey
from .forecast import Forecast, forecast
from .history import History
from .memory import Detail
from .model import ProbeDevice, Process, Snapshot


def foresee(fleet: Fleet) -> Fleet:
    """The fleet with the forecasts of its live processes; worth asking once a snapshot."""
    forecasts: dict[HistoryKey, Forecast] = {}
    for process in fleet.snapshot.processes:
        if process.probe.state != "streaming":
            continue
        for part in process.probe.devices:
            place = (process.key, part.device)
            free = _free_bytes(fleet.snapshot, process, part)
            if free is None or place not in fleet.histories:
                continue
            found = forecast(
                fleet.histories.get(place, History()),
                free,
                fleet.observed.get(place, ()),
                _swing_bytes(part.detail),
            )
            if found is not None:
                forecasts[place] = found
    return replace(fleet, forecasts=forecasts)


def forecast_of(fleet: Fleet, process: Process) -> Forecast | None:
    """Of a process's torch devices, the forecast of the one that is full first."""
    found = [
        fleet.forecasts[process.key, part.device]
        for part in process.probe.devices
        if (process.key, part.device) in fleet.forecasts
    ]
    return min(found, key=lambda forecast: forecast.oom_in_s, default=None)


def _free_bytes(snapshot: Snapshot, process: Process, part: ProbeDevice) -> int | None:
    """What is left of a device for whoever asks first; None where it is not known."""
    if part.device == "cpu":
        total, used = snapshot.host.ram_total_bytes, snapshot.host.ram_used_bytes
        return None if total is None or used is None else max(total - used, 0)
    memory = device_memory(snapshot.devices, part, process)
    return None if memory is None else memory.free_bytes


def _swing_bytes(detail: Detail | None) -> int:
    """How much tensors rise and fall within a step; 0 where it is not known."""
    if detail is None or detail.peak is None or not detail.phases:
        return 0
    lowest = min(phase.after_bytes for phase in detail.phases)
    return max(detail.peak.total_bytes - lowest, 0)
