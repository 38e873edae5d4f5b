"""The last minutes of the selected process as a stacked area under the device's total."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.strip import Strip

from ...core.breakdowns import layers
from ...core.devices import device_places
from ...core.fleet import Fleet
from ...core.forecast import about
from ...core.history import History
from ...core.memory import CATEGORIES
from ...core.model import Process
from ...core.units import format_bytes, format_duration
from ...draw.braille import spark
from ...draw.scale import time_axis
from ...draw.timeline import timeline
from ..frame import Frame
from ..paint import cells, fit, line
from .base import Pane, sentences

_SPANS_S: Final = (60, 120, 300, 600, 1200)
_AXIS: Final = 9


class TimelinePane(Pane):
    """Training's view over time."""

    TITLE: ClassVar[str] = "Timeline"
    SHORT: ClassVar[str] = "Time"
    NAME: ClassVar[str] = "timeline"

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """The area with a scale at the left and a time axis below."""
        process, device = frame.process, frame.torch_device
        if process is None:
            return []
        if device is None:
            return _device_line(frame, process, width, height)
        history = frame.fleet.histories.get((process.key, device), History())
        now = frame.fleet.snapshot.taken_at
        span_s = _span_s(history, now)
        plot_width, plot_height = width - _AXIS - 1, height - 1
        if plot_width < 8 or plot_height < 2:
            return sentences(["no room for a picture"], width, frame)
        columns = [layers(point) for point in history.columns(plot_width, now, span_s)]
        ink = frame.ink
        rows = timeline(columns, plot_height, _total_bytes(frame), mono=ink.mono)
        lines = [
            line(
                [
                    (fit(row.label, _AXIS - 1, right=True), ink("dim")),
                    ("┤" if row.label else "│", ink("rule")),
                    *cells(row.cells, CATEGORIES, ink),
                ],
                width,
                ink("text"),
            )
            for row in rows
        ]
        axis = " " * _AXIS + time_axis(span_s, plot_width)
        lines.append(line([(axis, ink("dim"))], width, ink("dim")))
        return lines

    def title_note(self, frame: Frame) -> str:
        """The device's total, which is the ceiling, and when or since when it is of no use."""
        process, device = frame.process, frame.torch_device
        if process is None or device is None:
            return ""
        total = _total_bytes(frame)
        said = [] if total is None else [f"device {format_bytes(total)}"]
        forecast = frame.fleet.forecasts.get((process.key, device))
        if forecast is not None:
            doubt = ", low confidence" * (forecast.confidence == "low")
            said.insert(0, f"▲ OOM in {about(forecast.oom_in_s)}{doubt}")
        probe = process.probe
        if probe.state != "streaming" and probe.at is not None:
            age_s = max(frame.fleet.snapshot.taken_at - probe.at, 0.0)
            said.insert(0, f"probe {probe.state} {format_duration(age_s)}")
        return " · ".join(said)

    def move(self, to: str) -> None:
        """Left and right change the torch device."""
        if to in {"left", "right"}:
            self.post_message(self.DeviceTurned(1 if to == "right" else -1))


def _device_line(frame: Frame, process: Process, width: int, height: int) -> list[Strip]:
    """Without a probe: how full the process's first device was at the last readings."""
    uuid = process.devices[0].uuid if process.devices else ""
    values = [used for _, used in frame.fleet.device_used.get(uuid, ())]
    place = device_places(frame.fleet.snapshot.devices).get(uuid)
    total = _totals(frame.fleet).get(uuid)
    if place is None or not total or height < 3:
        return sentences(["no device is known of this process"], width, frame)
    ink = frame.ink
    name = "the host" if place[0] == "host" else f"GPU {place[0]}"
    said = sentences([f"used by all processes on {name}, of {format_bytes(total)}"], width, frame)
    drawn = spark(values, width - 2, height - len(said), 0, total)
    return [*said, *(line([(f" {text}", ink("accent"))], width, ink("text")) for text in drawn)]


def _span_s(history: History, now: float) -> int:
    """The span that what there is fills best; a little of the oldest may be left out."""
    oldest = next(iter(history), None)
    age_s = 0.0 if oldest is None else now - oldest.at
    return next((span for span in _SPANS_S if age_s <= 1.5 * span), _SPANS_S[-1])


def _total_bytes(frame: Frame) -> int | None:
    """The total of the device or MIG instance that the torch device is."""
    if frame.torch_device == "cpu":
        return frame.fleet.snapshot.host.ram_total_bytes
    return frame.device_memory.total_bytes if frame.device_memory else None


def _totals(fleet: Fleet) -> dict[str, int | None]:
    """Totals of devices and MIG instances by uuid."""
    totals: dict[str, int | None] = {}
    for device in fleet.snapshot.devices:
        totals[device.uuid] = device.memory.total_bytes
        totals.update((mig.uuid, mig.memory.total_bytes) for mig in device.mig)
    return totals
