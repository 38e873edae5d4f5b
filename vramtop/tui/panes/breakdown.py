"""What the selected process's memory is for: a bar and a table by category."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual.strip import Strip

from ...core.breakdowns import BreakdownRow, breakdown_of, breakdown_rows, torch_devices
from ...core.history import total_bytes
from ...core.model import Process
from ...core.units import NOT_AVAILABLE, format_bytes, format_delta, format_percent, format_rate
from ..frame import Frame
from ..paint import Piece, bar, fit, line, swatch
from .base import Pane, sentences

_CHANGE_FROM_WIDTH = 46


class BreakdownPane(Pane):
    """Training's view of one process on one torch device."""

    TITLE: ClassVar[str] = "Breakdown"
    NAME: ClassVar[str] = "breakdown"

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """The bar, the categories, their sum, and what the training is."""
        process = frame.process
        if process is None:
            return sentences(["no process selected"], width, frame)
        if frame.torch_device is None:
            return sentences(why_no_breakdown(process), width, frame)
        rows = breakdown_rows(frame.fleet, process, frame.torch_device)
        ink = frame.ink
        parts = [(row.category, float(row.size_bytes or 0)) for row in rows]
        inset: Piece = (" ", ink("text"))
        lines = [line([inset, *bar(parts, width - 2, ink)], width, ink("text"))]
        if height >= 10:
            lines.append(_heads(frame, width))
        lines += [_row_line(frame, row, width) for row in rows]
        lines.append(_sum_line(frame, process, rows, width))
        facts = training_facts(process)
        if len(lines) + 1 < height and facts:
            lines.append(line([], width, ink("text")))
            lines += sentences(facts, width, frame)[: height - len(lines)]
        return lines

    def title_note(self, frame: Frame) -> str:
        """Which process and device."""
        process = frame.process
        if process is None:
            return ""
        names = torch_devices(process)
        if frame.torch_device is None:
            return str(process.pid)
        many = f" {names.index(frame.torch_device) + 1}/{len(names)}" if len(names) > 1 else ""
        return f"{process.pid} {frame.torch_device}{many}"

    def move(self, to: str) -> None:
        """Left and right change the torch device."""
        if to in {"left", "right"}:
            self.post_message(self.DeviceTurned(1 if to == "right" else -1))
        else:
            super().move(to)


def why_no_breakdown(process: Process) -> list[str]:
    """What to do so that this process can be explained."""
    probe = process.probe
    if process.state == "gone":
        return ["the process has ended"]
    if probe.state == "none":
        return [
            "no probe: start it with `vramtop run -- …` or add vramtop.watch(model, optimizer)",
            "The driver's and the host's figures need none; enter shows them.",
        ]
    said = ["the probe is there and waits for the first training step"]
    return [*said, probe.problem] if probe.problem else said


def training_facts(process: Process) -> list[str]:
    """Model, optimizer and speed, one a line."""
    probe = process.probe
    facts = []
    for model in probe.models:
        trained = model.trainable_parameters
        part = "" if trained == model.parameters else f", {_count(trained)} trained"
        facts.append(f"{model.class_name}: {_count(model.parameters)} parameters{part}")
    facts += [f"{optimizer.class_name}" for optimizer in probe.optimizers]
    if probe.step is not None:
        speed = "" if probe.steps_per_s is None else f" at {format_rate(probe.steps_per_s)}"
        facts.append(f"step {probe.step}{speed}")
    if probe.torch:
        facts.append(f"torch {probe.torch}" + (f", CUDA {probe.cuda}" if probe.cuda else ""))
    if probe.overhead_percent is not None:
        facts.append(f"the probe costs {format_percent(probe.overhead_percent, 2)} of a step")
    if probe.problem:
        facts.append(probe.problem)
    return facts


def _count(number: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _table_line(
    frame: Frame, mark: list[Piece], texts: tuple[str, ...], width: int, tones: tuple[str, ...]
) -> Strip:
    """Label, bytes, share and, where there is room, change; aligned for every kind of line."""
    ink = frame.ink
    with_change = width >= _CHANGE_FROM_WIDTH
    sizes = (9, 7, 11) if with_change else (9, 7)
    # A label further than this from its number is hard to follow.
    label_width = min(width - 4 - sum(sizes), 24)
    pieces = [*mark, (fit(texts[0], label_width), ink(tones[0]))]
    pieces += [
        (fit(text, size, right=True), ink(tone))
        for text, size, tone in zip(texts[1:], sizes, tones[1:], strict=False)
    ]
    return line(pieces, width, ink("text"))


def _heads(frame: Frame, width: int) -> Strip:
    blank: list[Piece] = [("   ", frame.ink("dim"))]
    return _table_line(frame, blank, ("", "BYTES", "SHARE", "CHANGE"), width, ("dim",) * 4)


def _row_line(frame: Frame, row: BreakdownRow, width: int) -> Strip:
    ink = frame.ink
    label, size, share, change = row.texts
    if row.size_bytes is None:
        size, share, change = "–", "", ""  # the CPU has no allocator: nothing is missing
    tone = "text" if row.size_bytes else "dim"
    mark: list[Piece] = [(" ", ink("text")), swatch(row.category, ink), (" ", ink("text"))]
    moved = "dim" if not row.change_bytes else "text"
    return _table_line(
        frame, mark, (label, size, share, change), width, ("text", tone, tone, moved)
    )


def _sum_line(frame: Frame, process: Process, rows: list[BreakdownRow], width: int) -> Strip:
    ink = frame.ink
    device = frame.torch_device or ""
    breakdown = breakdown_of(process, device)
    whole = breakdown.process_bytes if breakdown else None
    label = "process" if whole is not None else "reserved"
    if whole is None and breakdown is not None:
        whole = total_bytes(breakdown)
    changes = [row.change_bytes for row in rows if row.change_bytes is not None]
    change = format_delta(sum(changes)) if changes else NOT_AVAILABLE
    blank: list[Piece] = [("   ", ink("dim"))]
    texts = (label, format_bytes(whole), "", change)
    assert cell_len(label)
    return _table_line(frame, blank, texts, width, ("dim", "accent", "dim", "dim"))
