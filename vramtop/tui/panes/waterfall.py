"""The phases of the last sampled step: what each began with, ended with, and its peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual.strip import Strip

from ...core.memory import TENSOR_CATEGORIES
from ...core.phases import (
    PhaseRow,
    StageRow,
    ceiling_bytes,
    peak_sentence,
    phase_rows,
    stage_rows,
)
from ...core.units import format_duration
from ...draw.spans import span_bar
from ..frame import Frame
from ..paint import Piece, fit, line, styled
from ..words import why_no_breakdown, why_no_detail
from .base import Pane, sentences
from .devices import legend_lines

_HEADS: Final = ("BEFORE", "CHANGE", "AFTER", "PEAK")
_SIZES: Final = (0, 9, 10, 9, 9)
_KEPT_FIRST: Final = (4, 2, 3, 1)
"""Columns in the order in which narrow panes keep them."""
_NAME: Final = (17, 26)
_MIN_BAR: Final = 12
_MAX_DEPTH: Final = 5
_AGE_BELOW_TITLE: Final = range(76, 100)
"""Widths at which a title line with the titles of other panes has room for the step only."""


class WaterfallPane(Pane):
    """A step of the selected process on one torch device, phase by phase."""

    TITLE: ClassVar[str] = "Waterfall"
    SHORT: ClassVar[str] = "Water"
    NAME: ClassVar[str] = "waterfall"

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """A row a phase, then where the peak was, then the user's own stages."""
        process, part, detail = frame.process, frame.part, frame.detail
        if process is None:
            return sentences(["no process selected"], width, frame)
        if part is None:
            return sentences(why_no_breakdown(process, frame.view), width, frame)
        phases = phase_rows(detail) if detail else []
        stages = stage_rows(part.stages)
        ceiling = ceiling_bytes(detail) if detail else 0
        most = [max(s.before_bytes, s.after_bytes, s.peak_bytes or 0) for s in part.stages]
        stages_top = max([0, *most])
        # On the CPU a stage's bytes are resident memory, which says nothing of a phase's tensors.
        is_other = part.device == "cpu"
        top = ceiling if is_other else max(ceiling, stages_top)
        lines = [_phase_line(frame, row, width, top, ceiling) for row in phases]
        if detail is None:
            lines += sentences(why_no_detail(process), width, frame)
        elif detail.peak:
            lines += sentences([peak_sentence(detail.peak)], width, frame)
        if stages:
            own = "your stages, each as it last ran" + (", in resident memory" * is_other)
            lines.append(line([(f" {own}", frame.ink("dim"))], width, frame.ink("dim")))
            stages_top = stages_top if is_other else top
            lines += [_stage_line(frame, row, width, stages_top) for row in stages]
        legend = legend_lines(frame, _present(phases), width)
        return lines + legend if len(lines) + len(legend) < height else lines

    def heads(self, frame: Frame, width: int) -> list[Strip]:
        """Names of the columns."""
        if frame.part is None or not (frame.detail or frame.part.stages):
            return []
        age = _age(frame) if self._age_is_below else ""
        return [_line(frame, (age, *_HEADS), width, "dim", [])]

    def title_note(self, frame: Frame) -> str:
        """Which step it was, and how long ago."""
        detail = frame.detail
        if detail is None:
            return frame.place_text
        told = [] if detail.step is None else [f"step {detail.step}"]
        if not self._age_is_below:
            told.append(_age(frame))
        return ", ".join(told)

    @property
    def _age_is_below(self) -> bool:
        return bool(self.sharing) and self.size.width in _AGE_BELOW_TITLE

    def move(self, to: str) -> None:
        """Left and right change the torch device."""
        if to in {"left", "right"}:
            self.post_message(self.DeviceTurned(1 if to == "right" else -1))
        else:
            super().move(to)


def _age(frame: Frame) -> str:
    """How long ago the step was."""
    if frame.detail is None:
        return ""
    age_s = max(frame.fleet.snapshot.taken_at - frame.detail.at, 0.0)
    return f"{format_duration(age_s)} ago"


def _present(rows: Sequence[PhaseRow]) -> list[str]:
    """The categories in the bars."""
    held = [row.phase.after for row in rows if row.phase and row.phase.after]
    return [key for key in TENSOR_CATEGORIES if any(after.bytes_of(key) for after in held)]


def _columns(width: int) -> list[int]:
    """The columns that fit beside a name and a bar, in the order in which they stand."""
    room = width - 2 - _NAME[0] - _MIN_BAR
    kept = []
    for column in _KEPT_FIRST:
        if room < _SIZES[column]:
            break
        room -= _SIZES[column]
        kept.append(column)
    return sorted(kept)


def _line(
    frame: Frame,
    texts: tuple[str, ...],
    width: int,
    tone: str,
    drawn: list[Piece],
    tones: dict[int, str] | None = None,
) -> Strip:
    ink = frame.ink
    columns = _columns(width)
    pieces: list[Piece] = [(" ", ink(tone)), (fit(texts[0], _name_width(width)), ink(tone))]
    for column in columns:
        text = fit(texts[column], _SIZES[column], right=True)
        pieces.append((text, ink((tones or {}).get(column, tone))))
    return line([*pieces, (" ", ink("text")), *drawn], width, ink("text"))


def _name_width(width: int) -> int:
    spare = width - 2 - _NAME[0] - _MIN_BAR - sum(_SIZES[column] for column in _columns(width))
    return min(_NAME[0] + max(spare, 0) // 3, _NAME[1])


def _bar_width(width: int) -> int:
    return width - 3 - _name_width(width) - sum(_SIZES[column] for column in _columns(width))


def _phase_line(frame: Frame, row: PhaseRow, width: int, top: int, ceiling: int) -> Strip:
    ink = frame.ink
    held = row.phase.after if row.phase else None
    parts: list[tuple[str, float]] | int = row.after_bytes
    if held is not None:
        parts = [(key, float(held.bytes_of(key) or 0)) for key in TENSOR_CATEGORIES]
    runs = span_bar(parts, _bar_width(width), top, row.peak_bytes, ceiling, mono=ink.mono)
    tones = {1: "dim", 4: "warn" if row.is_largest else "text"}
    if not row.change_bytes:
        tones[2] = "dim"
    tone = "text" if row.phase else "dim"
    return _line(frame, row.texts, width, tone, styled(runs, ink), tones)


def _stage_line(frame: Frame, row: StageRow, width: int, top: int) -> Strip:
    ink, stage = frame.ink, row.stage
    width_left = _bar_width(width)
    runs = span_bar(stage.after_bytes, width_left, top, stage.peak_bytes, mono=ink.mono)
    label = "  " * min(row.depth, _MAX_DEPTH) + row.label
    texts = (label, *row.texts[1:])
    return _line(frame, texts, width, "text", styled(runs, ink), {1: "dim"})
