"""Adds to a probe's breakdowns what only the viewer knows: the driver's figure for the process."""

from __future__ import annotations

from dataclasses import replace

from ..core.breakdowns import with_allocator, with_process_figure
from ..core.memory import Breakdown
from ..core.model import DeviceUse, Probe, ProbeDevice


def with_process_figures(probe: Probe, uses: tuple[DeviceUse, ...], rss_bytes: int | None) -> Probe:
    """The probe with every breakdown completed to the process's whole on its device."""
    devices = tuple(
        replace(device, breakdown=_outside(device, device.breakdown, uses, rss_bytes))
        if device.breakdown is not None
        else device
        for device in probe.devices
    )
    return replace(probe, devices=devices)


def _outside(
    device: ProbeDevice,
    breakdown: Breakdown,
    uses: tuple[DeviceUse, ...],
    rss_bytes: int | None,
) -> Breakdown:
    if device.device == "cpu":
        return with_process_figure(breakdown, rss_bytes, breakdown.tensor_bytes)
    inside = breakdown.tensor_bytes
    if device.allocator is not None:
        breakdown = with_allocator(breakdown, device.allocator)
        inside = device.allocator.reserved_bytes
    return with_process_figure(breakdown, _driver_figure(device, uses), inside)


def _driver_figure(device: ProbeDevice, uses: tuple[DeviceUse, ...]) -> int | None:
    for use in uses:
        if use.uuid == device.uuid:
            return use.used_bytes
    if device.uuid is None and len(uses) == 1:
        return uses[0].used_bytes
    return None
