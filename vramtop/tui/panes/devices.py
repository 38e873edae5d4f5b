"""Every GPU and MIG instance, or the host, as one segmented bar with its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual.strip import Strip

from ...core.breakdowns import CATEGORY_LABELS, category_label
from ...core.devices import SEGMENT_LABELS, DeviceRow, device_rows, device_segments
from ...core.units import NOT_AVAILABLE, format_bytes, format_percent
from ..frame import Frame
from ..paint import Piece, bar, fit, line, swatch
from .base import Pane, sentences

_LEGEND_FROM_LINES: Final = 30
"""Screens lower than this have no room for a legend; the help screen has one."""
_LINES_WHEN_LOW: Final = 4
"""More devices than this share lines on a low screen."""
_HALF_LINE: Final = 36
_MIN_BAR: Final = 12


class DevicesPane(Pane):
    """Driver's view of the devices."""

    TITLE: ClassVar[str] = "Devices"
    NAME: ClassVar[str] = "devices"
    FITS_ITS_LINES: ClassVar[bool] = True

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """One line a device, then the legend."""
        if frame.fleet.is_waiting:
            return sentences(["reading devices…"], width, frame)
        rows = device_rows(frame.fleet)
        if not rows:
            return sentences(["no device to show"], width, frame)
        segments = [device_segments(frame.fleet, row.mig or row.device) for row in rows]
        name_width = min(max(len(_name(row)) for row in rows), 28 if width >= 110 else 14)
        is_low = self.app.size.height < _LEGEND_FROM_LINES
        if is_low and len(rows) > _LINES_WHEN_LOW and width >= 2 * _HALF_LINE:
            return _paired_lines(frame, rows, segments, width)
        lines = [
            _device_line(frame, row, parts, width, name_width)
            for row, parts in zip(rows, segments, strict=True)
        ]
        if not is_low:
            present = [key for key in SEGMENT_LABELS if any(dict(p).get(key) for p in segments)]
            is_host = all(row.device.backend == "host" for row in rows)
            lines += legend_lines(frame, present, width, "cpu" if is_host else "cuda")
        return lines

    def title_note(self, frame: Frame) -> str:
        """Driver and CUDA version."""
        host = frame.fleet.snapshot.host
        said = []
        if host.driver_version:
            said.append(f"driver {host.driver_version}")
        if host.cuda_driver_version:
            said.append(f"CUDA {host.cuda_driver_version}")
        return " · ".join(said)


def legend_lines(
    frame: Frame, keys: Sequence[str], width: int, torch_device: str = "cuda"
) -> list[Strip]:
    """Marks and names of segments, in as many lines as they need."""
    ink = frame.ink
    lines: list[Strip] = []
    pieces: list[Piece] = []
    used = 0
    for key in keys:
        is_category = key in CATEGORY_LABELS
        label = category_label(key, torch_device) if is_category else SEGMENT_LABELS.get(key, key)
        if pieces and used + len(label) + 5 > width:
            lines.append(line(pieces, width, ink("dim")))
            pieces, used = [], 0
        pieces += [(" ", ink("dim")), swatch(key, ink), (f" {label} ", ink("dim"))]
        used += len(label) + 4
    if pieces:
        lines.append(line(pieces, width, ink("dim")))
    return lines


def _name(row: DeviceRow) -> str:
    name = row.name
    if row.device.unified_memory:
        name += " (unified memory)"  # its figures are the host's RAM
    if row.mig is not None:
        # The instance's profile is what tells it from its siblings; the GPU stands above it.
        return "MIG " + name.partition("MIG ")[2] if "MIG " in name else name
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def _device_line(
    frame: Frame, row: DeviceRow, parts: list[tuple[str, int]], width: int, name_width: int
) -> Strip:
    ink = frame.ink
    is_stale = row.device.stale_s is not None
    tone = "dim" if is_stale or row.mig else "text"
    indent = "└" if row.mig else ""
    left: list[Piece] = [
        (fit(f" {indent}{row.short_name}", 6), ink("dim" if row.mig else "accent", bold=True)),
        (fit(_name(row), name_width) + " ", ink(tone)),
    ]
    right: list[Piece] = [(fit(row.memory_text, 20, right=True), ink(tone))]
    share = None if row.used_share is None else 100 * row.used_share
    right.append((fit(format_percent(share, 0), 5, right=True), ink(tone, bold=not is_stale)))
    room = width - 6 - name_width - 1 - 25 - 2 - _MIN_BAR
    if row.state_text and not row.device.unified_memory:
        right.append((fit(f" {row.state_text}", min(room, 30)), ink("warn")))
        room -= min(room, 30)
    else:
        right += _gauges(frame, row, room)
    bar_width = width - 6 - name_width - 1 - sum(len(text) for text, _ in right) - 1
    return line([*left, *bar(parts, bar_width, ink), *right], width, ink("text"))


def _paired_lines(
    frame: Frame, rows: list[DeviceRow], segments: list[list[tuple[str, int]]], width: int
) -> list[Strip]:
    """Two devices a line, the second half below the first: index, bar, used, share."""
    ink = frame.ink
    halves: list[list[Piece]] = []
    half_width = width // 2
    for row, parts in zip(rows, segments, strict=True):
        is_stale = row.device.stale_s is not None
        tone = "dim" if is_stale or row.mig else "text"
        share = None if row.used_share is None else 100 * row.used_share
        mark = ink("dim" if row.mig else "accent", bold=True)
        used = format_bytes(row.memory.used_bytes) if not is_stale else "lost"
        halves.append(
            [
                (fit(f" {row.short_name}", 5), mark),
                *bar(parts, half_width - 20, ink),
                (fit(used, 9, right=True), ink("warn" if is_stale else tone)),
                (fit(format_percent(share, 0), 5, right=True) + " ", ink(tone)),
            ]
        )
    count = (len(halves) + 1) // 2
    return [
        line(
            [*halves[i], *(halves[i + count] if i + count < len(halves) else [])],
            width,
            ink("text"),
        )
        for i in range(count)
    ]


def _gauges(frame: Frame, row: DeviceRow, room: int) -> list[Piece]:
    """As many of the figures as there is room for, the most asked for first."""
    ink = frame.ink
    said: list[Piece] = []
    busy = "cpu" if row.device.backend == "host" else "busy"
    for text, width in (
        (f"{busy} {row.utilization_text:>4}", 11),
        (row.temperature_text, 6),
        (row.power_text, 11),
        (row.clocks_text, 15),
    ):
        if room < width + 20:  # rather a longer bar than one more figure
            break
        known = "" if text.endswith(NOT_AVAILABLE) else text
        said.append((fit(known, width, right=True), ink("dim")))
        room -= width
    return said
